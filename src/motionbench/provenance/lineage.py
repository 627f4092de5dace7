"""What made a file, and which files a run made: from dvc.lock and git, and from MLflow's store where there is one."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ruamel.yaml import YAML

from motionbench.core.dvc_files import StageLock, is_wall_clock, parse_lock, read_lock
from motionbench.core.errors import UserError
from motionbench.core.files import file_md5s, path_md5, read_json
from motionbench.core.inputs import check_recorded
from motionbench.core.paths import DVC_LOCK, cached_path
from motionbench.core.processes import git

if TYPE_CHECKING:
    from mlflow.entities import Run

Lines = Iterator[tuple[str, str]]  # labels, each with its text


def lineage(what: str) -> Lines:
    """Return what made a file or folder, given by its path or md5, or what the run with this id made.

    Raises:
        UserError: if nothing is known of `what`, or if dvc.lock records what its stage did not use.
    """
    lock = read_lock()
    path = Path(what)
    path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    for entry in lock.values():
        if any(path.is_relative_to(out) for out in entry.outs):
            return _of_file(path, entry, commit_of(entry))
    if what and path.exists():
        command = f"git log -- {shlex.quote(what)}"
        raise UserError(f"FILE: {what}: not an output of a stage in dvc.lock; for other files: {command}")
    if not re.fullmatch(r"[0-9a-f]{32}(\.dir)?", what):
        example = "make lineage FILE=models/convlstm/seed-0.keras"
        raise UserError(f"FILE: {what or 'nothing'}: no output of a stage, md5 or run id; name one, as in {example}")
    if found := _find(what, lock):
        return _of_file(*found)
    from motionbench.tracking import address, store  # imported late: keeps error messages fast

    runs, searched = [], f"no run of the store {address.store_name()}"
    try:
        runs = store.find_runs({})
    except UserError as error:
        searched = str(error)
    for run in reversed(runs):
        tags = run.data.tags
        if what in (run.info.run_id, *(md5 for key, md5 in tags.items() if "md5." in key)) or f"file.{what}" in tags:
            return _of_run(run)
    raise UserError(
        f"FILE: {what}: no md5 of an output here or in any commit's dvc.lock, and {searched}; if that store was "
        "deleted, its run ids are gone: give a file's path or md5 instead, or make new runs: make mlflow-sync"
    )


def commit_of(entry: StageLock) -> str | None:
    """Return the commit that added what dvc.lock now records of a stage; None if it is not committed."""
    added = None
    for commit in git("log", "--format=%H", "--", str(DVC_LOCK)).split():
        if _lock_of(commit).get(entry.stage) != entry:
            break
        added = commit
    return added


def _lock_of(commit: str) -> dict[str, StageLock]:
    """Return the dvc.lock of a commit, by stage; empty if the commit has none."""
    if not git("ls-tree", commit, str(DVC_LOCK)):
        return {}
    return parse_lock(YAML(typ="safe").load(git("show", f"{commit}:{DVC_LOCK}")), f"{DVC_LOCK} of {commit}")


def _find(md5: str, lock: Mapping[str, StageLock]) -> tuple[Path, StageLock, str | None] | None:
    """Return the output with this md5, or the file in one, with its stage and the commit that recorded it.

    Those that are here come first, then the first commit with it in its dvc.lock, on this branch if possible.
    """
    for entry in lock.values():
        for out, recorded in entry.outs.items():
            files = file_md5s(Path(out)) if Path(out).exists() else {}
            for path, each in ((out, recorded), *files.items()):
                if each in (md5, f"{md5}.dir"):
                    return Path(path), entry, commit_of(entry)
    for revisions in ("HEAD", "--all"):
        for commit in git("log", revisions, "--reverse", "--format=%H", f"-S{md5}", "--", str(DVC_LOCK)).split():
            for entry in _lock_of(commit).values():
                for out, recorded in entry.outs.items():
                    if recorded in (md5, f"{md5}.dir"):
                        return Path(out), entry, commit
    return None


def _of_file(path: Path, entry: StageLock, commit: str | None) -> Lines:
    check_recorded([entry])
    out, recorded = next(item for item in entry.outs.items() if path.is_relative_to(item[0]))
    yield str(path), _state(path, out, recorded)
    yield "made by", f"stage {entry.stage}: {entry.command}"
    if commit:
        yield "commit", git("log", "-1", "--format=%H, %as: %s", commit).strip()
    else:
        yield "commit", f"none yet: this dvc.lock is not committed; HEAD is {git('rev-parse', 'HEAD').strip()}"
    data = entry.data()
    code = [dep for dep in entry.deps if dep.startswith(("src/", "pipeline/"))]
    yield from (("from data", f"{split} {md5}") for split, md5 in data.items())
    yield from (("from", f"{dep} {md5}") for dep, md5 in entry.deps.items() if dep not in (*data, *code))
    yield "from code", f"{len(code)} files and folders, by md5 in dvc.lock"
    yield "parameters", ", ".join(f"{key}={value}" for key, value in entry.params.items())
    yield "environment", _environment(entry, commit)
    from motionbench.tracking import address, store  # imported late: keeps error messages fast

    try:
        runs = store.find_runs({f"md5.{out}": recorded})
    except UserError as error:
        yield "MLflow", str(error)
        return
    if not runs:
        yield "MLflow", f"no run of it in {address.store_name()}; to make one, if a model was trained: make mlflow-sync"
    for run in runs:
        restored = ", restored from files" if "restored" in run.data.tags else ""
        yield "MLflow run", f"{_described(run)}, commit {_commit_of_run(run)}{restored}"


def _state(path: Path, out: str, recorded: str) -> str:
    """Describe the file or folder at `path` in comparison with dvc.lock."""
    if not path.exists():
        return f"not here; dvc.lock records {out} as {recorded}; get it: dvc pull"
    ours = path_md5(path)
    if path_md5(Path(out)) == recorded:
        return f"{ours}, as recorded" if path == Path(out) else f"{ours}, in {out} {recorded}, as recorded"
    listing = cached_path(recorded)
    files = read_json(listing) if recorded.endswith(".dir") and listing.exists() else []
    expected = {Path(out): recorded, **{Path(out, file["relpath"]): file["md5"] for file in files}}
    if path not in expected:
        return f"{ours}, in {out}, which DIFFERS from the recorded {recorded}; the lines below are about that"
    if expected[path] == ours:
        return f"{ours}, as recorded; other files in {out} differ"
    return f"{ours}, DIFFERS from the recorded {expected[path]}; the lines below are about that"


def _environment(entry: StageLock, commit: str | None) -> str:
    at = f"requirements.lock of {commit[:10]}" if commit else "requirements.lock"
    timing = next((out for out in entry.outs if is_wall_clock(out) and out.endswith(".json")), None)
    if timing is None:
        return at
    try:
        here = Path(timing).exists() and path_md5(Path(timing)) == entry.outs[timing]
        content = read_json(Path(timing)) if here else json.loads(git("show", f"{commit}:{timing}"))
        return f"{', '.join(content['environment'])}; {at}"
    except (UserError, ValueError, KeyError):
        return f"{timing} is not here as recorded; {at}"


def _of_run(run: "Run") -> Lines:
    tags = run.data.tags
    yield "run", _described(run)
    yield "made by", f"stage {tags.get('dvc.stage', 'unknown')}"
    yield "commit", _commit_of_run(run)
    if tags.get("dvc.experiment"):
        yield "experiment", tags["dvc.experiment"]
    for each in run.inputs.dataset_inputs if run.inputs else []:
        yield "data", f"data/{each.dataset.name} {each.dataset.digest}"
    yield "parameters", ", ".join(f"{key}={value}" for key, value in run.data.params.items())
    if "environment" in tags:
        yield "environment", tags["environment"]
    # Of a run's outputs, and of the files in them: a tag holds the paths of all files with an md5.
    outs = {name: md5 for key, md5 in sorted(tags.items()) if (name := key.removeprefix("md5.")) != key}
    files = {
        path: md5
        for key, paths in sorted(tags.items())
        if (md5 := key.removeprefix("file.")) != key
        for path in paths.split("\n")
    }
    for name, md5 in {**outs, **files}.items():
        path = Path(name)
        state = "not here" if not path.exists() else "same here" if path_md5(path) == md5 else "different here"
        yield "file", f"{path} {md5}, {state}"


def _described(run: "Run") -> str:
    return f"{run.info.run_id} {run.info.run_name}, {run.info.status}"


def _commit_of_run(run: "Run") -> str:
    changed = ", with uncommitted changes" if run.data.tags.get("git.dirty") == "true" else ""
    return f"{run.data.tags.get('mlflow.source.git.commit', 'unknown')}{changed}"
