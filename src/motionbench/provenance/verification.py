"""Every stage run again from nothing in a clone of the last commit, its outputs held against that commit's dvc.lock."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from motionbench.core.dvc_files import StageLock, is_wall_clock, read_lock
from motionbench.core.errors import UserError
from motionbench.core.files import path_md5, read_json
from motionbench.core.paths import DVC_LOCK
from motionbench.core.processes import git


class Check(NamedTuple):
    """An output, its md5 in dvc.lock, and that of the one made anew."""

    stage: str
    out: str
    expected: str
    found: str

    @property
    def timed(self) -> bool:
        """Whether it holds what was measured with a clock, and so differs in every run."""
        return is_wall_clock(self.out)

    @property
    def equal(self) -> bool:
        """Whether both are the same."""
        return self.expected == self.found


class Verification(NamedTuple):
    """What came of running all stages again."""

    checks: list[Check]
    recorded_on: dict[str, list[str]]
    """By file with timings: the environment of the run that dvc.lock is of."""
    other_inputs: list[str]
    """Code and parameters of the commit that are others than dvc.lock's, which was then not made by this commit's."""


def verify() -> Verification:
    """Run all stages of HEAD in a temporary clone, which is removed afterwards, also if this is interrupted.

    Raises:
        UserError: if there is no commit or no dvc.lock in it, or if a stage fails.
    """
    commit = git("rev-parse", "HEAD").strip()
    with TemporaryDirectory(prefix="motionbench-verify-", ignore_cleanup_errors=True) as folder:
        clone = Path(folder, "clone")
        git("clone", "--quiet", "--shared", "--no-checkout", ".", str(clone))
        git("-C", str(clone), "checkout", "--quiet", "--detach", commit)
        recorded = read_lock(clone / DVC_LOCK)
        timings = {
            out: clone / out
            for entry in recorded.values()
            for out in entry.outs
            if is_wall_clock(out) and out.endswith(".json")
        }
        recorded_on = {
            out: environment
            for out, file in timings.items()
            if file.exists() and (environment := read_json(file).get("environment"))
        }
        _reproduce(clone)
        anew = read_lock(clone / DVC_LOCK)
        checks = [
            Check(entry.stage, out, md5, path_md5(clone / out) if (clone / out).exists() else "none")
            for entry in recorded.values()
            for out, md5 in entry.outs.items()
        ]
    return Verification(checks, recorded_on, _other_inputs(recorded, anew))


def _reproduce(clone: Path) -> None:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MLFLOW_TRACKING"))}
    python = Path(sys.executable)
    environment = {**inherited, "PATH": f"{python.parent}{os.pathsep}{inherited['PATH']}"}
    # No output is in the clone's cache, and no stage is taken from the run cache.
    command = [str(python), "-m", "dvc", "repro", "--force", "--no-run-cache", "--no-commit"]
    with _ended(subprocess.Popen(command, cwd=clone, env=environment, start_new_session=True)) as process:
        if process.wait() != 0:
            raise UserError("a stage failed in the clone, see above; what was made there is removed")


@contextmanager
def _ended(process: "subprocess.Popen[bytes]") -> Iterator["subprocess.Popen[bytes]"]:
    """Yield a process that leads a session, and end all of that session if the block is left early."""
    try:
        yield process
    finally:
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            if process.poll() is None:
                os.killpg(process.pid, signal_number)
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    continue


def _other_inputs(recorded: dict[str, StageLock], anew: dict[str, StageLock]) -> list[str]:
    made = {out for entry in recorded.values() for out in entry.outs}
    others = set()
    for stage, entry in recorded.items():
        now = anew[stage]
        others |= {path for path, md5 in now.deps.items() if path not in made and entry.deps.get(path) != md5}
        others |= {key for key, value in now.params.items() if entry.params.get(key) != value}
    return sorted(others)
