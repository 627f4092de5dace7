"""A new MLflow store in a temporary working directory, for tests in this process."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.entities import Run
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from motionbench.core.files import path_md5, write_json
from motionbench.core.paths import (
    COMPARISON_METRICS,
    COMPARISON_REPORT,
    COMPARISON_TIMING,
    DATASET_INFO,
    FOLDS,
    MODELS,
    STAGE_INPUTS,
    TEST,
    TRAIN,
    ReplicateKey,
    part_path,
    replicate_path,
    stage_inputs_path,
    training_paths,
)
from motionbench.data.splits import SPLITS, DatasetInfo
from motionbench.tracking import address, store
from motionbench.training.results import write_training
from tests.conftest import DRAWN_DATASET, ROOT
from tests.training.made_up import SECTION, replicate

Runs = Callable[[], dict[str, Run]]


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables, which take seconds to create."""
    folder = tmp_path_factory.mktemp("store")
    SqlAlchemyStore(f"sqlite:///{folder}/mlflow.db", str(folder)).engine.dispose()  # type: ignore[no-untyped-call] # mlflow ships none
    return folder / "mlflow.db"


@pytest.fixture(autouse=True)
def declarations(working_directory: Path) -> None:
    """What a checkout has: its stages and parameters."""
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, working_directory)


@pytest.fixture
def runs(working_directory: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Make an empty store that of the working directory; return a function that returns its runs by name."""
    shutil.copy(empty_database, "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.setattr(store, "best_effort", store.BestEffort())
    for name in store.WAIT_LIMITS:
        monkeypatch.setenv(name, os.environ.get(name, store.WAIT_LIMITS[name]))

    def all_runs() -> dict[str, Run]:
        client = mlflow.MlflowClient(f"sqlite:///{working_directory}/mlflow.db")
        experiment = client.get_experiment_by_name(address.EXPERIMENT)
        found = client.search_runs([experiment.experiment_id]) if experiment else []
        names = [run.info.run_name for run in found]
        assert len(set(names)) == len(names)
        return dict(zip(names, found, strict=True))

    return all_runs


@pytest.fixture
def generated(working_directory: Path) -> Path:
    """Outputs of the stage `generate` in the working directory, a few bytes each."""
    for number, name in enumerate(SPLITS):
        folder = working_directory / "data" / name
        folder.mkdir(parents=True)
        np.save(folder / "clips.npy", np.full((4, 3, 2, 2, 1), number, np.uint8))
        np.save(folder / "labels.npy", np.arange(4))
        write_json(folder / "class_names.json", ["a", "b", "c", "d"])
    (working_directory / "data/folds").mkdir()
    write_json(DATASET_INFO, DRAWN_DATASET.model_dump())
    (working_directory / "reports/samples").mkdir(parents=True)
    (working_directory / "reports/samples/a.gif").write_bytes(b"GIF")
    STAGE_INPUTS.mkdir(parents=True)
    write_json(stage_inputs_path("generate"), {"params": {}, "md5s": {}})
    return working_directory


def write_comparison_of(model_name: str | None, content: str) -> None:
    """Write outputs of the stage `compare`, a few bytes each, whose champion is a model's archive, or that has none."""
    for folder in (Path("metrics/comparison"), Path("reports/comparison"), MODELS / str(model_name)):
        folder.mkdir(parents=True, exist_ok=True)
    write_json(COMPARISON_METRICS / "summary.json", {"accuracy": 1.0})
    (COMPARISON_METRICS / "verdict.txt").write_text("a is better than b.\nNo evidence.\n", encoding="utf-8")
    (COMPARISON_REPORT / "report.md").write_text("a report", encoding="utf-8")
    path = replicate_path(MODELS / str(model_name), ReplicateKey(0))
    path.write_text(content, encoding="utf-8")
    champion = path.as_posix() if model_name else None
    write_json(COMPARISON_TIMING, {"champion": champion, "reason": "Champion: a.", "environment": ["a machine"]})
    STAGE_INPUTS.mkdir(exist_ok=True)
    write_json(stage_inputs_path("compare"), {"params": {}, "md5s": clips_of_comparison()})


def clips_of_comparison() -> dict[str, str]:
    """Return the md5s of the folders of clips that a comparison reads."""
    return {folder.as_posix(): path_md5(folder) for folder in (TRAIN, TEST, FOLDS)}


FOLD_LOSSES = {
    ReplicateKey(seed=0, fold=0): [0.5, 0.25],
    ReplicateKey(seed=4, fold=0): [0.375],
    ReplicateKey(seed=0, fold=1): [0.4, 0.3, 0.35],
    ReplicateKey(seed=4, fold=1): [0.45, 0.125],
    ReplicateKey(seed=0, fold=2): [0.625],
    ReplicateKey(seed=4, fold=2): [0.2],
}
"""Validation losses per epoch of the replicates in `folded`."""


@pytest.fixture
def folded(working_directory: Path) -> Path:
    """Outputs of `generate` and `train_convlstm` with three folds in the working directory, a few bytes each."""
    for split in SPLITS:
        (working_directory / "data" / split).mkdir(parents=True)
    for part in range(3):
        part_path(part).mkdir(parents=True)
        np.save(part_path(part) / "clips.npy", np.full((4 + part, 3, 2, 2, 3), part, np.uint8))
        np.save(part_path(part) / "labels.npy", np.arange(4 + part) % 2)
        write_json(part_path(part) / "class_names.json", ["bow", "wave"])
    write_json(DATASET_INFO, DatasetInfo(source="folder", folds=3, resize="crop", seconds=1.5).model_dump())
    models, metrics, timing = training_paths("convlstm")
    for folder in (models, metrics, timing.parent, STAGE_INPUTS, working_directory / "reports/samples"):
        folder.mkdir(parents=True)
    for stage in ("generate", "train_convlstm"):
        write_json(stage_inputs_path(stage), {"params": {}, "md5s": {}})
    for key in FOLD_LOSSES:
        replicate_path(models, key).write_text(f"the model of {key}", encoding="utf-8")
    replicates = [
        replicate(key.seed, losses, [1.0] * len(losses), fold=key.fold) for key, losses in FOLD_LOSSES.items()
    ]
    write_training(metrics, timing, replicates, SECTION)
    return working_directory
