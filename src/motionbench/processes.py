"""Which process something belongs to, whether that process is still there, and its memory."""

import os
import resource
import socket
import sys

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
    try:
        return str(psutil.Process(process_id).create_time())
    except psutil.NoSuchProcess:
        return ""
