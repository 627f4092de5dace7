"""Processes, the machine they run on, and git commands."""

import os
import platform
import re
import resource
import shlex
import socket
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

import joblib
import numpy as np
import psutil

from motionbench.core.errors import UserError, one_line

PACKAGES = ("av", "keras", "numpy", "tensorflow")  # those whose version changes results


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
    """Return what identifies this process: host, id and start time."""
    return {"host": socket.gethostname(), "id": str(os.getpid()), "started": _started(os.getpid())}


def is_gone(process: dict[str, str]) -> bool:
    """Return whether a process of this machine has ended; False for a process of another machine."""
    return process["host"] == socket.gethostname() and _started(int(process["id"])) != process["started"]


def _started(process_id: int) -> str:
    """Return when a process started, independent of the system's clock; "" if there is no such process."""
    try:
        if sys.platform == "linux":  # psutil adds the boot time, which changes when the clock is set
            fields = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
            return fields.split()[19]  # proc_pid_stat(5): field 22, ticks since the boot
        return str(psutil.Process(process_id).create_time())
    except (OSError, psutil.NoSuchProcess):
        return ""


def peak_megabytes() -> float:
    """Return the peak memory of this process."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes: getrusage(2) of either system
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
