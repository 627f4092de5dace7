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

# By stage: a parameter and a file of data that the stage reads. The other trainings are the same command with another
# name. The last stage comes first: DVC removes the outputs of a stage that it runs, and no earlier one needs these.
EDITS = {
    "compare": ("gate.minimum_accuracy", "metrics/tuning/applied.json"),
    "evaluate": ("perturbations.seed", "data/folds/source.json"),
    "train_controls": ("bag_of_frames.learning_rate", "data/folds/source.json"),
    "generate": ("synthetic.jitter", "data/clips/new.mp4"),
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


def git(clone: Path, *arguments: str) -> None:
    done = run(clone, "git", *arguments)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def clone(reproduced: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which `dvc repro` has run and is committed."""
    copy = Path(shutil.copytree(reproduced, tmp_path_factory.mktemp("inputs") / "a copy", symlinks=True))
    git(copy, "add", "--all")
    git(copy, "commit", "--quiet", "--message", "recorded")
    return copy


@pytest.fixture
def whole_clone(clone: Path) -> Path:
    """This clone with all files of its last commit, whatever an earlier test has changed."""
    shutil.rmtree(clone / "data/clips", ignore_errors=True)
    git(clone, "checkout", "--quiet", ".")
    assert run(clone, "dvc", "checkout", "--quiet", "--force").returncode == 0
    return clone


def edit_during(clone: Path, stage: str, edit: Callable[[], object], *arguments: str) -> str:
    """Run `dvc repro`, which fails since files are edited while a stage runs, and return the stage's message."""
    earlier = {each.info.run_id for each in runs_of(clone, stage)}
    process = subprocess.Popen(
        ["dvc", "repro", *arguments, stage],
        cwd=clone, env=clean_environment(), text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip # two arguments that say what runs, and those that say how
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
def test_edits_while_a_stage_runs_are_named_and_nothing_is_recorded(stage: str, clone: Path) -> None:
    git(clone, "checkout", "--quiet", ".")
    parameter, data = EDITS[stage]
    lock = (clone / "dvc.lock").read_bytes()
    used = read_lock(clone / "dvc.lock")[stage].params[parameter]

    def edit() -> None:
        code = (clone / CODE).read_bytes()
        for content in (code + b"\n", code):  # A process that started in between would have run other code.
            (clone / CODE).write_bytes(content)
        edit_params(clone / "params.yaml", {parameter: used + 1})
        with (clone / data).open("a", encoding="utf-8") as file:
            file.write("\n")

    line = edit_during(clone, stage, edit, "--single-item", "--force")
    assert line.startswith(f"error: {stage}: changed while the stage ran: params.yaml: {parameter}: {used} became ")
    assert data in line
    assert CODE in line
    assert (clone / "dvc.lock").read_bytes() == lock
    assert not list((clone / ".resume").rglob("*.npz")), "no epoch of other code is used later"


def test_repro_keeps_the_finished_stages_and_goes_on_when_an_edit_is_undone(whole_clone: Path) -> None:
    clone = whole_clone
    edit_params(clone / "params.yaml", {"synthetic.jitter": 0.75})
    params, before = (clone / "params.yaml").read_bytes(), read_lock(clone / "dvc.lock")

    def edit() -> None:
        edit_params(clone / "params.yaml", {"training.patience": 99})

    assert "training.patience" in edit_during(clone, "train_convlstm", edit)
    now = read_lock(clone / "dvc.lock")
    assert [stage for stage in before if before[stage] != now[stage]] == ["generate"]
    assert now["generate"].params["synthetic.jitter"] == 0.75
    assert len(list((clone / ".resume/convlstm").iterdir())) == 2
    (clone / "params.yaml").write_bytes(params)
    done = run(clone, "dvc", "repro", "train_convlstm")
    assert done.returncode == 0, done.stderr
    assert "Stage 'generate' didn't change" in done.stdout
    assert read_lock(clone / "dvc.lock")["train_convlstm"].params["training.patience"] != 99


@pytest.mark.parametrize(
    ("moment", "stage", "before", "edit", "target", "lie"),
    [
        (
            "save",
            "generate",
            {"data.frames": 5},
            {"synthetic.jitter": 0.5},
            ["train_cnn3d"],
            "synthetic.jitter: 0.5 is recorded, but the stage used 1.0",
        ),
        (
            "save",
            "compare",
            {"gate.margin": 0.5},
            {"gate.minimum_accuracy": 0.25},
            [],
            "gate.minimum_accuracy: 0.25 is recorded, but the stage used 0.0",
        ),
        (
            "run",
            "generate",
            {"synthetic.jitter": 0.5},
            {"data.source": "folder"},
            ["train_cnn3d"],
            "folder.path: none is recorded, but the stage used data/clips",
        ),
    ],
    ids=["a stage in the middle", "the last stage", "another source"],
)
def test_an_edit_that_no_stage_can_see_ends_the_same_command_and_leaves_no_record(
    moment: str, stage: str, before: dict[str, Any], edit: dict[str, Any], target: list[str], lie: str,
    whole_clone: Path, example_clips: Path, tmp_path: Path,
) -> None:  # fmt: skip # a line for the case, and one for the fixtures
    clone = whole_clone
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


def test_what_dvc_commit_records_is_found_and_named(copy_of_reproduced: Path) -> None:
    clone = copy_of_reproduced
    edit_params(clone / "params.yaml", {"synthetic.jitter": 0.5})
    assert run(clone, "dvc", "commit", "--force", "generate").returncode == 0
    assert "up to date" in run(clone, "dvc", "status", "generate").stdout, "DVC itself believes it"
    lie = (
        "error: dvc.lock: generate: synthetic.jitter: 0.5 is recorded, but the stage used 1.0; run it again: "
        "dvc repro --single-item --force generate\n"
    )
    done = run(clone, "python", "-m", "pipeline.lineage", "data/train")
    assert (done.returncode, done.stderr) == (2, lie)
    synced = run(clone, "python", "-m", "pipeline.mlflow_sync")
    assert synced.returncode == 1
    assert f"generate: not logged: {lie.removeprefix('error: ')}" in synced.stderr
    recorded = (clone / "dvc.lock").read_bytes()
    for stage in ("keep_runs", "compare"):
        (clone / "dvc.lock").write_bytes(recorded)
        assert run(clone, "python", "-m", f"pipeline.{stage}").returncode == 2
        assert "generate" not in read_lock(clone / "dvc.lock")
    done = run(clone, "dvc", "repro", "generate")
    assert done.returncode == 0, done.stderr
    assert read_json(clone / "metrics/inputs/generate.json")["params"]["synthetic.jitter"] == 0.5
    assert run(clone, "python", "-m", "pipeline.keep_runs").returncode == 0


def test_kept_runs_bring_earlier_parameters_back_without_a_run(copy_of_reproduced: Path) -> None:
    clone = copy_of_reproduced  # whose last stage has kept its runs
    for minimum, cached in ((0.5, False), (0.0, True)):
        edit_params(clone / "params.yaml", {"gate.minimum_accuracy": minimum})
        done = run(clone, "dvc", "repro")
        assert done.returncode == 0, done.stderr
        assert ("is cached - skipping run" in done.stdout) == cached
        recorded = read_json(clone / "metrics/inputs/compare.json")["params"]
        assert recorded["gate.minimum_accuracy"] == minimum
