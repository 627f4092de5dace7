"""Commands that a user's mistake, the system or an interrupt stops: one line, and no output touched."""

import re
from pathlib import Path

import mlflow
import numpy as np
import pytest

from tests.conftest import SOURCE_RECORD, edit_params, run


@pytest.mark.parametrize(
    "module", [["pipeline.generate"], ["pipeline.train", "convlstm"], ["pipeline.evaluate"], ["pipeline.compare"]]
)
def test_commands_refuse_a_bad_key_and_write_nothing(module: list[str], workspace: Path) -> None:
    params = workspace / "params.yaml"
    params.write_text(params.read_text(encoding="utf-8").replace(" jitter:", " jiter:"), encoding="utf-8")
    before = sorted(workspace.rglob("*"))
    done = run(workspace, "python", "-m", *module)
    assert done.returncode == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("error: params.yaml: synthetic.jiter: 1.0: unknown key; known here: ")
    assert line.endswith("(and 1 more)")
    assert [path for path in sorted(workspace.rglob("*")) if "__pycache__" not in path.parts] == before


@pytest.mark.parametrize("stage", ["evaluate", "compare"])
def test_stages_name_what_they_lack_and_what_makes_it(stage: str, workspace: Path) -> None:
    def refusal() -> str:
        done = run(workspace, "python", "-m", f"pipeline.{stage}")
        assert (done.returncode, done.stdout) == (2, "")
        [line] = done.stderr.splitlines()
        return line

    assert refusal() == ("error: data/folds/source.json: missing; make the clips again: dvc repro --force generate")
    for part in ("folds", "test"):
        (workspace / "data" / part).mkdir()
    (workspace / "data/folds/source.json").write_text(SOURCE_RECORD.model_dump_json(), encoding="utf-8")
    missing = {
        "evaluate": "models/cnn_lstm: missing; train it: dvc repro train_cnn_lstm",
        "compare": "data/test/class_names.json: missing; make the clips again: dvc repro --force generate",
    }
    assert refusal() == f"error: {missing[stage]}"
    (workspace / "data/test/class_names.json").write_text('["a", "b"]', encoding="utf-8")
    np.save(workspace / "data/test/clips.npy", np.zeros((2, 1, 2, 2, 1), np.uint8))
    np.save(workspace / "data/test/labels.npy", np.array([0, 1]))
    missing["compare"] = "data/predictions.parquet: missing; make it: dvc repro evaluate"
    assert refusal() == f"error: {missing[stage]}"
    assert not (workspace / "metrics/inputs/compare.json").exists()


def test_commands_refuse_hostile_parameters_and_write_nothing(workspace: Path) -> None:
    replaced = {
        "seed: 0 #": ["seed: !!python/object/apply:os.system [touch pwned] #", "seed: 4294967296 #", "? [a]\n  : 1 #"],
        "clips_per_class: 4 ": ["clips_per_class: 1000000000000 "],
        "study: first": ['study: "../\\n\\e[31m"'],
    }
    path = workspace / "params.yaml"
    text = path.read_text(encoding="utf-8")
    before = sorted(workspace.rglob("*"))
    for old, news in replaced.items():
        for new in news:
            path.write_text(text.replace(old, new, 1), encoding="utf-8")
            done = run(workspace, "python", "-m", "pipeline.generate")
            assert done.returncode == 2, new
            [line] = done.stderr.splitlines()
            assert line.startswith("error: params.yaml")
            assert line.isprintable()
    assert [file for file in sorted(workspace.rglob("*")) if "__pycache__" not in file.parts] == before


@pytest.mark.slow
def test_file_that_cannot_grow_leaves_the_old_outputs(workspace: Path) -> None:
    assert run(workspace, "python", "-m", "pipeline.generate").returncode == 0
    before = {path: path.read_bytes() for path in (workspace / "data").rglob("*") if path.is_file()}
    edit_params(workspace / "params.yaml", {"synthetic.clips_per_class": 1000})
    # In kilobytes: more than MLflow's database has, less than the clips would.
    done = run(workspace, "bash", "-c", "ulimit -f 2000; python -m pipeline.generate")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert re.fullmatch(r"error: File too large; allow larger files \(ulimit -f\), and run the command again.*", line)
    assert {path: path.read_bytes() for path in (workspace / "data").rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_flips_that_may_change_labels_are_refused_before_any_work(workspace: Path) -> None:
    assert run(workspace, "python", "-m", "pipeline.generate").returncode == 0
    source = workspace / "data/folds/source.json"
    source.write_text(source.read_text(encoding="utf-8").replace("synthetic", "folder"), encoding="utf-8")
    edit_params(workspace / "params.yaml", {"training.augmentation.flip": "left_right"})
    for command in ("train", "tune"):
        done = run(workspace, "python", "-m", f"pipeline.{command}", *(["convlstm"] if command == "train" else []))
        assert done.returncode == 2
        [line] = done.stderr.splitlines()
        assert line.startswith("error: params.yaml: training.augmentation.flip: left_right: it is not known which")
        assert "folder.mirrored_labels" in line
        assert done.stdout == ""
    assert not (workspace / "optuna.journal").exists()
    [logged] = mlflow.MlflowClient(f"sqlite:///{workspace}/mlflow.db").search_runs(["1"])
    assert logged.info.run_name == "generate"


INTERRUPTED = """
import signal
from functools import partial
from sqlalchemy import event
from sqlalchemy.engine import Engine
from motionbench.core.commands import run_command
from pipeline.generate import main

def interrupt(method, cursor, statement, parameters, _context):
    if not statement.startswith("INSERT INTO inputs "):
        return False
    getattr(cursor, method)(statement, parameters)
    signal.raise_signal(signal.SIGINT)
    return True

for method in ("execute", "executemany"):
    event.listen(Engine, f"do_{method}", partial(interrupt, method))

signal.signal(signal.SIGINT, signal.default_int_handler)
run_command(main)
"""


@pytest.mark.slow
def test_interrupt_at_the_end_of_a_stage_leaves_its_run_finished(workspace: Path) -> None:
    done = run(workspace, "python", "-c", INTERRUPTED, PYTHONPATH="src")
    assert (done.returncode, done.stderr) == (130, "interrupted: no output is half-written\n")
    client = mlflow.MlflowClient(f"sqlite:///{workspace}/mlflow.db")
    experiment = client.get_experiment_by_name("motionbench")
    assert experiment
    states = {run.info.run_name: run.info.status for run in client.search_runs([experiment.experiment_id])}
    assert states == {"generate": "FINISHED"}
