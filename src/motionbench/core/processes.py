"""Processes, the machine they run on, and git commands."""

import errno
import fcntl
import os
import platform
import re
import resource
import secrets
import shlex
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path

import joblib
import numpy as np

from motionbench.core.errors import UserError, one_line
from motionbench.core.paths import PROCESSES, repository_root

PACKAGES = ("av", "keras", "numpy", "tensorflow")  # those whose version changes results
RAY_ADDRESS = "RAY_ADDRESS"  # the environment variable that names a Ray cluster to work on
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)  # of disks without file locks


def git(*arguments: str) -> str:
    """Return what a git command prints.

    Raises:
        UserError: if it fails.
    """
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        said, remedy = getattr(error, "stderr", "") or str(error), "run inside a clone of the repository"
        if "safe.directory" in said:  # whatever language it is in
            said, here = "the repository is another user's", shlex.quote(str(Path.cwd()))
            remedy = f"if you trust its files: git config --global --add safe.directory {here}"
        raise UserError(f"git {arguments[0]}: {one_line(said)}; {remedy}") from error


def untracked(folder: Path) -> list[Path]:
    """Return what of a folder in the repository git does not have, so that a clone lacks it: all, or some of it."""
    listed = git("ls-files", "--others", "--directory", "-z", "--", f":(literal){folder}")
    return [Path(name) for name in listed.split("\0") if name]


def describe_environment() -> list[str]:
    """Return processor, its vector instructions, cores, system, Python and `PACKAGES` with versions, a string each.

    NumPy names the instructions: X86_V3 means AVX2, X86_V4 AVX-512. The last bits of weights depend on them.
    """
    try:
        processors = re.findall(r"(?m)^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        processors = []
    return [
        processors[0] if processors else platform.processor() or "unknown processor",
        f"SIMD {' '.join(np.show_config(mode='dicts')['SIMD Extensions']['found'])}",
        f"{joblib.cpu_count()} cores",
        f"{platform.system()} {platform.machine()}",
        f"Python {platform.python_version()}",
        *(f"{name} {version(name)}" for name in PACKAGES),
    ]


@cache
def describe_machine() -> list[str]:
    """Return what of this machine and of the installed packages may change results."""
    return [each for each in describe_environment() if not each.endswith(" cores")]


def this_process() -> dict[str, str]:
    """Return what identifies this process to others that work in the same folder."""
    path = repository_root() / PROCESSES
    return {"file": _open_locks(path)[1], "byte": str(_locked_byte(path))}


def is_running(process: Mapping[str, str]) -> bool | None:
    """Return whether a process runs that `this_process` identified; None if it works in another folder."""
    path = repository_root() / PROCESSES
    file, name = _open_locks(path)
    if process["file"] != name:
        return None
    byte = int(process["byte"])
    if byte == _locked_byte(path):
        return True
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
    except (BlockingIOError, PermissionError):  # fcntl(2): either says that it is locked
        return True
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return True  # It cannot be told.
    fcntl.lockf(file, fcntl.LOCK_UN, 1, byte)
    return False


@cache
def _locked_byte(path: Path) -> int:
    """Lock a byte of a file until this process ends, in whatever way, and return its number.

    The system frees it then. Host names and process ids would not tell: a new container has others, or has the same.
    """
    byte = secrets.randbits(48)  # A lock may be beyond the end of the file, which stays empty.
    try:
        fcntl.lockf(_open_locks(path)[0], fcntl.LOCK_EX, 1, byte)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise  # Others cannot see that this process runs; `is_running` then says so of all.
    return byte


@cache
def _open_locks(path: Path) -> tuple[int, str]:
    """Open a file to lock bytes of, once, since closing it anywhere frees them; return it, and what no copy of it has.

    It is never written to, so that its inode and time stay.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    return file, f"{os.fstat(file).st_ino} {os.fstat(file).st_mtime_ns}"


def peak_megabytes() -> float:
    """Return the peak memory of this process."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes: getrusage(2) of either system
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
