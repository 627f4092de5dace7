"""What MLflow is to hold of a stage's run, as a function of the stage's files; and what it could not be told yet."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from motionbench.core.dvc_files import is_wall_clock, read_stages
from motionbench.core.errors import UserError
from motionbench.core.files import file_md5s, path_md5, read_json
from motionbench.core.paths import COMPARISON_TIMING, DATA, TRAINING_TIMING, replicate_path, training_paths

REGISTERED = "motionbench"
"""The name under which MLflow's registry has the champions."""


class Part(BaseModel):
    """A piece of a record."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DatasetRecord(Part):
    """A split that a stage wrote or read."""

    name: str
    md5: str
    shape: tuple[int, ...]


class ModelRecord(Part):
    """A model's file, and what it takes and gives."""

    name: str
    path: Path
    md5: str
    clip_shape: tuple[int, ...]
    """Frames, height, width, channels."""
    class_names: tuple[str, ...]
    best: bool
    """Whether it is the replicate to register."""


class ReplicateRecord(Part):
    """A training of a model from one seed: a run below its stage's."""

    model_name: str
    seed: int
    params: dict[str, str]
    metrics: dict[str, float] = {}
    curves: list[dict[str, float]] = []
    """An item an epoch: its number, `epoch`, and its measures."""
    logged_at: dict[int, int] = {}
    """Of epochs that were offered to MLflow while they went by, the time in milliseconds."""
    model: ModelRecord | None = None

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
    datasets: list[DatasetRecord] = []
    artifacts: list[Path] = []
    replicates: list[ReplicateRecord] = []
    champion: ModelRecord | None = None
    folder: Path = Field(default=Path(), exclude=True)
    """To which `artifacts` and the models' paths are relative."""


def as_text(params: Mapping[str, Any]) -> dict[str, str]:
    """Return parameters as MLflow is to hold them, whether they come from params.yaml or from dvc.lock."""
    return {key: str(tuple(value) if isinstance(value, list) else value) for key, value in params.items()}


def build_record(stage: str, params: Mapping[str, Any]) -> Record:
    """Return the record of a stage whose outputs lie here and were made with `params`.

    Raises:
        UserError: if a file is missing or damaged.
    """
    declared = read_stages()[stage]
    deps, outs = declared.deps, declared.outs
    flat = as_text(params)
    try:
        md5s = {out: path_md5(Path(out)) for out in outs}
        files = {file: md5 for out in outs for file, md5 in file_md5s(Path(out)).items()}
        splits = [Path(path) for path in (*deps, *outs) if Path(path).is_relative_to(DATA)]
        datasets = [
            DatasetRecord(
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
        }
        trained = declared.model_names()
        replicates = [replicate for name in trained for replicate in _replicates(name, flat, files, model)]
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
    content = [stage, numbers, {out: md5 for out, md5 in md5s.items() if not is_wall_clock(out)}]
    return hashlib.md5(json.dumps(content, sort_keys=True).encode(), usedforsecurity=False).hexdigest()


def _replicates(
    name: str,
    params: dict[str, str],
    md5s: Mapping[str, str],
    model: Mapping[str, Any],
) -> Iterator[ReplicateRecord]:
    models, metrics, timing = training_paths(name)
    history = pd.read_csv(metrics / "history.csv")
    kept = pd.read_csv(metrics / "replicates.csv")
    seconds = read_json(timing)["replicate_seconds"]
    best = kept["validation_loss"].idxmin()
    for index, row in kept.iterrows():
        seed = int(row["seed"])
        path = replicate_path(models, seed)
        yield ReplicateRecord(
            model_name=name,
            seed=seed,
            params={**params, "seed": str(seed)},
            metrics={
                **{f"best_{key}": value for key, value in row.items() if key != "seed"},
                "training_seconds": seconds[kept.index.get_loc(index)],
            },
            curves=history[history["seed"] == seed].drop(columns="seed").to_dict("records"),
            model=ModelRecord(name=name, path=path, md5=md5s[path.as_posix()], best=index == best, **model),
        )


def _model_of(summary: Path) -> str:
    return summary.stem if summary.parent == TRAINING_TIMING else summary.parent.name


def _champion(outs: list[str], model: Mapping[str, Any]) -> ModelRecord | None:
    """Return the model that `compare` chose, if these are its outputs and it chose one."""
    chosen = read_json(COMPARISON_TIMING)["champion"] if str(COMPARISON_TIMING) in outs else None
    if chosen is None:
        return None
    path = Path(chosen)
    return ModelRecord(name=REGISTERED, path=path, md5=path_md5(path), best=True, **model)


def _numbers(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in content.items():
        if key == "section":
            continue  # The run has its parameters already.
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int | float):
            yield f"{prefix}{key}", value


def _environment(outs: list[str]) -> dict[str, str]:
    timed = [read_json(Path(out)) for out in outs if out.endswith(".json") and is_wall_clock(out)]
    return {"environment": ", ".join(timed[0]["environment"])} if timed else {}
