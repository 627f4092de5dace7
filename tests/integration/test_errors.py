"""Commands that a user's mistake, the system or an interrupt stops: one line, and no output touched."""

import re
from pathlib import Path

import mlflow
import numpy as np
import pytest

from motionbench.core.files import path_md5
from tests.conftest import DRAWN_DATASET, edit_params, run


def test_commands_refuse_bad_and_hostile_parameters_and_write_nothing(workspace: Path) -> None:
    bad = {
        "generate": ("seed: 0 #", "seed: !!python/object/apply:os.system [touch pwned] #", "not readable as YAML"),
        "train convlstm": (" jitter:", " jiter:", "synthetic.jiter: 1.0: unknown key; known here: "),
        "evaluate": ("clips_per_class: 4 ", "clips_per_class: 1000000000000 ", "synthetic"),
        "compare": ("study: first", 'study: "../\\n\\e[31m"', "tuning.study: "),
    }
    params = workspace / "params.yaml"
    text, before = params.read_text(encoding="utf-8"), sorted(workspace.rglob("*"))
    for command, (old, new, reason) in bad.items():
        params.write_text(text.replace(old, new, 1), encoding="utf-8")
        done = run(workspace, "python", "-m", *f"pipeline.{command}".split())
        assert (done.returncode, done.stdout) == (2, "")
        [line] = done.stderr.splitlines()
        assert line.startswith("error: params.yaml")
        assert reason in line
        assert line.isprintable()
    assert [path for path in sorted(workspace.rglob("*")) if "__pycache__" not in path.parts] == before


def test_stages_name_what_they_lack_and_what_makes_it(workspace: Path) -> None:
    def refusal(stage: str) -> str:
        done = run(workspace, "python", "-m", f"pipeline.{stage}")
        assert (done.returncode, done.stdout) == (2, "")
        [line] = done.stderr.splitlines()
        return line

    again = "missing; make the clips again: dvc repro --force generate"
    for stage in ("evaluate", "compare"):
        assert refusal(stage) == f"error: data/folds/source.json: {again}"
    for part in ("folds", "test"):
        (workspace / "data" / part).mkdir()
    (workspace / "data/folds/source.json").write_text(DRAWN_DATASET.model_dump_json(), encoding="utf-8")
    assert refusal("evaluate") == "error: models/cnn_lstm: missing; train it: dvc repro train_cnn_lstm"
    assert refusal("compare") == f"error: data/test/class_names.json: {again}"
    (workspace / "data/test/class_names.json").write_text('["a", "b"]', encoding="utf-8")
    np.save(workspace / "data/test/clips.npy", np.zeros((2, 1, 2, 2, 1), np.uint8))
    np.save(workspace / "data/test/labels.npy", np.array([0, 1]))
    assert refusal("compare") == "error: data/predictions.parquet: missing; make it: dvc repro evaluate"
    assert not (workspace / "metrics/inputs/compare.json").exists()


def test_a_backbone_that_cannot_be_downloaded_leaves_nothing(workspace: Path, tmp_path: Path) -> None:
    (temporary := tmp_path / "temporary").mkdir()
    no_network = {"https_proxy": "http://127.0.0.1:9", "TMPDIR": str(temporary)}
    done = run(workspace, "python", "-m", "pipeline.backbone", "MobileNet", **no_network)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(
        "error: NAME: MobileNet: Keras cannot make it for backbone.side: 112 (URL fetch failure on https"
    )
    assert "copy the archive, or use one of your own (docs/pretrained.md)" in line
    assert not list(temporary.iterdir())
    assert not list((workspace / "data/backbone").glob("*.keras"))


@pytest.mark.slow
def test_file_that_cannot_grow_leaves_the_old_outputs(drawn: Path) -> None:
    before = path_md5(drawn / "data")
    edit_params(drawn / "params.yaml", {"synthetic.clips_per_class": 1000})
    # In kilobytes: more than MLflow's database has, less than the clips would.
    done = run(drawn, "bash", "-c", "ulimit -f 2000; python -m pipeline.generate")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert re.fullmatch(r"error: File too large; allow larger files \(ulimit -f\), and run the command again.*", line)
    assert path_md5(drawn / "data") == before


@pytest.mark.slow
def test_flips_that_may_change_labels_are_refused_before_any_work(drawn: Path) -> None:
    source = drawn / "data/folds/source.json"
    source.write_text(source.read_text(encoding="utf-8").replace("synthetic", "folder"), encoding="utf-8")
    edit_params(drawn / "params.yaml", {"training.augmentation.flip": "left_right"})
    for command in (["train", "convlstm"], ["tune"]):
        done = run(drawn, "python", "-m", f"pipeline.{command[0]}", *command[1:])
        assert done.returncode == 2
        [line] = done.stderr.splitlines()
        assert line.startswith("error: params.yaml: training.augmentation.flip: left_right: it is not known which")
        assert "folder.mirrored_labels" in line
        assert done.stdout == ""
    assert not (drawn / "optuna.journal").exists()
    assert not (drawn / "mlflow.db").exists()


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
