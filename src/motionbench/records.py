"""What MLflow is to hold of a stage's run, as a function of the stage's files; and what it could not be told yet."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from motionbench.errors import UserError
from motionbench.files import file_md5s, path_md5, read_json, replaced_whole, replicate_path, repository_root
from motionbench.params import read_yaml

REGISTERED = "motionbench"
"""The name under which MLflow's registry has the champions."""
TIMED = ("metrics/timing", "reports/comparison")
"""Outputs with what was measured with a clock, and where: all others are the same in every run."""


class Part(BaseModel):
    """A piece of a record."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Dataset(Part):
    """A split that a stage wrote or read."""

    name: str
    md5: str
    shape: tuple[int, ...]


class Model(Part):
    """A model's file, and what it takes and gives."""

    name: str
    path: Path
    md5: str
    clip_shape: tuple[int, ...]
    """Frames, height, width, channels."""
    class_names: tuple[str, ...]
    loader: str
    """The module by which MLflow is to load it."""
    best: bool
    """Whether it is the replicate to register."""


class Replicate(Part):
    """A training of a model from one seed: a run below its stage's."""

    model_name: str
    seed: int
    params: dict[str, str]
    metrics: dict[str, float] = {}
    curves: list[dict[str, float]] = []
    """An item an epoch: its number, `epoch`, and its measures."""
    logged_at: dict[int, int] = {}
    """Of epochs that were offered to MLflow while they went by, the time in milliseconds."""
    model: Model | None = None

    @property
    def name(self) -> str:
        """Tell it from the stage's other replicates."""
        return f"train_{self.model_name} seed {self.seed}"


class Record(Part):
    """Everything that MLflow is to hold of a stage's run."""

    stage: str
    params: dict[str, str]
    tags: dict[str, str] = {}
    id: str = ""
    """Of the run of the stage, if that was seen; a record made from files that came from elsewhere has none."""
    started: int = 0
    """Milliseconds since 1970."""
    content: str = ""
    """md5 over stage, parameters and outputs without timings: what makes two records the same."""
    metrics: dict[str, float] = {}
    datasets: list[Dataset] = []
    artifacts: list[Path] = []
    replicates: list[Replicate] = []
    champion: Model | None = None
    folder: Path = Field(default=Path(), exclude=True)
    """To which `artifacts` and the models' paths are relative."""


class StagePaths(NamedTuple):
    """What a stage reads and writes, as dvc.yaml lists it."""

    deps: list[str]
    outs: list[str]


def stage_names() -> list[str]:
    """Return the stages of dvc.yaml, in their order."""
    return list(read_yaml(Path("dvc.yaml"))["stages"])


def stage_paths(stage: str) -> StagePaths:
    """Return the deps and outs of a stage."""
    declared = read_yaml(Path("dvc.yaml"))["stages"][stage]
    return StagePaths(declared["deps"], [out if isinstance(out, str) else next(iter(out)) for out in declared["outs"]])


def is_timed(out: str) -> bool:
    """Tell whether an output holds what was measured with a clock."""
    return out.startswith(TIMED)


def as_text(params: Mapping[str, Any]) -> dict[str, str]:
    """Return parameters as MLflow is to hold them, whether they come from params.yaml or from dvc.lock."""
    return {key: str(tuple(value) if isinstance(value, list) else value) for key, value in params.items()}


def describe(stage: str, params: Mapping[str, Any], loader: str = "") -> Record:
    """Return the record of a stage whose outputs lie here and were made with `params`.

    Args:
        loader: the module by which MLflow is to load the stage's models.

    Raises:
        UserError: if a file is missing or damaged.
    """
    deps, outs = stage_paths(stage)
    flat = as_text(params)
    try:
        md5s = {out: path_md5(Path(out)) for out in outs}
        files = {file: md5 for out in outs for file, md5 in file_md5s(Path(out)).items()}
        splits = [Path(path) for path in (*deps, *outs) if path.startswith("data/")]
        datasets = [
            Dataset(
                name=split.name,
                md5=md5s.get(split.as_posix()) or path_md5(split),
                shape=np.load(split / "clips.npy", mmap_mode="r").shape,
            )
            for split in splits
        ]
        summaries = [
            Path(out) if out.endswith(".json") else Path(out, "summary.json")
            for out in outs
            if out.startswith("metrics/")
        ]
        model = {
            "clip_shape": datasets[0].shape[1:],
            "class_names": read_json(splits[0] / "class_names.json"),
            "loader": loader,
        }
        trained = [Path(out) for out in outs if out.startswith("models/")]
        replicates = [replicate for models in trained for replicate in _replicates(models, flat, files, model)]
        return Record(
            stage=stage,
            params=flat,
            content=content_md5(stage, params, md5s),
            tags={
                **{f"data.md5.{dataset.name}": dataset.md5 for dataset in datasets},
                **{f"md5.{path}": md5 for path, md5 in {**md5s, **files}.items()},
                **_environment(outs),
            },
            metrics={
                key: value
                for file in summaries
                for key, value in _numbers(read_json(file), f"{_model_of(file)}." if len(trained) > 1 else "")
            },
            datasets=datasets,
            artifacts=[Path(out) for out in outs if out.startswith(("metrics/", "reports/"))],
            replicates=replicates,
            champion=_champion(outs, model),
        )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{stage}: an output is not readable ({error}); make them again: dvc repro --force {stage}"
        ) from error


def content_md5(stage: str, params: Mapping[str, Any], md5s: Mapping[str, str]) -> str:
    """Return the md5 over a stage, its parameters and its outputs, timings left out."""
    # A whole number may have become a float on its way through params.yaml.
    numbers = {key: float(value) if type(value) is int else value for key, value in params.items()}
    content = [stage, numbers, {out: md5 for out, md5 in md5s.items() if not is_timed(out)}]
    return hashlib.md5(json.dumps(content, sort_keys=True).encode(), usedforsecurity=False).hexdigest()


def _replicates(
    models: Path,
    params: dict[str, str],
    md5s: Mapping[str, str],
    model: Mapping[str, Any],
) -> Iterator[Replicate]:
    name = models.name
    history = pd.read_csv(f"metrics/{name}/history.csv")
    kept = pd.read_csv(f"metrics/{name}/replicates.csv")
    seconds = read_json(Path(f"metrics/timing/{name}.json"))["replicate_seconds"]
    best = kept["validation_loss"].idxmin()
    for index, row in kept.iterrows():
        seed = int(row["seed"])
        path = replicate_path(models, seed)
        yield Replicate(
            model_name=name,
            seed=seed,
            params={**params, "seed": str(seed)},
            metrics={
                **{f"best_{key}": value for key, value in row.items() if key != "seed"},
                "training_seconds": seconds[kept.index.get_loc(index)],
            },
            curves=history[history["seed"] == seed].drop(columns="seed").to_dict("records"),
            model=Model(name=name, path=path, md5=md5s[path.as_posix()], best=index == best, **model),
        )


def _model_of(summary: Path) -> str:
    return summary.stem if summary.parent.name == "timing" else summary.parent.name


def _champion(outs: list[str], model: Mapping[str, Any]) -> Model | None:
    """Return the model that `compare` chose, if these are its outputs and it chose one."""
    chosen = [read_json(Path(out)).get("champion") for out in outs if out.startswith("metrics/timing/")]
    if not chosen or not chosen[0]:
        return None
    path = Path(chosen[0])
    return Model(name=REGISTERED, path=path, md5=path_md5(path), best=True, **model)


def _numbers(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int | float):
            yield f"{prefix}{key}", value


def _environment(outs: list[str]) -> dict[str, str]:
    timed = [read_json(Path(out)) for out in outs if out.startswith("metrics/timing/")]
    return {"environment": ", ".join(timed[0]["environment"])} if timed else {}


def keep(record: Record) -> None:
    """Keep a record with its files for `undelivered`."""
    with replaced_whole(_kept() / f"{record.stage}-{record.id}") as (folder,):
        models = [*(each.model for each in record.replicates), record.champion]
        for path in (*record.artifacts, *(model.path for model in models if model)):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (record.folder / path).is_dir() else shutil.copyfile
            copy(record.folder / path, folder / path)
        (folder / "record.json").write_text(record.model_dump_json(indent=2), encoding="utf-8")


def undelivered() -> Iterator[Record]:
    """Yield the records that were kept, in the order of their starts; each is forgotten once it was dealt with."""
    kept = [
        Record.model_validate_json(file.read_text(encoding="utf-8")).model_copy(update={"folder": file.parent})
        for file in _kept().glob("[!.]*/record.json")
    ]
    for record in sorted(kept, key=lambda record: record.started):
        yield record
        shutil.rmtree(record.folder)


def _kept() -> Path:
    return repository_root() / "mlruns" / "undelivered"
