"""What a stage, a training or a decoded clip was computed from: parameters, code and data by md5, package versions."""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

from motionbench.core.dvc_files import Stage, StageLock, flatten, parse_lock, read_lock, read_stages, run_again
from motionbench.core.errors import UserError
from motionbench.core.files import atomic_outputs, file_md5, files_below, path_md5, read_json, read_yaml, write_json
from motionbench.core.paths import DVC_LOCK, DVC_YAML, PARAMS, cached_path, dvc_cache, stage_inputs_path
from motionbench.core.processes import PACKAGES

NAMED = 3  # changes in a message


def inputs_digest(params: Mapping[str, Any], md5s: Mapping[str, str]) -> str:
    """Return a digest of everything that determines a result: parameters, code and data by md5, package versions.

    Two results with the same digest are the same, whether checkpoints of a training, decoded clips or trials.
    """
    return hashlib.sha256(json.dumps([params, md5s, _versions()]).encode()).hexdigest()


@cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}


def code_md5s(*packages: str) -> dict[str, str]:
    """Return the md5 of each file of code in these packages of the library, as in "data", by its path."""
    files = (file for package in packages for file in sorted(code_folder(package).rglob("*.py")))
    return {file.relative_to(code_folder("")).as_posix(): file_md5(file) for file in files}


def code_folder(package: str) -> Path:
    """Return the folder of a package of the library."""
    return Path(__file__).parents[1] / package


class Inputs(NamedTuple):
    """What a stage uses, as it was when the stage started."""

    stage: Stage
    started: float  # when its process started, in seconds since 1970
    params: dict[str, Any]  # those that dvc.yaml declares for the stage, flat: {"data.seed": 0, ...}
    md5s: dict[str, str]  # of the files and folders that dvc.yaml declares
    files: dict[str, tuple[int, int]]  # all files of these: when each was written, and its size

    def digest(self) -> str:
        """Return the digest of what the stage makes."""
        return inputs_digest(self.params, self.md5s)

    def are_current(self) -> bool:
        """Return whether code and data are as they were, so that what a process has made by now is made from them.

        A node of a cluster has copies of its own, to which this does not apply: it returns True there.
        """
        return not DVC_YAML.exists() or file_stamps(self.stage.deps) == self.files

    def check(self) -> None:
        """Check that everything is as it was.

        DVC reads parameters, data and code again when the stage has ended, and records that: treeverse/dvc#11058.

        Raises:
            UserError: naming what was changed.
        """
        if changed := list(self._changes()):
            more = f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
            raise UserError(
                f"{self.stage.name}: changed while the stage ran: {'; '.join(changed[:NAMED])}{more}; nothing is "
                "recorded, and epochs that finished before are kept: run the command again"
            )

    def _changes(self) -> Iterator[str]:
        try:
            stage, now = read_stages().get(self.stage.name), flatten(read_yaml(PARAMS))
        except UserError as error:
            yield str(error)
            return
        if stage != self.stage:
            yield f"dvc.yaml: {self.stage.name}"
        declared = {key: value for key, value in now.items() if self.stage.declares(key)}
        changes = differences(self.params, declared)
        yield from (f"{PARAMS}: {key}: {used} became {other}" for key, used, other in changes)
        found = file_stamps(self.stage.deps)
        yield from (file for file in {**self.files, **found} if self.files.get(file) != found.get(file))

    def write(self) -> None:
        """Write the output of the stage that says what it used.

        Raises:
            UserError: if something was changed since the stage started.
        """
        self.check()
        with atomic_outputs(stage_inputs_path(self.stage.name)) as (path,):
            # With the time, the file is another after each run, so that the stage `keep_runs` looks at each.
            write_json(path, {"started": self.started, "params": self.params, "md5s": self.md5s})


def read_inputs(name: str, params: Mapping[str, Any], started: float) -> Inputs:
    """Return what a stage uses. The stage calls `write` when its outputs are there, and `check` as its last act.

    Args:
        name: of the stage.
        params: those that dvc.yaml declares for the stage, flat, as the stage has read them.
        started: when the process started, in seconds since 1970: code that is newer may not be the code that runs.

    Raises:
        UserError: if code was changed meanwhile, if dvc.lock records of an earlier stage what it did not use, or if
            dvc.yaml lacks the output that says what the stage used.
    """
    stage = read_stages()[name]
    if (own := stage_inputs_path(name).as_posix()) not in stage.outs:
        raise UserError(f"{DVC_YAML}: {name}: outs lacks {own}, which says what the stage used; add it")
    earlier = read_lock().values() if DVC_LOCK.exists() else []
    drop_false_records(
        [entry for entry in earlier if any(Path(out).is_relative_to(dep) for out in entry.outs for dep in stage.deps)]
    )
    files = file_stamps(stage.deps)
    md5s = {dep: path_md5(Path(dep)) for dep in stage.deps if Path(dep).exists()}
    inputs = Inputs(stage, started, json.loads(json.dumps(params)), md5s, files)
    # A time in the future is that of a clock that is ahead.
    code = [file for file, (at, _) in files.items() if file.endswith(".py") and started * 1e9 < at <= time.time_ns()]
    if code:
        raise UserError(f"{name}: {code[0]}: changed while the stage started; run the command again")
    return inputs


def file_stamps(deps: Iterable[str | Path]) -> dict[str, tuple[int, int]]:
    """Return when each file of these files and folders was written, in nanoseconds since 1970, and its size."""
    found = {file: file.stat() for dep in deps for file in files_below(Path(dep))}
    return {file.as_posix(): (status.st_mtime_ns, status.st_size) for file, status in found.items()}


def differences(used: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield the keys with other values, each with both values."""
    for key in {**used, **other}:
        if used.get(key) != other.get(key):
            yield key, used.get(key, "none"), other.get(key, "none")


def check_recorded(entries: Iterable[StageLock]) -> None:
    """Check that dvc.lock records of stages what they used.

    Raises:
        UserError: naming the first stage and value.
    """
    for stage, what in _false_records(entries):
        raise UserError(f"{DVC_LOCK}: {stage}: {what}; run it again: {run_again(stage)}")


def drop_false_records(entries: Iterable[StageLock]) -> None:
    """Check that dvc.lock records of stages what they used; remove from it, and from DVC's run cache, what is false.

    Raises:
        UserError: naming the first stage and value.
    """
    if false := dict(_false_records(entries)):
        for path in (dvc_cache() / "runs").glob("*/*/*"):
            if _is_false_run(path, false):
                path.unlink()
                with suppress(OSError):  # raised where it holds other runs; DVC fails at an empty folder
                    path.parent.rmdir()
        yaml = YAML()
        content = yaml.load(DVC_LOCK.read_text(encoding="utf-8"))
        for stage in false:
            del content["stages"][stage]
        with atomic_outputs(DVC_LOCK) as (path,):
            yaml.dump(content, path)
        stage, what = next(iter(false.items()))
        raise UserError(f"{DVC_LOCK}: {stage}: {what}; the record is removed: run the command again")


def _is_false_run(path: Path, stages: Iterable[str]) -> bool:
    """Return whether a run in DVC's run cache, which does not say of which stage it is, is false for one of these."""
    try:
        kept = dict.fromkeys(stages, read_yaml(path))
        return any(_false_records(parse_lock({"stages": kept}, str(path)).values()))
    except UserError:
        return True  # DVC cannot read it either.


def _false_records(entries: Iterable[StageLock]) -> Iterator[tuple[str, str]]:
    """Yield the stages of which dvc.lock records what they did not use, each with the first value.

    An edit in the moment when DVC records a stage or restores it from its run cache, or `dvc commit` by hand, makes it
    record values that made nothing. Stages whose own record is neither here nor in DVC's cache are not looked at.
    """
    for entry in entries:
        path = stage_inputs_path(entry.stage)
        md5 = entry.outs.get(path.as_posix(), "")
        kept = next((file for file in (path, cached_path(md5)) if file.is_file() and file_md5(file) == md5), None)
        if kept is None:
            continue
        used = read_json(kept)
        changes = *differences(used["params"], entry.params), *differences(used["md5s"], entry.deps)
        if changes:
            key, value, recorded = changes[0]
            yield entry.stage, f"{key}: {recorded} is recorded, but the stage used {value}"
