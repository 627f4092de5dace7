import hashlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from motionbench.core.errors import UserError
from motionbench.core.files import path_md5
from motionbench.core.paths import ReplicateKey
from motionbench.core.processes import git
from motionbench.tracking import store
from motionbench.tracking.model_registry import version_in_use
from motionbench.tracking.record import build_record, pending
from motionbench.tracking.runs import log_run, stage_run
from motionbench.tracking.trials import study_run
from tests.conftest import ROOT, run
from tests.tracking.conftest import FOLD_LOSSES, Runs, clips_of_comparison, write_comparison_of

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


def in_use() -> str | None:
    """Return the archive in use, as what `write_comparison_of` wrote."""
    store.open_store()
    version = version_in_use()
    return version.tags["md5"] if version else None


def md5_of(content: str) -> str:
    return hashlib.md5(content.encode(), usedforsecurity=False).hexdigest()


@pytest.fixture
def checkouts(generated: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Two checkouts with comparisons of their own and one store; return their commits by the folders' names."""
    del runs  # whose store they share
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{generated}/mlflow.db")
    commits = {}
    for name in ("A", "B"):
        folder = generated / name
        folder.mkdir()
        for each in ("data", "metrics", "reports", "dvc.yaml", "params.yaml"):
            copy = shutil.copytree if (generated / each).is_dir() else shutil.copyfile
            copy(generated / each, folder / each)
        monkeypatch.chdir(folder)
        for arguments in (
            ["init", "--quiet"], ["add", "params.yaml"],
            ["-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", name],
        ):  # fmt: skip
            subprocess.run(["git", *arguments], check=True)
        commits[name] = git("rev-parse", "HEAD").strip()
        write_comparison_of("convlstm" if name == "A" else "cnn_lstm", name)
    assert commits["A"] != commits["B"]
    return commits


def compare_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with stage_run("compare", PARAMS):
        pass


def spool_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
        patch.setattr(store, "best_effort", store.BestEffort())
        with stage_run("compare", PARAMS):
            pass


def sync_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for record in pending():
        log_run(record)
    log_run(build_record("compare", PARAMS))


def test_the_alias_is_what_the_last_comparison_said_whoever_syncs(
    checkouts: dict[str, str], generated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool_in(generated / "A", monkeypatch)
    sync_in(generated / "B", monkeypatch)
    sync_in(generated / "A", monkeypatch)
    assert in_use() is None, "a record that was spooled or restored puts nothing in use"
    spool_in(generated / "A", monkeypatch)
    for step in "ABsABAsBA":  # every order of the three is in it
        before = in_use()
        if step == "s":
            sync_in(generated / "B", monkeypatch)
            sync_in(generated / "A", monkeypatch)
            spool_in(generated / "A", monkeypatch)
        else:
            compare_in(generated / step, monkeypatch)
        assert in_use() == (before if step == "s" else md5_of(step))
    version = version_in_use()
    assert version
    commit = checkouts["A" if version.tags["model"] == "convlstm" else "B"]
    assert version.tags["commit"] == commit
    assert {key: value for key, value in version.tags.items() if key.startswith("data.md5.")} == {
        f"data.md5.{name}": path_md5(generated / "data" / name) for name in ("train", "test")
    }
    assert version.tags["classes"] == "a, b, c, d"
    assert version.tags["source"] == "synthetic"
    started = datetime.fromisoformat(version.tags["started"])
    assert started.utcoffset() == timedelta(0)
    compared = {int(started.timestamp() * 1000), round(started.timestamp() * 1000)}
    assert compared & {each.info.start_time for each in mlflow.search_runs(["1"], output_format="list")}


@pytest.mark.usefixtures("checkouts")
def test_a_comparison_that_started_earlier_and_ends_later_leaves_the_alias(
    generated: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(generated / "A")
    with stage_run("compare", PARAMS) as comparison:
        assert comparison.old_champion(clips_of_comparison(), chosen=True) == []
        assert comparison.old_champion(clips_of_comparison(), chosen=False) == ["No champion is in use."]
        compare_in(generated / "B", monkeypatch)
        monkeypatch.chdir(generated / "A")
        [sentence] = comparison.old_champion(clips_of_comparison(), chosen=True)
        assert "which is of a later comparison; to use another: make promote." in sentence
        [sentence] = comparison.old_champion(clips_of_comparison(), chosen=False)
        assert sentence.endswith("which was made from the same clips.")
        np.save("data/test/labels.npy", np.zeros(4, int))
        [sentence] = comparison.old_champion(clips_of_comparison(), chosen=False)
        assert sentence.endswith("which was made from OTHER clips.")
    assert in_use() == md5_of("B")
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("version 2 of motionbench (convlstm; trained on synthetic clips: a, b, c, d; commit ")
    assert line.endswith("is of a later comparison; to use it: make promote VERSION=2")


@pytest.mark.usefixtures("checkouts")
def test_a_comparison_says_nothing_of_a_champion_that_it_cannot_see(
    generated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare_in(generated / "A", monkeypatch)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    with stage_run("compare", PARAMS) as comparison:
        assert (
            comparison.old_champion(clips_of_comparison(), chosen=False)
            == comparison.old_champion(clips_of_comparison(), chosen=True)
            == []
        )


@pytest.mark.usefixtures("checkouts")
def test_a_kill_between_registering_and_alias_is_made_good_by_the_next_comparison(
    generated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare_in(generated / "B", monkeypatch)
    program = (
        "import os, sqlalchemy\n"
        "from motionbench.tracking.runs import stage_run\n"
        "@sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, 'before_cursor_execute')\n"
        "def kill(connection, cursor, statement, *others):\n"
        "    if 'registered_model_aliases' in statement and not statement.startswith('SELECT'):\n"
        "        os.kill(os.getpid(), 9)\n"
        f"with stage_run('compare', {PARAMS}): pass\n"
    )
    uri = f"sqlite:///{generated}/mlflow.db"
    done = run(generated / "A", "python", "-c", program, PYTHONPATH=str(ROOT / "src"), MLFLOW_TRACKING_URI=uri)
    assert done.returncode == -signal.SIGKILL, done.stderr
    client = mlflow.MlflowClient()
    assert {each.tags["md5"] for each in client.search_model_versions("name = 'motionbench'")} == {
        md5_of("A"), md5_of("B"),
    }  # fmt: skip
    assert in_use() == md5_of("B")
    sync_in(generated / "A", monkeypatch)
    assert in_use() == md5_of("B")
    compare_in(generated / "A", monkeypatch)
    assert in_use() == md5_of("A")
    assert len(client.search_model_versions("name = 'motionbench'")) == 2


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
