"""Records of runs made again from files."""

from pathlib import Path

from motionbench.core.dvc_files import StageLock
from motionbench.core.errors import UserError
from motionbench.core.files import path_md5
from motionbench.provenance.history import commit_of
from motionbench.tracking.record import Record, build_record


def restored_record(entry: StageLock) -> Record:
    """Return the record of the run that made the outputs which lie here and which dvc.lock knows.

    Raises:
        UserError: if an output, or a split that the stage read, is missing or another than dvc.lock's.
    """
    for path, md5 in {**entry.outs, **entry.data()}.items():
        if not Path(path).exists():
            raise UserError(f"{path} is missing; bring it: dvc pull, or dvc repro")
        if path_md5(Path(path)) != md5:
            raise UserError(f"{path} is another than dvc.lock's; make them agree: dvc repro, or dvc checkout")
    record = build_record(entry.stage, entry.params)
    tags = {
        "mlflow.source.git.commit": commit_of(entry) or "unknown",
        "dvc.stage": entry.stage,
        "restored": "from files",
    }
    return record.model_copy(update={"tags": {**record.tags, **tags}})
