import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import mlflow
import pytest
from mlflow.entities import Metric

from motionbench.core.errors import UserError
from motionbench.core.processes import this_process
from motionbench.tracking import store
from tests.tracking.conftest import Runs


def unavailable() -> NoReturn:
    raise OSError("no answer")


def test_interrupt_waits_until_a_call_to_the_store_has_ended() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    ended = []

    def call() -> None:
        signal.raise_signal(signal.SIGINT)
        ended.append(True)

    try:
        with pytest.raises(KeyboardInterrupt):
            store.BestEffort()(call)
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended


def test_first_failure_is_reported_and_calls_wait_for_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    best_effort = store.BestEffort()
    assert best_effort(lambda: 1) == 1
    assert best_effort(unavailable) is None
    assert best_effort(unavailable, at_end=True) is None
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: MLflow's store ")
    assert "does not answer (no answer)" in line
    assert best_effort(lambda: 2) is None
    assert best_effort(lambda: 3, at_end=True) == 3


@pytest.mark.parametrize("uri", ["nowhere://", "sqlite:///params.yaml"])
def test_impossible_store_is_named_in_one_line(
    uri: str, working_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    (working_directory / "params.yaml").write_text("data: {}\n", encoding="utf-8")
    named = uri.replace("///", f"///{working_directory}/")
    with pytest.raises(
        UserError, match=rf"MLflow's store {named} cannot be opened: .*; set MLFLOW_TRACKING_URI to another"
    ):
        store.open_store()
    assert (working_directory / "params.yaml").read_text(encoding="utf-8") == "data: {}\n"


@pytest.mark.usefixtures("runs")
def test_store_of_another_mlflow_is_named_with_two_ways_out(working_directory: Path) -> None:
    with closing(sqlite3.connect("mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'another'")
    uri = f"sqlite:///{working_directory}/mlflow.db"
    with pytest.raises(UserError, match=f"another version of MLflow .* mlflow db upgrade {uri}; .*: make mlflow-sync$"):
        store.open_store()


@pytest.mark.parametrize("form", ["{}/mlruns", "{}/mlruns/1"])
@pytest.mark.parametrize("as_uri", [True, False])
def test_paths_of_a_moved_store_are_changed_wherever_they_are(
    form: str, as_uri: bool, runs: Runs, working_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = working_directory / "an old place"
    before, after = ((place.as_uri() if as_uri else str(place)) for place in (old, working_directory))
    experiment_id = store.open_store()
    mlflow.MlflowClient().create_run(experiment_id, run_name="run")
    with closing(sqlite3.connect("mlflow.db")) as database, database:
        database.execute("UPDATE experiments SET artifact_location = ?", (form.format(before),))
        database.execute("UPDATE runs SET artifact_uri = ?", (f"{form.format(before)}/run/artifacts",))
    assert store.open_store() == experiment_id
    assert f"moved here from {old}: its paths are changed" in capsys.readouterr().err
    assert runs()["run"].info.artifact_uri == f"{form.format(after)}/run/artifacts"
    store.open_store()
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("runs")
def test_a_shared_store_keeps_a_folder_that_is_still_there(
    working_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (working_directory / "shared").mkdir()
    (working_directory / "another/mlruns").mkdir(parents=True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{working_directory}/shared/mlflow.db")
    store.open_store()
    location = (working_directory / "another/mlruns").as_uri()
    with closing(sqlite3.connect("shared/mlflow.db")) as database, database:
        database.execute("UPDATE experiments SET artifact_location = ?", (location,))
    store.open_store()
    assert artifact_location() == location
    (working_directory / "another/mlruns").rmdir()
    store.open_store()
    assert artifact_location() == (working_directory / "shared/mlruns").as_uri()


def test_a_relative_file_is_one_in_the_root_also_in_a_temporary_copy(
    working_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = working_directory / ".dvc/tmp/exps/a copy"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_ROOT", str(working_directory))
    for given, expected in (("", "mlflow.db"), ("sqlite:///other.db", "other.db"), ("sqlite:////a/b.db", "/a/b.db")):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
        assert store.store_uri() == f"sqlite:///{working_directory / expected}"


def artifact_location() -> str:
    experiment = mlflow.get_experiment_by_name(store.EXPERIMENT)
    assert experiment
    return str(experiment.artifact_location)


def test_search_without_a_store_creates_none(working_directory: Path) -> None:
    assert store.find_runs({}) is None
    assert list(working_directory.iterdir()) == []


def test_only_runs_of_ended_processes_are_killed(runs: Runs) -> None:
    experiment_id, client = store.open_store(), mlflow.MlflowClient()
    here = {f"process.{key}": value for key, value in this_process().items()}
    gone, elsewhere = {**here, "process.started": "long ago"}, {**here, "process.host": "elsewhere"}
    for name, tags in {"by hand": {}, "alive": here, "gone": gone, "elsewhere": elsewhere}.items():
        client.create_run(experiment_id, tags=tags, run_name=name)
    store.end_abandoned_runs(experiment_id)
    states = {name: run.info.status for name, run in runs().items()}
    assert states == {"by hand": "RUNNING", "alive": "RUNNING", "gone": "KILLED", "elsewhere": "RUNNING"}


def test_any_number_of_entries_is_logged_and_no_point_twice(runs: Runs) -> None:
    run_id = mlflow.MlflowClient(store.store_uri()).create_run(store.open_store(), run_name="run").info.run_id
    texts = {f"key{number}": "value" for number in range(2 * store.BATCH + 1)}
    points = [Metric("loss", 0.5, 1, step) for step in range(2 * store.BATCH + 1)]
    for _ in range(2):
        store.log_batches(run_id, params=texts, metrics=points, tags=texts)
    run = runs()["run"]
    assert run.data.params == texts
    assert texts.items() <= run.data.tags.items()
    assert len(mlflow.MlflowClient().get_metric_history(run_id, "loss")) == len(points)
