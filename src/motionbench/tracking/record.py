"""Records: all that MLflow's store should have of a stage's run, built from the stage's files.

Records that the store missed are spooled: kept with their files until it is available.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from motionbench.core import paths
from motionbench.core.dvc_files import StageLock, flatten, is_result, is_wall_clock, read_stages, run_again
from motionbench.core.errors import UserError, one_line
from motionbench.core.files import atomic_outputs, file_md5, file_md5s, path_md5, read_json
from motionbench.core.inputs import check_recorded
from motionbench.core.paths import ReplicateKey
from motionbench.data.splits import part_folders, read_dataset_info, read_split
from motionbench.models.registry import BackboneParams, reads_features
from motionbench.training.results import read_training, replicate_key

REGISTERED = "motionbench"  # name of the registered model whose versions are the champions


class DatasetRecord(BaseModel, frozen=True, extra="forbid"):
    """A split, or a part of folds, that a stage wrote or read."""

    name: str
    md5: str
    shape: tuple[int, ...]


class ModelRecord(BaseModel, frozen=True, extra="forbid"):
    """A model's file, and the shapes and classes that its signature is made of."""

    name: str
    path: Path
    md5: str
    clip_shape: tuple[int, ...]  # frames, height, width, channels
    class_names: tuple[str, ...]
    resize: str = "pad"  # how a video of another shape becomes a clip
    seconds: float = 0.0  # the median duration of a clip
    backbone: Path | None = None  # of a model that reads features: the archive that makes them,
    backbone_md5: str | None = None
    side: int = 0  # and the side of the frames that it sees
    best: bool  # whether to register it: the best replicate
    facts: dict[str, str] = {}  # for the registered version: model, source, and md5s of the clips of a champion


class RunRecord(BaseModel, frozen=True, extra="forbid"):
    """What a stage's files say of its run, or of the child run of a replicate."""

    name: str
    params: dict[str, str]
    tags: dict[str, str] = {}
    metrics: dict[str, float] = {}
    curves: list[dict[str, float]] = []  # one item per epoch: its number, `epoch`, and its metrics
    model: ModelRecord | None = None  # of a replicate, or the champion that a comparison chose


class Record(RunRecord, frozen=True, extra="forbid"):
    """All that MLflow's store should have of a stage's run, which has the stage's name, and its child runs."""

    id: str = ""  # set by the process that ran the stage; empty in a record that was restored from files
    started: int = 0  # milliseconds since 1970
    content: str = ""  # md5 of stage, parameters and results: equal for two runs with the same result
    datasets: list[DatasetRecord] = []
    artifacts: list[Path] = []
    replicates: list[RunRecord] = []
    folder: Path = Field(default=Path(), exclude=True)  # `artifacts` and the models' paths are relative to it

    def identity(self) -> dict[str, str]:
        """Return the tags by which the store finds the run again."""
        return {key: value for key, value in (("record.id", self.id), ("record.content", self.content)) if value}

    def commit_and_start(self) -> dict[str, str]:
        """Return them as tags; texts of `started` sort in the order of time, and a restored record has none."""
        started = datetime.fromtimestamp(self.started / 1000, UTC).isoformat(timespec="milliseconds")
        known = {"commit": "mlflow.source.git.commit", "git.dirty": "git.dirty"}
        return {
            **{key: self.tags[tag] for key, tag in known.items() if tag in self.tags},
            **({"started": started} if self.started else {}),
        }


def as_text(params: Mapping[str, Any]) -> dict[str, str]:
    """Return parameters as MLflow stores them, the same from params.yaml and from dvc.lock."""
    return {key: str(tuple(value) if isinstance(value, list) else value) for key, value in params.items()}


def build_record(stage: str, params: Mapping[str, Any]) -> Record:
    """Return the record of a stage whose outputs are here and were made with `params`.

    Raises:
        UserError: if a file is missing or damaged.
    """
    declared = read_stages()[stage]
    deps, outs, trained = declared.deps, declared.outs, declared.model_names()
    try:
        md5s = {out: path_md5(Path(out)) for out in outs}
        files = {file: md5 for out in outs for file, md5 in file_md5s(Path(out)).items()}
        clips = [Path(path) for path in (*deps, *outs) if Path(path) in paths.CLIPS]
        parts = [part for folder in clips for part in part_folders(folder)]
        datasets = [
            DatasetRecord(
                name=part.relative_to(paths.DATA).as_posix(),
                md5=md5s.get(part.as_posix()) or path_md5(part),
                shape=read_split(part).clips.shape,
            )
            for part in parts
        ]
        source = read_dataset_info()
        model: dict[str, Any] = {
            "clip_shape": datasets[0].shape[1:],
            "class_names": read_split(parts[0]).class_names,
            **source.model_dump(include={"resize", "seconds"}),
        }
        timings = [Path(file) for file in files if file.endswith(".json") and is_wall_clock(file)]
        summaries = [*(Path(file) for file in files if file.endswith("/summary.json")), *timings]
        environment = {"environment": ", ".join(read_json(timings[0])["environment"])} if timings else {}
        compared = str(paths.COMPARISON_TIMING) in outs
        description, champion = _comparison(model, source.source) if compared else ({}, None)
        return Record(
            name=stage,
            params=as_text(params),
            content=content_md5(stage, params, {**md5s, **{dataset.name: dataset.md5 for dataset in datasets}}),
            tags={
                **{f"data.md5.{dataset.name}": dataset.md5 for dataset in datasets},
                **{f"md5.{out}": md5 for out, md5 in md5s.items()},
                **_file_tags(files.keys() - md5s.keys(), files),
                **environment,
                **description,
            },
            metrics={
                f"{file.stem if file in timings else file.parent.name}.{key}" if len(trained) > 1 else key: value
                for file in summaries
                for key, value in flatten(read_json(file)).items()
                if isinstance(value, int | float) and not key.startswith("section.")  # which repeats the parameters
            },
            datasets=datasets,
            artifacts=[Path(out) for out in outs if out.startswith(("metrics/", "reports/", str(paths.PREDICTIONS)))],
            replicates=[each for name in trained for each in _replicates(name, params, files, model, source.source)],
            model=champion,
        )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{stage}: an output is not readable ({error}); run the stage again: {run_again(stage)}"
        ) from error


def restored_record(entry: StageLock, commit: str | None) -> Record:
    """Return the record of the run whose outputs are here, as dvc.lock and the commit that added it describe it.

    Raises:
        UserError: if an output, or a split that the stage read, is missing or not the one in dvc.lock, or if dvc.lock
            records what the stage did not use.
    """
    check_recorded([entry])
    for path, md5 in {**entry.outs, **entry.data()}.items():
        if not Path(path).exists():
            raise UserError(f"{path} is missing; get it: dvc pull, or dvc repro")
        if path_md5(Path(path)) != md5:
            raise UserError(f"{path} differs from dvc.lock; make them agree: dvc repro, or dvc checkout --force {path}")
    record = build_record(entry.stage, entry.params)
    tags = {"mlflow.source.git.commit": commit or "unknown", "dvc.stage": entry.stage}
    return record.model_copy(update={"tags": {**record.tags, **tags}})


def content_md5(stage: str, params: Mapping[str, Any], md5s: Mapping[str, str]) -> str:
    """Return the md5 of a stage, its parameters, and the clips and results among these md5s by path."""
    # Writing params.yaml may turn a whole number into a float.
    numbers = {key: float(value) if type(value) is int else value for key, value in params.items()}
    content = [stage, numbers, {out: md5 for out, md5 in md5s.items() if is_result(out)}]
    return hashlib.md5(json.dumps(content, sort_keys=True).encode(), usedforsecurity=False).hexdigest()


def _file_tags(files: Iterable[str], md5s: Mapping[str, str]) -> dict[str, str]:
    """Return a tag for each file in an output, or for several of one content: its paths, under its md5.

    Paths cannot be keys: they may hold names of classes, and MLflow restricts the characters and the length of keys.
    """
    tags: dict[str, str] = {}
    for path in sorted(files):
        key = f"file.{md5s[path]}"
        tags[key] = f"{tags[key]}\n{path}" if key in tags else path
    return tags


def clip_md5s(md5s: Mapping[str, str]) -> dict[str, str]:
    """Return those of the folders of clips among these md5s of files and folders, as tags."""
    return {f"data.md5.{Path(path).name}": md5 for path, md5 in md5s.items() if Path(path) in paths.CLIPS}


def replicate_record(model_name: str, key: ReplicateKey, params: Mapping[str, Any]) -> RunRecord:
    """Return the record of a replicate that a stage with these parameters trains."""
    identity = {name: str(value) for name, value in key._asdict().items() if value is not None}
    return RunRecord(name=f"train_{model_name} {key}", params={**as_text(params), **identity})


def _replicates(
    name: str, params: Mapping[str, Any], md5s: Mapping[str, str], model: Mapping[str, Any], source: str
) -> Iterator[RunRecord]:
    training = read_training(name)
    if training is None:
        return  # The model was switched off.
    curves = training.curves()
    for row, seconds in zip(training.replicates.to_dict("records"), training.replicate_seconds, strict=True):
        key = replicate_key(row)
        path = paths.replicate_path(paths.MODELS / name, key)
        md5, facts, best = md5s[path.as_posix()], {"model": name, "source": source}, key == training.best_replicate
        update = {
            "tags": {f"md5.{path}": md5},
            "metrics": {**{f"best_{measure}": row[measure] for measure in curves[key]}, "training_seconds": seconds},
            "curves": curves[key].to_dict("records"),
            "model": ModelRecord(name=name, path=path, md5=md5, best=best, facts=facts, **model, **_backbone(name)),
        }
        yield replicate_record(name, key, params).model_copy(update=update)


def _comparison(model: Mapping[str, Any], source: str) -> tuple[dict[str, str], ModelRecord | None]:
    """Return the tag that MLflow shows as the description of a comparison's run, and the model that was chosen.

    The description is the verdict. It is Markdown, which can load pictures from elsewhere, so that it must not hold
    names of the user's.
    """
    timing = read_json(paths.COMPARISON_TIMING)
    verdict = (paths.COMPARISON_METRICS / "verdict.txt").read_text(encoding="utf-8").splitlines()
    description = {"mlflow.note.content": "\n\n".join([*verdict, timing["reason"]])[:5000]}
    if timing["champion"] is None:
        return description, None
    path, used = Path(timing["champion"]), read_json(paths.stage_inputs_path("compare"))["md5s"]
    clips = clip_md5s({folder: md5 for folder, md5 in used.items() if part_folders(Path(folder))})
    facts = {"model": path.parent.name, "source": source, **clips}
    return description, ModelRecord(
        name=REGISTERED, path=path, md5=path_md5(path), best=True, facts=facts, **model, **_backbone(path.parent.name)
    )


def _backbone(model_name: str) -> dict[str, Any]:
    """Return which backbone made the features that a model reads."""
    if not reads_features(model_name):
        return {}
    used = read_json(paths.stage_inputs_path("embed"))
    backbone = BackboneParams(**{key: used["params"][f"backbone.{key}"] for key in BackboneParams.model_fields})
    if path_md5(Path(backbone.path)) != used["md5s"][backbone.path]:
        raise UserError(f"{backbone.path}: not the backbone that made the features; put that one back, or: dvc repro")
    return {"backbone": (path := backbone.archive()), "backbone_md5": file_md5(path), "side": backbone.side}


def spool(record: Record) -> None:
    """Keep a record with its files until the store takes it."""
    with atomic_outputs(_spool_folder() / f"{record.name}-{record.started}-{record.id}") as (folder,):
        for path in _files(record):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (record.folder / path).is_dir() else shutil.copyfile
            copy(record.folder / path, folder / path)
        (folder / "record.json").write_text(record.model_dump_json(indent=2), encoding="utf-8")


def pending() -> list[Path]:
    """Return the folders of the spooled records, oldest first. Whoever has logged a record removes its folder."""
    return sorted(_spool_folder().glob("[!.]*"), key=lambda folder: folder.name.partition("-")[2])


def read_spooled(folder: Path) -> Record:
    """Return the record that was spooled to a folder.

    Raises:
        UserError: if it cannot be read, or one of its files is not as it was.
    """
    try:
        content = (folder / "record.json").read_text(encoding="utf-8")
        record = Record.model_validate_json(content).model_copy(update={"folder": folder})
        for path, md5 in _files(record).items():
            if path_md5(folder / path) != md5:
                raise ValueError(f"{path} is not as it was written")
    except (OSError, ValueError) as error:  # pydantic's are ValueErrors
        raise UserError(f"damaged, or of another version of this project ({one_line(error)})") from error
    return record


def _files(record: Record) -> dict[Path, str | None]:
    """Return the files and folders that a record is logged with, with their md5s."""
    models = [each.model for each in (record, *record.replicates)]
    artifacts = {path: record.tags.get(f"md5.{path.as_posix()}") for path in record.artifacts}
    archives = {model.path: model.md5 for model in models if model}
    backbones = {model.backbone: model.backbone_md5 for model in models if model and model.backbone}
    return artifacts | archives | backbones


def _spool_folder() -> Path:
    return paths.repository_root() / paths.MLFLOW_ARTIFACTS / "pending"
