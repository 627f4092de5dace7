"""An experiment, in a temporary copy, on video files that git does not have."""

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from motionbench.core.files import read_json
from motionbench.core.paths import DECODED
from tests.conftest import ROOT, TINY, clean_environment, clone_with, run
from tests.execution.test_engine import eventually
from tests.integration.test_folder import add_clips
from tests.integration.test_pipeline import LOGGED, stage_runs

pytestmark = pytest.mark.slow  # it trains for real

FOLDER = {
    **TINY,
    "data.source": "folder",
    "training.seeds": [0],
    **{f"{name}.epochs": 1 for name in ("cnn_lstm", "convlstm", "single_frame", "bag_of_frames")},
}


def test_an_experiment_in_a_temporary_copy_sees_the_clips_and_the_store(tmp_path: Path, example_clips: Path) -> None:
    clone = clone_with(FOLDER, tmp_path)
    add_clips(example_clips, clone)
    (clone / "data/clips/square").rename(clone / "data/clips/carré")
    (clone / "data/clips/carré/recorder-01_01.mp4").write_text("no video")
    (clone / "experiments/grouped.yaml").write_text(
        "folder: {group: '(recorder-\\d+)', on_bad: skip, flipped_labels: [], reversed_labels: [[carré, rightward]]}\n"
        "convlstm: {enabled: true}  # which params.yaml does not have",
        encoding="utf-8",
    )
    (clone / "src/motionbench/new one.py").touch()
    with (clone / "pipeline/compare.py").open("a") as code:
        code.write("__import__('motionbench.new one')\n")
    done = run(clone, "python", "-m", "pipeline.experiment", "grouped")
    lacks = "src/motionbench/new one.py: git does not have it, nor would the experiment; run: git add"
    assert (done.returncode, done.stderr) == (2, f"error: {lacks} 'src/motionbench/new one.py'\n")
    assert run(clone, "git", "add", "src/motionbench/new one.py").returncode == 0
    done = run(clone, "python", "-m", "pipeline.experiment", "grouped")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bad clip: carré/recorder-01_01.mp4: damaged" in done.stderr
    assert "dvc exp apply grouped\nand then: dvc repro --single-item --force compare\n" in done.stdout
    files = list((clone / "data/clips").glob("*/*.mp4"))
    assert len(list((clone / DECODED).iterdir())) == len(files) - 1, "decoded for this and other experiments"
    assert not (clone / "models/convlstm").exists(), "the working tree stays as it is"
    parents = stage_runs(clone)
    assert list(parents) == LOGGED
    assert {parent.data.tags["dvc.experiment"] for parent in parents.values()} == {"grouped"}
    assert parents["generate"].data.params["folder.on_bad"] == "skip"
    kept = [clone / "mlflow.db", *(clone / "mlruns").rglob("*")]
    assert not [path for path in kept if path.is_file() and b".dvc/tmp/exps" in path.read_bytes()]
    assert run(clone, "dvc", "exp", "apply", "grouped").returncode == 0
    names = read_json(clone / "data/train/class_names.json")
    assert names == ["carré", "leftward", "rightward"]
    source = read_json(clone / "data/folds/source.json")
    assert list(source["skipped"]) == ["carré/recorder-01_01.mp4"]
    assert source["label_maps"] == {"reversed": {"carré": "rightward", "rightward": "carré"}, "flipped": {}}


STAGE = """
stages:
  wait:
    cmd: sh -c 'echo > out; touch "$STARTED"; test -n "$GO" || sleep 3600'
    params: [number]
    outs: [out]
"""


def test_what_a_kill_leaves_of_an_experiment_is_removed_as_the_documentation_says(tmp_path: Path) -> None:
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    [remedy] = re.findall(r"(?m)^    (rm -rf .*/exps/.*)$", page)
    (tmp_path / "dvc.yaml").write_text(STAGE)
    (tmp_path / "params.yaml").write_text("number: 0\n")
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    for command in ("git init -q", "dvc init -q", "git add --all", f"git {' '.join(identity)} commit -qm test"):
        assert run(tmp_path, *command.split()).returncode == 0
    started, copies = tmp_path / "started", tmp_path / ".dvc/tmp/exps/standalone"
    experiment = ["dvc", "exp", "run", "--temp", "--set-param"]
    settings = clean_environment() | {"STARTED": str(started)}
    process = subprocess.Popen([*experiment, "number=1"], cwd=tmp_path, env=settings, start_new_session=True)
    eventually(started.exists)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert list(copies.glob("tmp*/dvc.yaml"))
    assert run(tmp_path, "sh", "-c", remedy).returncode == 0
    assert not list(copies.glob("tmp*"))
    done = run(tmp_path, *experiment, "number=2", STARTED=str(started), GO="1")
    assert done.returncode == 0, done.stderr
