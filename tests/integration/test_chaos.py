"""Stages killed at random moments: what is left is whole, and the next `dvc repro` ends with the same outputs.

`make chaos` kills each stage 20 times.
"""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import clean_environment, run
from tests.integration.test_dvc_yaml import STAGES

pytestmark = pytest.mark.slow  # they train for real

KILLS = int(os.environ.get("CHAOS_KILLS", "1"))
# By default, one training stands for all: they are one command. A stage whose model is switched off is done at once.
OFF = ("train_cnn3d", "embed", "train_pretrained")
SPARED = OFF if KILLS > 1 else (*OFF, "train_cnn_lstm", "train_controls")
# What appears when a stage begins to write; a training writes checkpoints.
FIRST_FILES = {"generate": "data/.partial.*", "evaluate": "data/predictions.parquet", "compare": "metrics/.partial.*"}
# What DVC says of a file of its own that a kill left half-written, and the way out.
REMEDIES = {
    "dvc.lock": ["git", "checkout", "HEAD", "dvc.lock"],
    "Unable to read RWLock-file": ["rm", ".dvc/tmp/rwlock"],
}
WALL_CLOCK = (
    "metrics/training_timing/",
    "metrics/evaluation_timing.json",
    "metrics/comparison_timing.json",
    "reports/comparison/",
    "metrics/inputs/",  # which holds the md5s of times
)


@pytest.fixture(scope="module")
def survivor(reproduced: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a clone in which `dvc repro` has run, the same one for all kills."""
    clone = Path(shutil.copytree(reproduced, tmp_path_factory.mktemp("chaos") / "a copy", symlinks=True))
    assert run(clone, "git", "commit", "--quiet", "--all", "--message", "recorded").returncode == 0
    return clone


def outputs(clone: Path, stage: str) -> dict[str, bytes]:
    """Return the content of all files of a stage's outputs, by path."""
    found = [clone / (out if isinstance(out, str) else next(iter(out))) for out in STAGES[stage]["outs"]]
    files = [path for out in found for path in (out.rglob("*") if out.is_dir() else [out]) if path.is_file()]
    return {path.relative_to(clone).as_posix(): path.read_bytes() for path in files}


def stages_environment(clone: Path) -> dict[str, str]:
    return {"MLFLOW_TRACKING_URI": f"sqlite:///{clone}/mlflow.db.chaos"}


def killed_in_the_middle(clone: Path, stage: str, seconds: float, *, once_it_writes: bool) -> bool:
    """Start a stage and kill it and all its processes after `seconds`, unless it ends before; tell whether it did not.

    With `once_it_writes` they count from its first file: a training's is a checkpoint.
    """
    first = FIRST_FILES.get(stage, ".resume/*/*.npz")
    if stage == "evaluate":  # The partial table is there too briefly to be seen, and DVC removes the old one late.
        (clone / first).unlink(missing_ok=True)
    process = subprocess.Popen(
        ["dvc", "repro", "--single-item", "--force", stage],
        cwd=clone,
        env=clean_environment() | stages_environment(clone),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while once_it_writes and process.poll() is None and not list(clone.glob(first)):
        time.sleep(0.01)
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
        return False
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return True


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage not in SPARED])
def test_killed_stage_leaves_whole_files_and_same_outputs_next(stage: str, survivor: Path) -> None:
    expected = outputs(survivor, stage)
    untracked = untracked_files(survivor)
    environment = stages_environment(survivor)
    moments = random.Random(stage)  # noqa: S311 # chaos, no cryptography
    seconds = 0.0  # that the stage takes here, from its start
    if KILLS > 1:
        started = time.monotonic()
        assert run(survivor, "dvc", "repro", "--single-item", "--force", stage, **environment).returncode == 0
        seconds = time.monotonic() - started
    for number in range(KILLS):
        late = number % 2 == 0
        limit = (2 if stage.startswith("train_") else 0.5) if late else seconds
        attempts = (
            killed_in_the_middle(survivor, stage, moments.uniform(0, limit), once_it_writes=late) for _ in range(10)
        )
        assert any(attempts), f"{stage} always ended before its kill"
        left = outputs(survivor, stage)
        check_that_each_file_is_whole(left, expected)
        shutil.rmtree(survivor / ".dvc/cache")  # from which DVC would restore what an earlier run made
        done = run(survivor, "dvc", "repro", "--no-run-cache", stage, **environment)
        remedies = [remedy for words, remedy in REMEDIES.items() if done.returncode and words in done.stderr]
        for remedy in remedies:
            assert run(survivor, *remedy).returncode == 0
            done = run(survivor, "dvc", "repro", "--no-run-cache", stage, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        found = outputs(survivor, stage)
        assert found.keys() == expected.keys()
        assert [path for path in found if not path.startswith(WALL_CLOCK) and found[path] != expected[path]] == []
        ran = f"Running stage '{stage}'" in done.stdout
        if ran:  # else what the killed one left beside the outputs waits for the next that does
            assert [path for path in survivor.rglob(".partial*") if ".dvc" not in path.parts] == []
            checkpoints = survivor.glob(".resume/*/*.npz")
            assert [path for path in checkpoints if f"models/{path.parent.name}" in STAGES[stage]["outs"]] == []
        told = "; ".join(["ran" if ran else "had nothing to do", *(" ".join(remedy) for remedy in remedies)])
        print(f"{stage}: kill {number + 1} left {len(left)} of {len(expected)} files; the next run {told}")
    assert untracked_files(survivor) == untracked


def untracked_files(clone: Path) -> list[str]:
    return run(clone, "git", "ls-files", "--others", "--exclude-standard").stdout.splitlines()


def check_that_each_file_is_whole(found: dict[str, bytes], expected: dict[str, Any]) -> None:
    for path, content in found.items():
        assert path in expected
        if path.endswith(".json"):
            json.loads(content)
        if not path.startswith(WALL_CLOCK):
            assert content == expected[path], path
        elif path.endswith(".html"):
            assert content.endswith(b"</html>\n")


def test_kill_while_tables_are_created_leaves_no_broken_store(reproduced: Path, tmp_path: Path) -> None:
    clone = Path(shutil.copytree(reproduced, tmp_path / "a copy", symlinks=True))
    store = clone / "other.db"
    environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{store}"}
    for tables in (1, 30):
        with subprocess.Popen(
            ["python", "-m", "pipeline.generate"], cwd=clone, env=clean_environment() | environment
        ) as process:
            while number_of_tables(clone / ".partial.other.db") < tables:
                assert process.poll() is None
                time.sleep(0.01)
            process.kill()
        assert not store.exists()
    done = run(clone, "python", "-m", "pipeline.generate", **environment)
    assert done.returncode == 0, done.stderr
    assert number_of_tables(store) > 30
    assert not list(clone.glob(".partial*"))


def number_of_tables(database: Path) -> int:
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()[0])
    except sqlite3.OperationalError:  # not there yet, or locked
        return 0
