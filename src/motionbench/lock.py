"""dvc.lock, today's and those of the commits before: which stage made what, from which data and parameters."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

from motionbench.errors import UserError
from motionbench.files import path_md5
from motionbench.params import read_yaml
from motionbench.records import Record, describe

LOCK = Path("dvc.lock")


class Entry(NamedTuple):
    """What dvc.lock says of a stage that ran."""

    stage: str
    command: str
    deps: dict[str, str]
    """By path, the md5 of what the stage read, and of `outs` of what it wrote."""
    outs: dict[str, str]
    params: dict[str, Any]

    def data(self) -> dict[str, str]:
        """Return the md5s of the splits among what the stage read."""
        return {path: md5 for path, md5 in self.deps.items() if path.startswith("data/")}


def read_lock(path: Path = LOCK) -> dict[str, Entry]:
    """Read a dvc.lock, by stage.

    Raises:
        UserError: if it is missing or damaged.
    """
    if not path.exists():
        raise UserError(f"{path}: missing; make it: dvc repro")
    return _entries(read_yaml(path), str(path))


def lock_of(commit: str) -> dict[str, Entry]:
    """Return the dvc.lock of a commit, by stage."""
    return _entries(YAML(typ="safe").load(git("show", f"{commit}:{LOCK}")), f"{LOCK} of {commit}")


def _entries(content: Any, place: str) -> dict[str, Entry]:
    try:
        return {
            stage: Entry(
                stage=stage,
                command=entry["cmd"],
                deps={dep["path"]: dep["md5"] for dep in entry.get("deps", [])},
                outs={out["path"]: out["md5"] for out in entry.get("outs", [])},
                params=entry.get("params", {}).get("params.yaml", {}),
            )
            for stage, entry in content["stages"].items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{place}: not readable ({error!r}); make it again: dvc repro") from error


def commits_with(md5: str) -> Iterator[str]:
    """Yield the commits whose dvc.lock came to hold `md5` or ceased to, this branch's first, each oldest first."""
    seen = set()
    for revisions in ("HEAD", "--all"):
        for commit in git("log", revisions, "--reverse", "--format=%H", f"-S{md5}", "--", str(LOCK)).split():
            if commit not in seen:
                yield commit
            seen.add(commit)


def find_made(md5: str) -> tuple[str, str, Entry] | None:
    """Return an output of this md5, the first commit whose dvc.lock has it, and what that says of its stage."""
    for commit in commits_with(md5):
        if not git("ls-tree", commit, str(LOCK)):
            continue  # That one removed it.
        for entry in lock_of(commit).values():
            for out, made in entry.outs.items():
                if made == md5:
                    return out, commit, entry
    return None


def commit_of(entry: Entry) -> str | None:
    """Return the commit that brought what dvc.lock says of a stage today; None if it is not committed."""
    brought = None
    for commit in git("log", "--format=%H", "--", str(LOCK)).split():
        if not git("ls-tree", commit, str(LOCK)) or lock_of(commit).get(entry.stage) != entry:
            break
        brought = commit
    return brought


def restored(entry: Entry, loader: str) -> Record:
    """Return the record of the run that made the outputs which lie here and which dvc.lock knows.

    Args:
        loader: the module by which MLflow is to load models.

    Raises:
        UserError: if an output, or a split that the stage read, is missing or another than dvc.lock's.
    """
    for path, md5 in {**entry.outs, **entry.data()}.items():
        if not Path(path).exists():
            raise UserError(f"{path} is missing; bring it: dvc pull, or dvc repro")
        if path_md5(Path(path)) != md5:
            raise UserError(f"{path} is another than dvc.lock's; make them agree: dvc repro, or dvc checkout")
    record = describe(entry.stage, entry.params, loader)
    tags = {
        "mlflow.source.git.commit": commit_of(entry) or "unknown",
        "dvc.stage": entry.stage,
        "restored": "from files",
    }
    return record.model_copy(update={"tags": {**record.tags, **tags}})


def git(*arguments: str) -> str:
    """Return what a git command prints.

    Raises:
        UserError: if it fails.
    """
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", "") or str(error)
        reason = " ".join(reason.split())
        raise UserError(f"git {arguments[0]}: {reason}; run inside a clone of the repository") from error
