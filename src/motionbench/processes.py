"""Which process something belongs to, and whether that process is still there."""

import os
import socket

import psutil


def this_process() -> dict[str, str]:
    """Return what tells this process from every other: host, id and when it started."""
    return {"host": socket.gethostname(), "id": str(os.getpid()), "started": _started(os.getpid())}


def is_gone(process: dict[str, str]) -> bool:
    """Tell whether a process of this machine has ended; of others, nothing is known."""
    return process["host"] == socket.gethostname() and _started(int(process["id"])) != process["started"]


def _started(process_id: int) -> str:
    try:
        return str(psutil.Process(process_id).create_time())
    except psutil.NoSuchProcess:
        return ""
