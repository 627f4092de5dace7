"""Records: all that MLflow's store should have of a stage's run.

Records that the store missed are spooled: kept with their files until it is available.
"""

import shutil
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, Field

from motionbench.core import paths
from motionbench.core.errors import UserError, one_line
from motionbench.core.files import atomic_outputs, path_md5

REGISTERED = "motionbench"  # name of the registered model whose versions are the champions and challengers


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
    onnx: Path | None = None  # of a champion, unless it could not be written
    onnx_md5: str | None = None
    best: bool  # whether to register it: the best replicate
    description: str = ""  # of the registered version
    facts: dict[str, str] = {}  # tags of it: model, source, and of a comparison's choice the gate and md5s of clips


class ScoreRecord(BaseModel, frozen=True, extra="forbid"):
    """What a comparison found of a replicate, whose model an earlier stage has logged."""

    name: str  # of the logged model
    md5: str  # of its archive
    dataset: str  # the held-out clips
    metrics: dict[str, float]


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
    challenger: ModelRecord | None = None  # of a comparison: the best that is not the champion
    scores: list[ScoreRecord] = []  # of a comparison
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


def logged_name(model_name: str, archive: Path) -> str:
    """Return the name of the logged model with an archive."""
    return f"{model_name} {archive.stem}"


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
    models = [record.challenger, *(each.model for each in (record, *record.replicates))]
    artifacts = {path: record.tags.get(f"md5.{path.as_posix()}") for path in record.artifacts}
    archives = {model.path: model.md5 for model in models if model}
    backbones = {model.backbone: model.backbone_md5 for model in models if model and model.backbone}
    onnx = {model.onnx: model.onnx_md5 for model in models if model and model.onnx}
    return artifacts | archives | backbones | onnx


def _spool_folder() -> Path:
    return paths.repository_root() / paths.MLFLOW_ARTIFACTS / "pending"
