"""dvc.lock in the commits before."""

from collections.abc import Iterator

from ruamel.yaml import YAML

from motionbench.core.dvc_files import StageLock, parse_lock
from motionbench.core.git import git
from motionbench.core.paths import DVC_LOCK


def lock_of(commit: str) -> dict[str, StageLock]:
    """Return the dvc.lock of a commit, by stage."""
    return parse_lock(YAML(typ="safe").load(git("show", f"{commit}:{DVC_LOCK}")), f"{DVC_LOCK} of {commit}")


def commits_with(md5: str) -> Iterator[str]:
    """Yield the commits whose dvc.lock came to hold `md5` or ceased to, this branch's first, each oldest first."""
    seen = set()
    for revisions in ("HEAD", "--all"):
        for commit in git("log", revisions, "--reverse", "--format=%H", f"-S{md5}", "--", str(DVC_LOCK)).split():
            if commit not in seen:
                yield commit
            seen.add(commit)


def find_made(md5: str) -> tuple[str, str, StageLock] | None:
    """Return an output of this md5, the first commit whose dvc.lock has it, and what that says of its stage."""
    for commit in commits_with(md5):
        if not git("ls-tree", commit, str(DVC_LOCK)):
            continue  # That one removed it.
        for entry in lock_of(commit).values():
            for out, made in entry.outs.items():
                if made == md5:
                    return out, commit, entry
    return None


def commit_of(entry: StageLock) -> str | None:
    """Return the commit that brought what dvc.lock says of a stage today; None if it is not committed."""
    brought = None
    for commit in git("log", "--format=%H", "--", str(DVC_LOCK)).split():
        if not git("ls-tree", commit, str(DVC_LOCK)) or lock_of(commit).get(entry.stage) != entry:
            break
        brought = commit
    return brought
