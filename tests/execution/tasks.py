"""Tasks for processes of their own, which import this module: little else, so that they start quickly."""

import os
import signal
import time

from motionbench.core.errors import UserError
from motionbench.execution.engine import EventCallback


def tell_and_return(number: int, seconds: float, on_event: EventCallback) -> int:
    on_event((number, "started"))
    time.sleep(seconds)
    on_event((number, "done"))
    return number


def process_id(_on_event: EventCallback) -> int:
    return os.getpid()


def tell_process_id_and_sleep(on_event: EventCallback) -> None:
    on_event(os.getpid())
    time.sleep(60)


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


def refuse_after(seconds: float, _on_event: EventCallback) -> None:
    time.sleep(seconds)
    raise UserError("params.yaml: one line")
