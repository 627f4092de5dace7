"""Which process something belongs to, whether that process is still there, and its memory."""

import os
import resource
import socket
import sys
from pathlib import Path

import psutil


def this_process() -> dict[str, str]:
    """Return what tells this process from every other: host, id and when it started."""
    return {"host": socket.gethostname(), "id": str(os.getpid()), "started": _started(os.getpid())}


def peak_megabytes() -> float:
    """Return the most memory that this process ever held."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes: getrusage(2) of either system
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def is_gone(process: dict[str, str]) -> bool:
    """Tell whether a process of this machine has ended; of others, nothing is known."""
    return process["host"] == socket.gethostname() and _started(int(process["id"])) != process["started"]


def _started(process_id: int) -> str:
    """Return when a process started, by a clock that nobody sets; nothing if it is not there."""
    try:
        if sys.platform == "linux":  # where psutil adds the time of the boot, which moves when the clock is set
            fields = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
            return fields.split()[19]  # proc_pid_stat(5): field 22, ticks since the boot
        return str(psutil.Process(process_id).create_time())
    except (OSError, psutil.NoSuchProcess):
        return ""
