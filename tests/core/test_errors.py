"""What a disk or a system refuses: one line, and no output touched."""

import errno
import os
import re
from pathlib import Path

import mlflow
import pytest

from motionbench.core.errors import run_command
from motionbench.core.processes import is_gone, this_process
from tests.conftest import edit_params, run


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space on this disk"),
        (errno.EROFS, "work in a clone on a disk that can be written to"),
        (errno.EACCES, "get the right to write there"),
        (errno.EIO, "mend that"),
    ],
)
def test_what_a_system_refuses_is_told_in_one_line_with_a_way_out(
    number: int, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        raise OSError(number, "a library's words\non several lines", "data/train/clips.npy")

    with pytest.raises(SystemExit) as ended:
        run_command(main)
    assert ended.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: data/train/clips.npy: {os.strerror(number)}; {remedy}")


def test_a_file_that_cannot_grow_leaves_the_old_outputs(workspace: Path) -> None:
    assert run(workspace, "python", "-m", "pipeline.generate").returncode == 0
    before = {path: path.read_bytes() for path in (workspace / "data").rglob("*") if path.is_file()}
    edit_params(workspace / "params.yaml", {"data.clips_per_class": 1000})
    # In kilobytes: more than MLflow's database has, less than the clips would.
    done = run(workspace, "bash", "-c", "ulimit -f 2000; python -m pipeline.generate")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert re.fullmatch(r"error: File too large; allow larger files \(ulimit -f\), and type the same again.*", line)
    assert {path: path.read_bytes() for path in (workspace / "data").rglob("*") if path.is_file()} == before


def test_a_process_is_known_by_more_than_its_number() -> None:
    assert not is_gone(this_process())
    assert is_gone({**this_process(), "started": "1"}), "another with the same number"
    assert not is_gone({**this_process(), "host": "elsewhere", "started": "1"}), "nothing is known of it"


def test_a_run_that_somebody_logs_by_hand_goes_on(workspace: Path) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{workspace}/mlflow.db")
    experiment = client.create_experiment("motionbench", (workspace / "mlruns").as_uri())
    by_hand = client.create_run(experiment).info.run_id
    assert run(workspace, "python", "-m", "pipeline.generate").returncode == 0
    assert client.get_run(by_hand).info.status == "RUNNING"


INTERRUPTED = """
import signal
import sys
from functools import partial
from sqlalchemy import event
from sqlalchemy.engine import Engine
from motionbench import tracking
from motionbench.core.errors import run_command

kind, table = sys.argv[1:]

def interrupt(method, cursor, statement, parameters, _context):
    if not statement.startswith(f"INSERT INTO {table} "):
        return False
    getattr(cursor, method)(statement, parameters)
    signal.raise_signal(signal.SIGINT)
    return True

for method in ("execute", "executemany"):
    event.listen(Engine, f"do_{method}", partial(interrupt, method))

def main():
    if kind == "generate":
        from pipeline.generate import main as generate
        generate()
    elif kind == "study":
        with tracking.study_run("name", "id", {"space": 1}):
            pass
    else:
        with tracking.stage_run("train_convlstm", {}, [("convlstm", 0)]) as stage:
            stage.log_epoch("convlstm", {"seed": 0, "epoch": 1, "loss": 0.5, "seconds": 0.1})

signal.signal(signal.SIGINT, signal.default_int_handler)
run_command(main)
"""


@pytest.mark.parametrize(
    ("kind", "table", "expected"),
    [
        ("stage", "runs", {"train_convlstm": "KILLED", "train_convlstm seed 0": "KILLED"}),
        ("stage", "metrics", {"train_convlstm": "KILLED", "train_convlstm seed 0": "KILLED"}),
        ("generate", "inputs", {"generate": "FINISHED"}),  # at its end, when all else is done
        ("study", "params", {"tune name": "KILLED"}),
    ],
)
def test_an_interruption_while_the_store_is_written_to_ends_the_runs(
    kind: str, table: str, expected: dict[str, str], workspace: Path
) -> None:
    done = run(workspace, "python", "-c", INTERRUPTED, kind, table, PYTHONPATH="src")
    assert (done.returncode, done.stderr) == (130, "interrupted: no output is half-written\n")
    client = mlflow.MlflowClient(f"sqlite:///{workspace}/mlflow.db")
    experiment = client.get_experiment_by_name("motionbench")
    assert experiment
    states = {run.info.run_name: run.info.status for run in client.search_runs([experiment.experiment_id])}
    assert states == expected
