import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import joblib
import psutil
import pytest

from motionbench.core.errors import UserError
from motionbench.execution.engine import FileTask, LocalEngine, Message, Worker, local_engine, run_tasks
from tests.conftest import ROOT, clean_environment
from tests.execution.tasks import (
    count_on,
    divide_by_zero,
    process_id,
    refuse_after,
    signal_itself,
    span,
    tell_and_return,
    tell_process_id_and_sleep,
)

ALL_CORES = joblib.cpu_count()  # one task at a time


@pytest.fixture(scope="module")
def engine() -> Iterator[LocalEngine]:
    with local_engine() as engine:
        yield engine


def test_results_have_the_order_of_the_tasks(engine: LocalEngine) -> None:
    events: list[Any] = []
    tasks = [partial(tell_and_return, number, seconds) for number, seconds in enumerate((0.5, 0.0, 0.1, 0.0))]
    assert run_tasks(engine, tasks, 1, events.append) == [0, 1, 2, 3]
    assert sorted(events) == sorted((number, what) for number in range(4) for what in ("started", "done"))
    for number in range(4):
        assert [what for told, what in events if told == number] == ["started", "done"]
    assert run_tasks(engine, [], 1) == []


def test_threads_bound_how_many_tasks_run_at_once(engine: LocalEngine) -> None:
    assert engine.slots(1) == ALL_CORES
    assert engine.slots(ALL_CORES) == engine.slots(10 * ALL_CORES) == 1
    spans = sorted(run_tasks(engine, [span] * 3, ALL_CORES))
    assert all(first[1] <= second[0] for first, second in pairwise(spans))


def test_workers_are_reused_by_the_next_tasks(engine: LocalEngine) -> None:
    [first], [second] = (run_tasks(engine, [process_id], ALL_CORES) for _ in range(2))
    assert first == second != os.getpid()


def wait_for_end(engine: LocalEngine) -> tuple[Worker, Message]:
    """Wait for the only running task to end."""
    while True:
        for worker, message in engine.wait():
            if message.kind != "event":
                return worker, message


def test_a_fresh_worker_ends_with_its_task(engine: LocalEngine) -> None:
    [kept] = run_tasks(engine, [process_id], ALL_CORES)
    started = engine.start(process_id, fresh=True)
    worker, (kind, fresh) = wait_for_end(engine)
    assert (worker, kind) == (started, "completed")
    assert fresh not in (kept, os.getpid())
    assert not psutil.pid_exists(fresh)
    assert run_tasks(engine, [process_id], ALL_CORES) == [kept], "the others are kept"


def test_an_idle_worker_that_was_killed_is_replaced() -> None:
    with local_engine() as engine:
        [idle] = run_tasks(engine, [process_id], ALL_CORES)
        os.kill(idle, signal.SIGKILL)
        os.waitid(os.P_PID, idle, os.WEXITED | os.WNOWAIT)
        assert run_tasks(engine, [process_id], ALL_CORES) != [idle]


def test_waiting_ends_without_a_message_at_its_timeout(engine: LocalEngine) -> None:
    assert engine.wait(0.0) == []
    worker = engine.start(tell_process_id_and_sleep)
    [(told, message)] = engine.wait()
    assert (told, message) == (worker, Message("event", worker.process.pid))
    assert engine.wait(0.05) == []
    engine.kill(worker)
    assert worker.process.exitcode == -signal.SIGKILL
    assert engine.wait(0.0) == [], "a task that was ended says nothing"


@pytest.mark.skipif(ALL_CORES < 2, reason="two tasks at once")
def test_the_first_failure_ends_the_others_and_is_raised(engine: LocalEngine) -> None:
    processes: list[int] = []
    tasks: list[Any] = [tell_process_id_and_sleep, partial(refuse_after, 1.0)]
    started = time.monotonic()
    with pytest.raises(UserError, match=r"^params.yaml: one line$"):
        run_tasks(engine, tasks, 1, processes.append)
    assert time.monotonic() - started < 30, "the other would sleep for a minute"
    assert len(processes) == 1
    assert not psutil.pid_exists(processes[0])
    assert len(run_tasks(engine, [span], 1)) == 1, "the next call starts anew"


def test_an_unforeseen_failure_names_type_and_line(engine: LocalEngine) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)^ZeroDivisionError: division by zero\n.*in divide_by_zero"):
        run_tasks(engine, [divide_by_zero], 1)


@pytest.mark.usefixtures("working_directory")
def test_a_task_with_files_finds_those_of_this_machine() -> None:
    Path("kept").write_text("2", encoding="utf-8")
    with local_engine() as engine:  # whose processes start here
        assert run_tasks(engine, [FileTask(partial(count_on, Path("kept"), 4, 0.0), kept=Path("kept"))], 1) == [[3, 4]]
    assert Path("kept").read_text(encoding="utf-8") == "4"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_is_reported(number: signal.Signals, engine: LocalEngine) -> None:
    with pytest.raises(UserError, match=rf"^a process was killed \(-{number.value}\), perhaps because memory ran out"):
        run_tasks(engine, [partial(signal_itself, number)], 1)
    assert len(run_tasks(engine, [span], 1)) == 1, "the next call starts anew"


def test_an_interruption_is_left_to_the_main_process(engine: LocalEngine) -> None:
    assert run_tasks(engine, [partial(signal_itself, signal.SIGINT)], 1) == ["not ended"]


def test_an_interruption_ends_the_tasks(engine: LocalEngine) -> None:
    processes: list[int] = []

    def interrupt(process: int) -> None:
        processes.append(process)
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_tasks(engine, [tell_process_id_and_sleep], 1, interrupt)
    assert time.monotonic() - started < 30, "the task would sleep for a minute"
    assert not psutil.pid_exists(processes[0])


def test_processes_end_with_the_engine() -> None:
    with local_engine() as engine:
        [idle] = run_tasks(engine, [process_id], ALL_CORES)
        busy = engine.start(tell_process_id_and_sleep, fresh=True).process.pid
        assert psutil.pid_exists(idle)
    assert busy is not None
    assert not psutil.pid_exists(idle)
    assert not psutil.pid_exists(busy)


PARENT = """
import time
from motionbench.execution.engine import local_engine, run_tasks
from tests.execution.tasks import process_id, tell_until_ended

if __name__ == "__main__":
    with local_engine() as engine:
        [idle] = run_tasks(engine, [process_id], threads=1)
        busy = engine.start(tell_until_ended, fresh=True).process.pid
        print(idle, busy, flush=True)
        while True:
            engine.wait()
"""


def test_workers_end_when_their_parent_is_killed() -> None:
    python = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        env=clean_environment() | {"PYTHONPATH": python},
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        idle, busy = (psutil.Process(int(process)) for process in parent.stdout.readline().split())
        try:
            assert idle.is_running()
            assert busy.is_running()
        finally:
            parent.kill()
    eventually(lambda: not lives(idle) and not lives(busy))


def lives(process: psutil.Process) -> bool:
    """Return whether a process runs; whoever adopts it may not have waited for it yet."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def eventually(true: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
