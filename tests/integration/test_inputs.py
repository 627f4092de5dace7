"""Edits while stages run: what DVC and MLflow record is what was used, or nothing."""

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest

from motionbench.core.dvc_files import read_lock
from motionbench.core.files import read_json
from tests.conftest import clean_environment, edit_params, run

pytestmark = pytest.mark.slow  # they train for real

NEW_CLIP = "data/clips/new.mp4"
# By stage: a parameter and a file of data that the stage reads, and an output that is a folder.
EDITS = {
    "generate": ("synthetic.jitter", NEW_CLIP, "reports/samples"),
    "train_cnn_lstm": ("cnn_lstm.learning_rate", "data/folds/source.json", "models/cnn_lstm"),
    "train_controls": ("bag_of_frames.learning_rate", "data/folds/source.json", "models/single_frame"),
    "compare": ("gate.minimum_accuracy", "metrics/tuning/applied.json", "reports/comparison"),
}
CODE = "src/motionbench/core/paths.py"


@pytest.fixture(scope="module")
def clone(reproduced: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a clone in which `dvc repro` has run; its outputs are committed."""
    copy = Path(shutil.copytree(reproduced, tmp_path_factory.mktemp("inputs") / "a copy", symlinks=True))
    for arguments in (["add", "--all"], ["commit", "--quiet", "--message", "recorded"]):
        assert run(copy, "git", *arguments).returncode == 0
    return copy


def run_and_edit(clone: Path, stage: str, edit: Callable[[], object]) -> str:
    """Run a stage, edit once it writes its outputs, check that nothing of it is recorded, and return its message."""
    before = (clone / "dvc.lock").read_bytes()
    line = edit_during(clone, stage, edit, "dvc", "repro", "--single-item", "--force", stage)
    assert (clone / "dvc.lock").read_bytes() == before
    return line


def edit_during(clone: Path, stage: str, edit: Callable[[], object], *command: str) -> str:
    """Run a command that fails since files are edited while a stage writes its outputs; return the stage's message."""
    output = clone / (EDITS[stage][2] if stage in EDITS else "models/convlstm")
    process = subprocess.Popen(
        command, cwd=clone, env=clean_environment(), text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    while not output.with_name(f".partial.{output.name}").exists():
        assert process.poll() is None
        time.sleep(0.01)
    edit()
    _, messages = process.communicate()
    assert process.returncode != 0
    assert "Traceback" not in messages
    assert not (clone / "metrics/inputs" / f"{stage}.json").exists()
    client = mlflow.MlflowClient(f"sqlite:///{clone}/mlflow.db")
    experiment = client.get_experiment_by_name("motionbench")
    assert experiment
    newest = client.search_runs([experiment.experiment_id], f"tags.`dvc.stage` = '{stage}'", max_results=1)
    assert {each.info.status for each in newest} == {"FAILED"}
    [line] = [line for line in messages.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.parametrize("stage", EDITS)
def test_what_is_edited_while_a_stage_runs_is_named_and_nothing_is_recorded(stage: str, clone: Path) -> None:
    parameter, data, _ = EDITS[stage]
    used = read_lock(clone / "dvc.lock")[stage].params[parameter]

    def edit() -> None:
        edit_params(clone / "params.yaml", {parameter: used + 0.001})
        for path in (data, CODE):
            with (clone / path).open("a", encoding="utf-8") as file:
                file.write("\n")

    line = run_and_edit(clone, stage, edit)
    assert line.startswith(f"error: {stage}: changed while the stage ran: params.yaml: {parameter}: {used} became ")
    assert data in line
    assert CODE in line
    restore(clone)


def restore(clone: Path) -> None:
    """Bring the files of the last commit back."""
    (clone / NEW_CLIP).unlink(missing_ok=True)
    for command in (["git", "checkout", "--quiet", "--force", "."], ["dvc", "checkout", "--quiet", "--force"]):
        assert run(clone, *command).returncode == 0


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


def test_checkout_of_another_commit_while_a_stage_runs_records_nothing(clone: Path) -> None:
    here = run(clone, "git", "rev-parse", "--abbrev-ref", "HEAD").stdout.strip()
    run(clone, "git", "commit", "--quiet", "--all", "--message", "recorded again")
    assert run(clone, "git", "checkout", "--quiet", "-b", "other").returncode == 0
    edit_params(clone / "params.yaml", {"training.patience": 99})
    with (clone / CODE).open("a", encoding="utf-8") as file:
        file.write("\n")
    run(clone, "git", "commit", "--quiet", "--all", "--message", "other")
    run(clone, "git", "checkout", "--quiet", here)
    line = run_and_edit(clone, "train_cnn_lstm", lambda: run(clone, "git", "checkout", "--quiet", "other"))
    assert "training.patience" in line
    assert CODE in line
    # And back, while it runs: a process that started in between would have run other code.
    assert run(clone, "git", "checkout", "--quiet", "--force", here).returncode == 0

    def there_and_back() -> None:
        for branch in ("other", here):
            assert run(clone, "git", "checkout", "--quiet", branch).returncode == 0

    assert CODE in run_and_edit(clone, "train_cnn_lstm", there_and_back)


def test_an_edit_while_dvc_records_is_found_and_named(copy_of_reproduced: Path) -> None:
    clone = copy_of_reproduced
    (clone / ".venv").mkdir()
    (clone / ".venv/installed").write_text(f"{clone.resolve()}\n", encoding="utf-8")  # so that make installs nothing
    edit_params(clone / "params.yaml", {"cnn_lstm.learning_rate": 0.004})
    assert run(clone, "dvc", "commit", "--force", "train_cnn_lstm").returncode == 0
    assert "up to date" in run(clone, "dvc", "status", "train_cnn_lstm").stdout, "DVC itself believes it"
    lie = (
        "error: dvc.lock: train_cnn_lstm: cnn_lstm.learning_rate: 0.004 is recorded, but the stage used 0.005; run it "
        "again: dvc repro --single-item --force train_cnn_lstm\n"
    )
    for command in (["keep_runs"], ["compare"], ["lineage", "models/cnn_lstm"]):
        done = run(clone, "python", "-m", f"pipeline.{command[0]}", *command[1:])
        assert (done.returncode, done.stderr) == (2, lie)
    assert lie in run(clone, "make", "repro").stderr
    synced = run(clone, "python", "-m", "pipeline.mlflow_sync")
    assert synced.returncode == 1
    assert f"train_cnn_lstm: not logged: {lie.removeprefix('error: ')}" in synced.stderr
    done = run(clone, "dvc", "repro", "--force", "--single-item", "train_cnn_lstm")
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
