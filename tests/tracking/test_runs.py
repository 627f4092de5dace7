import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import mlflow
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from motionbench.core.errors import UserError
from motionbench.core.paths import ReplicateKey
from motionbench.tracking import store
from motionbench.tracking.record import build_record, pending
from motionbench.tracking.runs import log_run, stage_run
from motionbench.tracking.trials import study_run
from tests.tracking.conftest import FOLD_LOSSES, Runs

PARAMS = {"synthetic.seed": 0}


@pytest.mark.usefixtures("generated")
def test_run_has_what_the_outputs_say_and_is_logged_once(runs: Runs) -> None:
    with stage_run("generate", PARAMS) as run:
        run_id = run.origin()["run_id"]
    assert list(pending()) == []
    [stored] = runs().values()
    assert stored.info.run_id == run_id
    assert stored.info.status == "FINISHED"
    assert stored.data.params == {"synthetic.seed": "0"}
    assert stored.inputs
    assert [each.dataset.name for each in stored.inputs.dataset_inputs] == ["train", "validation", "test"]
    assert not log_run(build_record("generate", PARAMS))
    assert "restored" not in stored.data.tags


@pytest.mark.usefixtures("generated")
def test_run_restored_from_files_says_so(runs: Runs) -> None:
    assert log_run(build_record("generate", PARAMS))[0] == "run generate"
    assert runs()["generate"].data.tags["restored"] == "from files"


@pytest.mark.usefixtures("generated")
def test_run_logged_by_hand_stays_running(runs: Runs) -> None:
    experiment_id = store.open_store()
    mlflow.MlflowClient().create_run(experiment_id, run_name="by hand")
    with stage_run("generate", PARAMS):
        pass
    assert {name: run.info.status for name, run in runs().items()} == {"by hand": "RUNNING", "generate": "FINISHED"}


def test_block_that_raises_ends_its_runs_as_failed(runs: Runs) -> None:
    with pytest.raises(UserError), stage_run("train_convlstm", {}, [("convlstm", ReplicateKey(0))]):
        raise UserError("diverged")
    assert {name: run.info.status for name, run in runs().items()} == {
        "train_convlstm": "FAILED", "train_convlstm seed 0": "FAILED",
    }  # fmt: skip


@pytest.mark.usefixtures("folded")
def test_replicates_of_folds_are_child_runs_with_their_own_curves(runs: Runs) -> None:
    with stage_run("train_convlstm", PARAMS, [("convlstm", key) for key in FOLD_LOSSES]) as run:
        assert {name for name in runs() if name != "train_convlstm"} == {f"train_convlstm {key}" for key in FOLD_LOSSES}
        for key, losses in FOLD_LOSSES.items():
            epoch = {"seed": key.seed, "fold": key.fold, "epoch": 1, "validation_loss": losses[0]}
            run.log_epoch("convlstm", epoch)
        while_it_trains = runs()["train_convlstm fold 1 seed 4"].data
        assert while_it_trains.params == {"synthetic.seed": "0", "seed": "4", "fold": "1"}
        assert while_it_trains.metrics["validation_loss"] == 0.45
    client, logged = mlflow.MlflowClient(), runs()
    assert len(logged) == 1 + len(FOLD_LOSSES)
    for key, losses in FOLD_LOSSES.items():
        child = logged[f"train_convlstm {key}"]
        assert child.data.params == {"synthetic.seed": "0", "seed": str(key.seed), "fold": str(key.fold)}
        assert child.data.tags["mlflow.parentRunId"] == logged["train_convlstm"].info.run_id
        points = client.get_metric_history(child.info.run_id, "validation_loss")
        assert {point.step: point.value for point in points} == dict(enumerate(losses, start=1))
        assert not {"fold", "seed"} & child.data.metrics.keys()
    [version] = client.search_model_versions("name = 'convlstm'")
    assert version.source
    assert client.get_logged_model(version.source.removeprefix("models:/")).name == "convlstm fold-1-seed-4"
    assert not log_run(build_record("train_convlstm", PARAMS)), "nothing is missing"


@contextmanager
def silent_server() -> Iterator[str]:
    """Yield the address of a server that accepts connections and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.usefixtures("generated")
@pytest.mark.parametrize("uri", ["http://127.0.0.1:1", "postgresql://someone:secret@127.0.0.1:1/mlflow", "silent"])
def test_unavailable_store_costs_seconds_and_a_spooled_record(
    uri: str, runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with silent_server() as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", silent if uri == "silent" else uri)
        start = time.monotonic()
        with stage_run("generate", PARAMS):
            pass
        assert time.monotonic() - start < 25
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("warning: MLflow's store ")
        assert line.endswith("by: make mlflow-sync")
        assert "secret" not in line
        with pytest.raises(UserError, match=r"does not answer: .*nothing is logged twice") as refused:
            log_run(next(pending()))
        assert "secret" not in str(refused.value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert [log_run(record)[0] for record in pending()] == ["run generate"]
    assert list(pending()) == []
    assert not log_run(build_record("generate", PARAMS))
    assert runs()["generate"].info.status == "FINISHED"


@contextmanager
def interrupt_after_insert(table: str) -> Iterator[None]:
    """Interrupt this process each time that a row was written to a table."""

    def interrupt(method: str, cursor: Any, statement: str, parameters: Any, _context: Any) -> bool:
        if not statement.startswith(f"INSERT INTO {table} "):
            return False
        getattr(cursor, method)(statement, parameters)
        signal.raise_signal(signal.SIGINT)
        return True

    listeners = {f"do_{method}": partial(interrupt, method) for method in ("execute", "executemany")}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    for name, listener in listeners.items():
        event.listen(Engine, name, listener)
    try:
        yield
    finally:
        for name, listener in listeners.items():
            event.remove(Engine, name, listener)
        signal.signal(signal.SIGINT, before)


def train() -> None:
    with stage_run("train_convlstm", {}, [("convlstm", ReplicateKey(0))]) as run:
        run.log_epoch("convlstm", {"seed": 0, "epoch": 1, "loss": 0.5, "seconds": 0.1})


def search() -> None:
    with study_run("name", "id", {"space": 1}):
        pass


@pytest.mark.parametrize(
    ("command", "table", "expected"),
    [
        (train, "runs", {"train_convlstm": "KILLED", "train_convlstm seed 0": "KILLED"}),
        (train, "metrics", {"train_convlstm": "KILLED", "train_convlstm seed 0": "KILLED"}),
        (search, "params", {"tune name": "KILLED"}),
    ],
)
def test_interrupt_while_the_store_is_written_ends_the_runs(
    command: Callable[[], None], table: str, expected: dict[str, str], runs: Runs
) -> None:
    with interrupt_after_insert(table), pytest.raises(KeyboardInterrupt):
        command()
    assert {name: run.info.status for name, run in runs().items()} == expected


@pytest.mark.usefixtures("generated")
def test_interrupt_when_all_is_logged_leaves_the_run_finished(runs: Runs) -> None:
    with interrupt_after_insert("inputs"), pytest.raises(KeyboardInterrupt), stage_run("generate", PARAMS):
        pass
    assert {name: run.info.status for name, run in runs().items()} == {"generate": "FINISHED"}
