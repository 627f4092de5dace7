"""All stages run again in a clone of the last commit, their outputs compared with that commit's dvc.lock."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from motionbench.core.dvc_files import StageLock, is_result, is_wall_clock, read_lock
from motionbench.core.errors import UserError
from motionbench.core.files import path_md5, read_json
from motionbench.core.paths import COMPARISON_METRICS, COMPARISON_TIMING, DVC_LOCK, PARAMS
from motionbench.core.processes import PACKAGES, git
from motionbench.params.loading import load_params

PACKAGES_AND_PYTHON = tuple(f"{name} " for name in ("Python", *PACKAGES))


class Check(NamedTuple):
    """An output, its md5 in dvc.lock, and its md5 in the clone."""

    stage: str
    out: str
    expected: str
    found: str

    @property
    def result(self) -> str:
        """Return "equal" or "DIFFERENT"; times, which differ in every run, and what was used are not compared."""
        if not is_result(self.out):
            return "not compared: timings" if is_wall_clock(self.out) else "not compared: inputs"
        return "equal" if self.expected == self.found else "DIFFERENT"


class Verification(NamedTuple):
    """The result of running all stages again."""

    checks: list[Check]
    recorded_on: dict[str, list[str]]  # by file with timings: the environment of the run that dvc.lock describes
    deps: dict[str, list[str]]  # by stage, what it reads
    other_inputs: list[str]
    """Code and parameters of the commit that differ from those in dvc.lock: other code made its outputs."""
    other_conclusions: list[str]
    """Where the comparison ends otherwise than the recorded one; one line each."""

    def different(self) -> list[str]:
        """Return the outputs that differ."""
        return [each.out for each in self.checks if each.result == "DIFFERENT"]

    def elsewhere(self, here: Sequence[str]) -> list[str]:
        """Return of which machines stages were recorded that are not this one, if that can be why outputs differ.

        That is so if each output that differs is of a stage that was recorded on another machine with the packages that
        are here, or of one that reads such an output.

        Args:
            here: the environment, as `describe_environment` returns it.
        """
        if self.other_inputs:
            return []
        machines = {
            check.stage: [each for each in self.recorded_on[check.out] if each not in here and " cores" not in each]
            for check in self.checks
            if check.out in self.recorded_on
        }
        explained: list[Path] = []
        for check in self.checks:  # in the order of the stages
            if check.result != "DIFFERENT":
                continue
            machine = machines.get(check.stage, [])
            reads = any(out.is_relative_to(dep) for out in explained for dep in self.deps[check.stage])
            if any(each.startswith(PACKAGES_AND_PYTHON) for each in machine) or not (machine or reads):
                return []
            explained.append(Path(check.out))
        return sorted({each for machine in machines.values() for each in machine}) if explained else []


def verify() -> Verification:
    """Run all stages of HEAD in a temporary clone, which is removed at the end, also after an interrupt.

    Raises:
        UserError: if there is no commit or no dvc.lock in it, or if a stage fails.
    """
    commit = git("rev-parse", "HEAD").strip()
    with TemporaryDirectory(prefix="motionbench-verify-", ignore_cleanup_errors=True) as folder:
        clone = Path(folder, "clone")
        git("clone", "--quiet", "--shared", "--no-checkout", ".", str(clone))
        git("-C", str(clone), "checkout", "--quiet", "--detach", commit)
        for path in load_params(clone / PARAMS).untracked_files():
            copy = shutil.copytree if path.is_dir() else shutil.copy2
            (clone / path).parent.mkdir(parents=True, exist_ok=True)
            copy(path, clone / path)
        recorded = read_lock(clone / DVC_LOCK)
        recorded_on = {
            out: read_json(clone / out)["environment"]
            for entry in recorded.values()
            for out in entry.outs
            if is_wall_clock(out) and out.endswith(".json") and (clone / out).exists()
        }
        before = _conclusions(clone)
        _reproduce(clone)
        again, after = read_lock(clone / DVC_LOCK), _conclusions(clone)
        checks = [
            Check(entry.stage, out, md5, path_md5(clone / out) if (clone / out).exists() else "none")
            for entry in recorded.values()
            for out, md5 in entry.outs.items()
        ]
    deps = {stage: [*entry.deps] for stage, entry in recorded.items()}
    return Verification(checks, recorded_on, deps, _other_inputs(recorded, again), other_conclusions(before, after))


def _conclusions(clone: Path) -> dict[str, Any]:
    """Return the summary of the comparison, and the champion; nothing if there are none."""
    summary, timing = clone / COMPARISON_METRICS / "summary.json", clone / COMPARISON_TIMING
    if not summary.exists() or not timing.exists():
        return {}
    return {**read_json(summary), "champion": read_json(timing)["champion"]}


def other_conclusions(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return where two comparisons end differently: conclusions, champion, accuracies out of the first's intervals.

    Args:
        before, after: summary.json, with the champion's file under "champion".
    """
    if not before:
        return ["no comparison is recorded"]
    if "conclusions" not in before:
        return ["not compared: an earlier version of the project recorded the comparison"]
    was, now = ({**each["conclusions"], "champion": each["champion"] or "none"} for each in (before, after))
    changed = [
        f"{key}: {was.get(key, 'nothing')} became {now.get(key, 'nothing')}"
        for key in was | now
        if now.get(key) != was.get(key)
    ]
    for name in sorted(before.keys() & after.keys() - {"best", "difference", "conclusions", "champion"}):
        low, high, accuracy = before[name]["low"], before[name]["high"], after[name]["accuracy"]
        if not low <= accuracy <= high:
            changed.append(f"{name}: accuracy {accuracy:.3f}, not within {low:.3f} to {high:.3f}")
    return changed


def _reproduce(clone: Path) -> None:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MLFLOW_TRACKING"))}
    python = Path(sys.executable)
    environment = {**inherited, "PATH": f"{python.parent}{os.pathsep}{inherited['PATH']}"}
    # No output is in the clone's cache, and no stage is taken from the run cache.
    command = [str(python), "-m", "dvc", "repro", "--force", "--no-run-cache", "--no-commit"]
    process = subprocess.Popen(command, cwd=clone, env=environment, start_new_session=True)
    try:
        if process.wait() != 0:
            raise UserError("a stage failed in the clone, see above; the clone is removed")
    finally:
        # After an interrupt, end the whole session.
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            if process.poll() is None:
                os.killpg(process.pid, signal_number)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=10)


def _other_inputs(recorded: dict[str, StageLock], again: dict[str, StageLock]) -> list[str]:
    outs = [Path(out) for entry in recorded.values() for out in entry.outs]
    changed = {
        key
        for stage, entry in recorded.items()
        for key, value in {**again[stage].deps, **again[stage].params}.items()
        if {**entry.deps, **entry.params}.get(key) != value and not any(out.is_relative_to(key) for out in outs)
    }
    return sorted(changed)
