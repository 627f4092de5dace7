"""Records that wait until MLflow's store is available."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from motionbench.core.files import atomic_outputs
from motionbench.core.paths import MLFLOW_ARTIFACTS, repository_root
from motionbench.tracking.record import Record


def spool(record: Record) -> None:
    """Keep a record with its files until the store is available."""
    with atomic_outputs(_folder() / f"{record.stage}-{record.id}") as (folder,):
        models = [*(each.model for each in record.replicates), record.champion]
        for path in (*record.artifacts, *(model.path for model in models if model)):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (record.folder / path).is_dir() else shutil.copyfile
            copy(record.folder / path, folder / path)
        (folder / "record.json").write_text(record.model_dump_json(indent=2), encoding="utf-8")


def pending() -> Iterator[Record]:
    """Yield the spooled records, in the order of their starts; each is removed once the caller asks for the next."""
    records = [
        Record.model_validate_json(file.read_text(encoding="utf-8")).model_copy(update={"folder": file.parent})
        for file in _folder().glob("[!.]*/record.json")
    ]
    for record in sorted(records, key=lambda record: record.started):
        yield record
        shutil.rmtree(record.folder)


def _folder() -> Path:
    return repository_root() / MLFLOW_ARTIFACTS / "pending"
