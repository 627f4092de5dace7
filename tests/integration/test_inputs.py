"""Edits while stages run: what DVC and MLflow record is what was used, or nothing."""

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities import Run

from motionbench.core.dvc_files import read_lock
from motionbench.core.files import read_json
from tests.conftest import clean_environment, edit_params, run
from tests.integration.test_folder import add_clips

pytestmark = pytest.mark.slow  # they train for real

NEW_CLIP = "data/clips/new.mp4"
# By stage: a parameter and a file of data that the stage reads.
EDITS = {
    "generate": ("synthetic.jitter", NEW_CLIP),
    "train_cnn_lstm": ("cnn_lstm.learning_rate", "data/folds/source.json"),
    "train_convlstm": ("convlstm.learning_rate", "data/folds/source.json"),
    "train_cnn3d": ("cnn3d.learning_rate", "data/folds/source.json"),
    "train_controls": ("bag_of_frames.learning_rate", "data/folds/source.json"),
    "evaluate": ("perturbations.seed", "data/folds/source.json"),
    "compare": ("gate.minimum_accuracy", "metrics/tuning/applied.json"),
}
CODE = "src/motionbench/core/paths.py"
# Runs `dvc repro` and puts another params.yaml there in the moment when DVC runs or saves a stage.
REPRO_WITH_EDIT = """
import shutil, sys
from dvc.cli import main
from dvc.stage import PipelineStage

moment, stage, params, *arguments = sys.argv[1:]
original = getattr(PipelineStage, moment)

def edited(self, *arguments, **options):
    if self.name == stage:
        shutil.copy(params, "params.yaml")
    return original(self, *arguments, **options)

setattr(PipelineStage, moment, edited)
sys.exit(main(["repro", *arguments]))
"""


def git(clone: Path, *arguments: str) -> str:
    done = run(clone, "git", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def clone(reproduced: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which `dvc repro` has run and is committed, with a branch `other` of other parameters and code."""
    copy = Path(shutil.copytree(reproduced, tmp_path_factory.mktemp("inputs") / "a copy", symlinks=True))
    git(copy, "checkout", "--quiet", "-b", "here")
    git(copy, "add", "--all")
    git(copy, "commit", "--quiet", "--message", "recorded")
    git(copy, "checkout", "--quiet", "-b", "other")
    recorded = read_lock(copy / "dvc.lock")
    parameters = {key: recorded[stage].params[key] for stage, (key, _) in EDITS.items()}
    edit_params(copy / "params.yaml", {"cnn3d.enabled": True, **{key: value + 1 for key, value in parameters.items()}})
    touch(copy, CODE)
    git(copy, "commit", "--quiet", "--all", "--message", "other")
    git(copy, "checkout", "--quiet", "here")
    return copy


def touch(clone: Path, path: str) -> None:
    """Add an empty line to a file."""
    with (clone / path).open("a", encoding="utf-8") as file:
        file.write("\n")


def run_and_edit(clone: Path, stage: str, edit: Callable[[], object]) -> str:
    """Run a stage, edit while it runs, check that nothing of it is recorded, and return its message."""
    before = (clone / "dvc.lock").read_bytes()
    line = edit_during(clone, stage, edit, "dvc", "repro", "--single-item", "--force", stage)
    assert (clone / "dvc.lock").read_bytes() == before
    return line


def edit_during(clone: Path, stage: str, edit: Callable[[], object], *command: str) -> str:
    """Run a command that fails since files are edited while a stage runs, and return the stage's message."""
    earlier = {each.info.run_id for each in runs_of(clone, stage)}
    process = subprocess.Popen(
        command, cwd=clone, env=clean_environment(), text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    while {each.info.run_id for each in runs_of(clone, stage)} == earlier:  # which it starts before it computes
        assert process.poll() is None
        time.sleep(0.01)
    edit()
    _, messages = process.communicate()
    assert process.returncode != 0
    assert "Traceback" not in messages
    assert not (clone / "metrics/inputs" / f"{stage}.json").exists()
    assert {each.info.status for each in runs_of(clone, stage) if each.info.run_id not in earlier} == {"FAILED"}
    [line] = [line for line in messages.splitlines() if line.startswith("error: ")]
    return line


def runs_of(clone: Path, stage: str) -> list[Run]:
    client = mlflow.MlflowClient(f"sqlite:///{clone}/mlflow.db")
    experiment = client.get_experiment_by_name("motionbench")
    assert experiment
    return list(client.search_runs([experiment.experiment_id], f"tags.`dvc.stage` = '{stage}'"))


@pytest.mark.parametrize("stage", EDITS)
def test_a_checkout_and_an_edit_while_a_stage_runs_are_named_and_nothing_is_recorded(stage: str, clone: Path) -> None:
    if stage == "train_cnn3d":
        edit_params(clone / "params.yaml", {"cnn3d.enabled": True})  # Switched off, it ends before an edit.
    parameter, data = EDITS[stage]
    used = read_lock(clone / "dvc.lock")[stage].params[parameter]

    def edit() -> None:
        git(clone, "checkout", "--quiet", "--force", "other")
        touch(clone, data)

    line = run_and_edit(clone, stage, edit)
    assert line.startswith(f"error: {stage}: changed while the stage ran: params.yaml: ")
    assert f"params.yaml: {parameter}: {used} became " in line
    assert stage == "compare" or (data in line and CODE in line), "which has two parameters, and three are named"
    restore(clone)


def restore(clone: Path) -> None:
    """Bring the files of the last commit back."""
    shutil.rmtree(clone / "data/clips", ignore_errors=True)
    git(clone, "checkout", "--quiet", "--force", "here")
    assert run(clone, "dvc", "checkout", "--quiet", "--force").returncode == 0


def test_a_checkout_there_and_back_while_a_stage_runs_records_nothing(clone: Path) -> None:
    def there_and_back() -> None:  # A process that started in between would have run other code.
        for branch in ("other", "here"):
            git(clone, "checkout", "--quiet", branch)

    assert CODE in run_and_edit(clone, "train_cnn_lstm", there_and_back)
    assert not list((clone / ".resume").glob("cnn_lstm/*.npz")), "no epoch of that is used later"
    restore(clone)


def test_make_repro_keeps_the_finished_stages_and_goes_on_when_an_edit_is_undone(clone: Path) -> None:
    (clone / ".venv").mkdir()
    (clone / ".venv/installed").write_text(f"{clone.resolve()}\n", encoding="utf-8")  # so that make installs nothing
    edit_params(clone / "params.yaml", {"cnn_lstm.epochs": 1, "convlstm.epochs": 3})
    params, before = (clone / "params.yaml").read_bytes(), read_lock(clone / "dvc.lock")

    def edit() -> None:
        edit_params(clone / "params.yaml", {"training.patience": 99})

    line = edit_during(clone, "train_convlstm", edit, "make", "repro")
    assert "training.patience" in line
    now = read_lock(clone / "dvc.lock")
    assert [stage for stage in before if before[stage] != now[stage]] == ["train_cnn_lstm"]
    assert now["train_cnn_lstm"].params["cnn_lstm.epochs"] == 1
    assert len(list((clone / ".resume/convlstm").iterdir())) == 2
    (clone / "params.yaml").write_bytes(params)
    done = run(clone, "make", "repro")
    assert done.returncode == 0, done.stderr
    assert "Stage 'train_cnn_lstm' didn't change" in done.stdout
    assert read_lock(clone / "dvc.lock")["train_convlstm"].params["training.patience"] != 99
    restore(clone)


@pytest.mark.parametrize(
    ("moment", "stage", "before", "edit", "target", "lie"),
    [
        (
            "save", "train_cnn_lstm", {"cnn_lstm.epochs": 1}, {"cnn_lstm.learning_rate": 0.5}, ["evaluate"],
            "cnn_lstm.learning_rate: 0.5 is recorded, but the stage used 0.005",
        ),
        (
            "save", "compare", {"gate.margin": 0.5}, {"gate.minimum_accuracy": 0.25}, [],
            "gate.minimum_accuracy: 0.25 is recorded, but the stage used 0.0",
        ),
        (
            "run", "generate", {"synthetic.jitter": 0.5}, {"data.source": "folder"}, ["train_cnn3d"],
            "folder.path: none is recorded, but the stage used data/clips",
        ),
    ],
    ids=["a stage in the middle", "the last stage", "another source"],
)  # fmt: skip
def test_an_edit_that_no_stage_can_see_ends_the_same_command_and_leaves_no_record(
    moment: str, stage: str, before: dict[str, Any], edit: dict[str, Any], target: list[str], lie: str,
    clone: Path, example_clips: Path, tmp_path: Path,
) -> None:  # fmt: skip
    add_clips(example_clips, clone)
    edit_params(clone / "params.yaml", before)
    edited = Path(shutil.copy(clone / "params.yaml", tmp_path))
    edit_params(edited, edit)
    done = run(clone, "python", "-c", REPRO_WITH_EDIT, moment, stage, str(edited), *target)
    assert done.returncode != 0
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line == f"error: dvc.lock: {stage}: {lie}; the record is removed: run the command again"
    assert stage not in read_lock(clone / "dvc.lock")
    done = run(clone, "dvc", "repro", stage)  # which finds nothing false in DVC's run cache
    assert f"Running stage '{stage}'" in done.stdout, done.stderr
    assert next(iter(edit.items())) in read_lock(clone / "dvc.lock")[stage].params.items()
    restore(clone)


def test_what_dvc_commit_records_is_found_and_named(copy_of_reproduced: Path) -> None:
    clone = copy_of_reproduced
    edit_params(clone / "params.yaml", {"cnn_lstm.learning_rate": 0.004})
    assert run(clone, "dvc", "commit", "--force", "train_cnn_lstm").returncode == 0
    assert "up to date" in run(clone, "dvc", "status", "train_cnn_lstm").stdout, "DVC itself believes it"
    lie = (
        "error: dvc.lock: train_cnn_lstm: cnn_lstm.learning_rate: 0.004 is recorded, but the stage used 0.005; run it "
        "again: dvc repro --single-item --force train_cnn_lstm\n"
    )
    done = run(clone, "python", "-m", "pipeline.lineage", "models/cnn_lstm")
    assert (done.returncode, done.stderr) == (2, lie)
    synced = run(clone, "python", "-m", "pipeline.mlflow_sync")
    assert synced.returncode == 1
    assert f"train_cnn_lstm: not logged: {lie.removeprefix('error: ')}" in synced.stderr
    recorded = (clone / "dvc.lock").read_bytes()
    for stage in ("keep_runs", "compare"):
        (clone / "dvc.lock").write_bytes(recorded)
        assert run(clone, "python", "-m", f"pipeline.{stage}").returncode == 2
        assert "train_cnn_lstm" not in read_lock(clone / "dvc.lock")
    done = run(clone, "dvc", "repro", "train_cnn_lstm")
    assert done.returncode == 0, done.stderr
    assert read_json(clone / "metrics/inputs/train_cnn_lstm.json")["params"]["cnn_lstm.learning_rate"] == 0.004
    assert run(clone, "python", "-m", "pipeline.keep_runs").returncode == 0


def test_kept_runs_bring_earlier_parameters_back_without_training(copy_of_reproduced: Path) -> None:
    clone = copy_of_reproduced
    edits = ({"single_frame.epochs": 1}, {"single_frame.epochs": 2})
    assert run(clone, "python", "-m", "pipeline.keep_runs").returncode == 0
    for edit in edits:
        before = (clone / "metrics/training/single_frame/history.csv").read_bytes()
        edit_params(clone / "params.yaml", edit)
        done = run(clone, "dvc", "repro", "--single-item", "train_controls")
        assert done.returncode == 0, done.stderr
        assert (clone / "metrics/training/single_frame/history.csv").read_bytes() != before
        assert ("is cached - skipping run" in done.stdout) == (edit == edits[1])
        assert run(clone, "python", "-m", "pipeline.keep_runs").returncode == 0
