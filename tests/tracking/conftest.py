"""A new MLflow store in a temporary working directory, for tests in this process."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.entities import Run

from motionbench.core.files import write_json
from motionbench.core.paths import SOURCE
from motionbench.data.splits import SPLITS
from motionbench.tracking import store
from tests.conftest import ROOT, SOURCE_RECORD, clean_environment

Runs = Callable[[], dict[str, Run]]


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables, which take seconds to create."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in os.environ.keys() - clean_environment().keys():
            patch.delenv(name)
        patch.setenv("MLFLOW_TRACKING_URI", "")  # which MLflow sets for its child processes
        store._create_database(store.store_uri())
    return folder / "mlflow.db"


@pytest.fixture
def runs(working_directory: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Make an empty store that of the working directory; return a function that returns its runs by name."""
    shutil.copy(empty_database, "mlflow.db")
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.setattr(store, "best_effort", store.BestEffort())
    for name in store.WAIT_LIMITS:
        monkeypatch.setenv(name, os.environ.get(name, store.WAIT_LIMITS[name]))

    def all_runs() -> dict[str, Run]:
        client = mlflow.MlflowClient(f"sqlite:///{working_directory}/mlflow.db")
        experiment = client.get_experiment_by_name(store.EXPERIMENT)
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
    write_json(SOURCE, SOURCE_RECORD.model_dump())
    (working_directory / "reports/samples").mkdir(parents=True)
    (working_directory / "reports/samples/a.gif").write_bytes(b"GIF")
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, name)
    return working_directory
