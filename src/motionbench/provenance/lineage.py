"""What made a file, and which files a run made: from dvc.lock and git, and from MLflow's store where there is one."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motionbench.core.dvc_files import StageLock, is_wall_clock, read_lock
from motionbench.core.errors import UserError
from motionbench.core.files import file_md5s, path_md5, read_json
from motionbench.core.git import git
from motionbench.core.paths import DVC_CACHE
from motionbench.provenance.history import commit_of, find_made

if TYPE_CHECKING:
    from mlflow.entities import Run


Lines = Iterator[tuple[str, str]]
"""What is told: a label, and its text."""


def lineage(what: str) -> Lines:
    """Tell what made a file or a folder, which is given by its path or its md5, or what a run of this id made.

    Raises:
        UserError: if nothing is known of `what`.
    """
    lock = read_lock()
    path = _relative(what)
    if entry := _maker(lock, path):
        return _of_file(path, entry, commit_of(entry))
    if what and Path(what).exists():
        raise UserError(f"FILE: {what}: no output of a stage in dvc.lock; of other files, git knows: git log -- {what}")
    if not re.fullmatch(r"[0-9a-f]{32}(\.dir)?", what):
        outs = ", ".join(out for each in lock.values() for out in each.outs)
        raise UserError(f"FILE: {what or 'nothing'}: no output, md5 or run id; outputs of the stages: {outs}")
    return _of_digest(what, lock)


def _relative(what: str) -> str:
    path = Path(what)
    root = Path.cwd()
    return (path.relative_to(root) if path.is_absolute() and path.is_relative_to(root) else path).as_posix()


def _maker(lock: Mapping[str, StageLock], path: str) -> StageLock | None:
    return next((entry for entry in lock.values() if _out_of(entry, path)), None)


def _out_of(entry: StageLock, path: str) -> str | None:
    """Return the output of a stage that `path` is or lies in."""
    return next((out for out in entry.outs if path == out or path.startswith(f"{out}/")), None)


def _of_digest(digest: str, lock: Mapping[str, StageLock]) -> Lines:
    md5s = {digest, f"{digest}.dir"}
    for entry in lock.values():
        for out, md5 in entry.outs.items():
            if md5 in md5s:
                return _of_file(out, entry, commit_of(entry))
    for entry in lock.values():
        for out in entry.outs:
            for file, md5 in file_md5s(Path(out)).items() if Path(out).exists() else ():
                if md5 == digest:
                    return _of_file(file, entry, commit_of(entry))
    for md5 in sorted(md5s):
        if found := find_made(md5):
            out, commit, entry = found
            return _of_file(out, entry, commit)
    from motionbench.tracking import store  # imported late: keeps error messages fast

    if run := store.find_run(digest):
        return _of_run(run)
    if runs := store.find_runs_with(digest):
        return _of_run(runs[-1])
    raise UserError(
        f"FILE: {digest}: no md5 of an output here or in any commit's dvc.lock, and no run of the store "
        f"{store.store_name()}; if that store is gone, its run ids are too, but the path or the md5 of a file still "
        "tells what made it, and make mlflow-sync makes new runs"
    )


def _of_file(path: str, entry: StageLock, commit: str | None) -> Lines:
    out = _out_of(entry, path)
    assert out
    recorded = entry.outs[out]
    yield path, _state(path, out, recorded)
    yield "made by", f"stage {entry.stage}: {entry.command}"
    if commit:
        yield "commit", git("log", "-1", "--format=%H, %as: %s", commit).strip()
    else:
        yield "commit", f"none yet: this dvc.lock is not committed; HEAD is {git('rev-parse', 'HEAD').strip()}"
    for split, md5 in entry.data().items():
        yield "from data", f"{split} {md5}"
    others = [dep for dep in entry.deps if not dep.startswith(("data/", "src/", "pipeline/"))]
    yield from (("from", f"{dep} {entry.deps[dep]}") for dep in others)
    code = [dep for dep in entry.deps if dep.startswith(("src/", "pipeline/"))]
    yield "from code", f"{len(code)} files and folders, by md5 in dvc.lock"
    yield "parameters", ", ".join(f"{key}={value}" for key, value in entry.params.items())
    yield "environment", _environment(entry, commit)
    from motionbench.tracking import store  # imported late: keeps error messages fast

    runs = store.find_runs({f"md5.{out}": recorded})
    if runs is None:
        yield "MLflow", f"no store answers at {store.store_name()}; fill one from the files: make mlflow-sync"
    elif not runs:
        yield "MLflow", f"no run of it in {store.store_name()}; make one from the files: make mlflow-sync"
    for run in runs or []:
        made_by = f"commit {run.data.tags.get('mlflow.source.git.commit', 'unknown')}"
        changed = ", with changes" if run.data.tags.get("git.dirty") == "true" else ""
        how = ", restored from files" if "restored" in run.data.tags else ""
        yield "MLflow run", f"{run.info.run_id} {run.info.run_name}, {run.info.status}, {made_by}{changed}{how}"


def _state(path: str, out: str, recorded: str) -> str:
    """Tell whether what lies at `path` is what dvc.lock has."""
    if not Path(path).exists():
        return f"not here; {out} is {recorded} in the record; bring it: dvc pull"
    ours = path_md5(Path(path))
    if path_md5(Path(out)) == recorded:
        return f"{ours}, as recorded" if path == out else f"{ours}, in {out} {recorded}, as recorded"
    if path == out:
        return f"{ours}, DIFFERS from the recorded {recorded}, which the rest is about"
    listing = DVC_CACHE / recorded[:2] / recorded[2:]
    if listing.exists():
        for file in read_json(listing):
            if f"{out}/{file['relpath']}" == path:
                same = (
                    "is as recorded, other files of its folder differ"
                    if file["md5"] == ours
                    else (f"DIFFERS from the recorded {file['md5']}, which the rest is about")
                )
                return f"{ours}, {same}"
    return f"{ours}, in {out}, which DIFFERS from the recorded {recorded}, which the rest is about"


def _environment(entry: StageLock, commit: str | None) -> str:
    at = f"requirements.lock of {commit[:10]}" if commit else "requirements.lock"
    for out, md5 in entry.outs.items():
        if is_wall_clock(out) and out.endswith(".json"):
            here = Path(out).exists() and path_md5(Path(out)) == md5
            try:
                content = read_json(Path(out)) if here else json.loads(git("show", f"{commit}:{out}"))
                return f"{', '.join(content['environment'])}; {at}"
            except (UserError, ValueError, KeyError):
                return f"{out} is not here as it was; {at}"
    return at


def _of_run(run: "Run") -> Lines:
    tags: dict[str, Any] = run.data.tags
    yield "run", f"{run.info.run_id} {run.info.run_name}, {run.info.status}"
    yield "made by", f"stage {tags.get('dvc.stage', 'unknown')}"
    changed = ", with changes that were not committed" if tags.get("git.dirty") == "true" else ""
    yield "commit", f"{tags.get('mlflow.source.git.commit', 'unknown')}{changed}"
    if tags.get("dvc.experiment"):
        yield "experiment", tags["dvc.experiment"]
    for each in run.inputs.dataset_inputs if run.inputs else []:
        yield "data", f"data/{each.dataset.name} {each.dataset.digest}"
    yield "parameters", ", ".join(f"{key}={value}" for key, value in run.data.params.items())
    if "environment" in tags:
        yield "environment", tags["environment"]
    for key, md5 in tags.items():
        if key.startswith("md5."):
            path = Path(key.removeprefix("md5."))
            state = "not here" if not path.exists() else "as here" if path_md5(path) == md5 else "another here"
            yield "file", f"{path} {md5}, {state}"
