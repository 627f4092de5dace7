"""Paths relative to the repository's root: the only module with path literals."""

import configparser
import os
from pathlib import Path
from typing import NamedTuple

PARAMS = Path("params.yaml")
EXPERIMENTS = Path("experiments")
DVC_YAML = Path("dvc.yaml")
DVC_LOCK = Path("dvc.lock")
DVC_IGNORE = Path(".dvcignore")
DATA = Path("data")
TRAIN = DATA / "train"
VALIDATION = DATA / "validation"
TEST = DATA / "test"
FOLDS = DATA / "folds"  # with folds, a folder per part; the splits are empty then
DATASET_INFO = FOLDS / "source.json"
CLIPS = (TRAIN, VALIDATION, TEST, FOLDS)  # what `generate` makes for other stages
BACKBONES = DATA / "backbone"
FEATURES = DATA / "features"  # of the clips' frames, a file for each split or part
DECODED = Path(".decoded")  # the decoded clips of video files, which DVC and git ignore
SAMPLES = Path("reports/samples")
MODELS = Path("models")
TRAINING_METRICS = Path("metrics/training")
TRAINING_TIMING = Path("metrics/training_timing")
STAGE_INPUTS = Path("metrics/inputs")
PREDICTIONS = DATA / "predictions.parquet"  # of all models to all held-out clips
ONNX = DATA / "onnx"  # models as ONNX files, a folder for each
EVALUATION_TIMING = Path("metrics/evaluation_timing.json")
COMPARISON_METRICS = Path("metrics/comparison")
COMPARISON_TIMING = Path("metrics/comparison_timing.json")
COMPARISON_REPORT = Path("reports/comparison")
ANNOTATED = Path("reports/predictions")
EXPORTS = Path("reports/export")
TUNING_REPORTS = Path("reports/tuning")
APPLIED_SEARCHES = Path("metrics/tuning/applied.json")
"""By model, the search whose best trial is in params.yaml, as `tuning.outcome` writes it."""
JOURNAL = Path("optuna.journal")
CHECKPOINTS = Path(".resume")  # beside the outputs: DVC removes the outputs of a stage before it runs the stage
PROCESSES = CHECKPOINTS / "processes"  # where those that run lock a byte each
MLFLOW_DATABASE = Path("mlflow.db")
MLFLOW_ARTIFACTS = Path("mlruns")
WALL_CLOCK = (TRAINING_TIMING, EVALUATION_TIMING, COMPARISON_TIMING, COMPARISON_REPORT)
"""Outputs that hold measured times, or where they were measured. All other outputs are deterministic."""


class ReplicateKey(NamedTuple):
    """What identifies a replicate of a model: its seed and, with folds, the number of its fold."""

    seed: int
    fold: int | None = None

    def __str__(self) -> str:
        return f"seed {self.seed}" if self.fold is None else f"fold {self.fold} seed {self.seed}"

    def file_name(self, suffix: str) -> str:
        """Return the name of the replicate's file, as in fold-1-seed-0.keras."""
        return f"{str(self).replace(' ', '-')}{suffix}"


def replicate_path(folder: Path, key: ReplicateKey) -> Path:
    """Return the path in `folder` of a replicate's model."""
    return folder / key.file_name(".keras")


def onnx_path(folder: Path, archive: Path) -> Path:
    """Return the path in `folder` of the ONNX file of a replicate's model."""
    return folder / archive.parent.name / f"{archive.stem}.onnx"


def part_path(part: int) -> Path:
    """Return the folder of a part, on which the fold of the same number is tested."""
    return FOLDS / str(part)


def training_paths(model_name: str) -> tuple[Path, Path, Path]:
    """Return the outputs of a model's training: the models, their metrics, and its timing."""
    return MODELS / model_name, TRAINING_METRICS / model_name, TRAINING_TIMING / f"{model_name}.json"


def stage_inputs_path(stage: str) -> Path:
    """Return the output that says what a stage used."""
    return STAGE_INPUTS / f"{stage}.json"


def checkpoint_path(model_name: str, key: ReplicateKey) -> Path:
    """Return the place of a replicate's checkpoint."""
    return CHECKPOINTS / model_name / key.file_name(".npz")


def repository_root() -> Path:
    """Return the repository's root, also where DVC runs an experiment in a temporary copy below it."""
    here, root = Path.cwd(), Path(os.environ.get("DVC_ROOT", ".")).resolve()
    return root if here.is_relative_to(root) else here  # DVC_ROOT may be another repository's


def dvc_cache() -> Path:
    """Return the folder of DVC's cache: as configured for this repository, or the default."""
    config = configparser.ConfigParser(interpolation=None)
    config.read([".dvc/config", ".dvc/config.local"], encoding="utf-8")
    return Path(".dvc", config.get("cache", "dir", fallback="cache"))  # relative to the file, if it is not absolute


def cached_path(md5: str) -> Path:
    """Return where DVC's cache keeps the file, or the listing of a folder, with this md5."""
    return dvc_cache() / "files/md5" / md5[:2] / md5[2:]
