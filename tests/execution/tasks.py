"""Tasks for processes of their own, which import this module: little else, so that they start quickly."""

import errno
import os
import signal
import time
from pathlib import Path
from typing import Any

from motionbench.core.errors import UserError
from motionbench.core.files import file_md5
from motionbench.execution.engine import EventCallback


def tell_and_return(number: int, seconds: float, on_event: EventCallback) -> int:
    on_event((number, "started"))
    time.sleep(seconds)
    on_event((number, "done"))
    return number


def wait_and_describe_machine(seconds: float, _on_event: EventCallback) -> str:
    from motionbench.core.processes import describe_machine

    time.sleep(seconds)
    return ", ".join(describe_machine())


def process_id(_on_event: EventCallback) -> int:
    return os.getpid()


def tell_process_id_and_sleep(on_event: EventCallback) -> None:
    on_event(os.getpid())
    time.sleep(3600)


def tell_folder_and_sleep(on_event: EventCallback) -> None:
    on_event(Path.cwd())
    time.sleep(3600)


def tell_until_ended(on_event: EventCallback) -> None:
    while True:
        on_event(os.getpid())
        time.sleep(0.05)


def span(_on_event: EventCallback) -> tuple[float, float]:
    started = time.monotonic()
    time.sleep(0.2)
    return started, time.monotonic()


def divide_by_zero(_on_event: EventCallback) -> float:
    return 1 / 0


def signal_itself(number: signal.Signals, _on_event: EventCallback) -> str:
    os.kill(os.getpid(), number)
    return "not ended"


def refuse(_on_event: EventCallback) -> None:
    raise UserError("params.yaml: one line")


def add_one(kept: Path, _on_event: EventCallback) -> None:
    kept.write_text(str(int(kept.read_text(encoding="utf-8")) + 1), encoding="utf-8")


def read_and_describe(source: Path, target: Path, _on_event: EventCallback) -> dict[str, Any]:
    """Write the md5s of all files of a folder to a file; return where they are."""
    files = sorted(path for path in source.rglob("*") if path.is_file())
    target.write_text(str([file_md5(file) for file in files]), encoding="utf-8")
    return {
        "names": [file.as_posix() for file in files],
        "places": sorted({(file.stat().st_ino, file.stat().st_mtime_ns) for file in files}),
        "folder": Path.cwd(),
    }


def fill_the_disk(_on_event: EventCallback) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def open_missing_file(_on_event: EventCallback) -> bytes:
    return Path("missing").read_bytes()
