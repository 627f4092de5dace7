"""The engines: what both keep, on this machine and on a cluster, and what this machine's alone does."""

import multiprocessing
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
from motionbench.execution.cluster import open_engine
from motionbench.execution.engine import Engine, FileTask, LocalEngine, Message, local_engine, run_tasks
from tests.conftest import ROOT, clean_environment
from tests.execution.conftest import needs_ray
from tests.execution.tasks import (
    add_one,
    divide_by_zero,
    fill_the_disk,
    open_missing_file,
    process_id,
    refuse,
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


@pytest.fixture(params=["here", pytest.param("cluster", marks=[pytest.mark.slow, needs_ray])])
def either_engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    if request.param == "here":
        yield request.getfixturevalue("engine")
    else:
        request.getfixturevalue("cluster")
        with open_engine() as engine:
            yield engine


def test_results_have_the_order_of_the_tasks_and_each_event_comes_once(either_engine: Engine) -> None:
    events: list[Any] = []
    tasks = [partial(tell_and_return, number, seconds) for number, seconds in enumerate((0.5, 0.0, 0.1, 0.0))]
    assert run_tasks(either_engine, tasks, 1, events.append) == [0, 1, 2, 3]
    assert len(events) == 8
    for number in range(4):
        assert [what for told, what in events if told == number] == ["started", "done"]
    assert run_tasks(either_engine, [], 1) == []


def test_processes_are_reused_and_a_fresh_one_runs_a_single_task(either_engine: Engine) -> None:
    kept = run_tasks(either_engine, [process_id] * 6, 1)
    assert len(set(kept)) <= max(2, ALL_CORES)
    assert os.getpid() not in kept
    fresh = []
    for _ in range(2):
        task = either_engine.start(process_id, fresh=True)
        [(told, message)] = either_engine.wait()
        assert (told, message.kind) == (task, "completed")
        fresh.append(message.content)
    assert len({*kept, *fresh}) == len(set(kept)) + 2
    eventually(lambda: not any(map(psutil.pid_exists, fresh)))
    if isinstance(either_engine, LocalEngine):  # Ray ends an idle process when another one needs its core.
        assert set(run_tasks(either_engine, [process_id], 1)) <= set(kept), "the others are kept"


def test_waiting_ends_at_its_timeout_and_a_task_where_it_is_killed(either_engine: Engine) -> None:
    assert list(either_engine.wait(0.0)) == []
    task = either_engine.start(tell_process_id_and_sleep)
    [(told, message)] = either_engine.wait()
    assert (told, message.kind) == (task, "event")
    assert list(either_engine.wait(0.05)) == []
    process = psutil.Process(message.content)
    either_engine.kill(task)
    eventually(lambda: not lives(process))
    assert list(either_engine.wait(0.5)) == [], "a task that was ended says nothing"


@pytest.mark.parametrize(
    ("task", "kind", "message"),
    [
        (refuse, UserError, r"^params.yaml: one line$"),
        (fill_the_disk, OSError, r"No space left on device$"),
        (open_missing_file, RuntimeError, r"(?s)^FileNotFoundError: .*No such file .*in open_missing_file"),
        (divide_by_zero, RuntimeError, r"(?s)^ZeroDivisionError: division by zero\n.*in divide_by_zero"),
    ],
)
def test_a_failure_is_raised_here(task: Any, kind: type[Exception], message: str, either_engine: Engine) -> None:
    with pytest.raises(kind, match=message):
        run_tasks(either_engine, [task], 1)


def test_threads_bound_how_many_tasks_run_at_once(engine: LocalEngine) -> None:
    assert engine.slots(1) == ALL_CORES
    assert engine.slots(ALL_CORES) == engine.slots(10 * ALL_CORES) == 1
    spans = sorted(run_tasks(engine, [span] * 3, ALL_CORES))
    assert all(first[1] <= second[0] for first, second in pairwise(spans))


def test_an_idle_worker_that_was_killed_is_replaced() -> None:
    with local_engine() as engine:
        [idle] = run_tasks(engine, [process_id], ALL_CORES)
        os.kill(idle, signal.SIGKILL)
        os.waitid(os.P_PID, idle, os.WEXITED | os.WNOWAIT)
        engine.prepare(refuse, 1)
        assert run_tasks(engine, [process_id], ALL_CORES) != [idle]


def test_a_worker_that_dies_before_it_has_its_task_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    # As if it were killed right after it was asked.
    with local_engine() as engine, monkeypatch.context() as patch:
        [idle] = run_tasks(engine, [process_id], ALL_CORES)
        os.kill(idle, signal.SIGKILL)
        os.waitid(os.P_PID, idle, os.WEXITED | os.WNOWAIT)
        patch.setattr(multiprocessing.process.BaseProcess, "is_alive", lambda _process: True)
        task = engine.start(process_id)
        assert engine.wait() == [(task, Message("lost", "a process was killed (-9)"))]


@pytest.mark.usefixtures("working_directory")
def test_a_task_with_files_finds_those_of_this_machine() -> None:
    Path("kept").write_text("2", encoding="utf-8")
    with local_engine() as engine:  # whose processes start here
        run_tasks(engine, [FileTask(partial(add_one, Path("kept")), kept=Path("kept"))], 1)
    assert Path("kept").read_text(encoding="utf-8") == "3"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_is_reported(number: signal.Signals, engine: LocalEngine) -> None:
    with pytest.raises(UserError, match=rf"^a process was killed \(-{number.value}\), perhaps because memory ran out"):
        run_tasks(engine, [partial(signal_itself, number)], 1)
    assert len(run_tasks(engine, [span], 1)) == 1, "the next call starts anew"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_an_interruption_is_left_to_the_main_process(number: signal.Signals, engine: LocalEngine) -> None:
    assert run_tasks(engine, [partial(signal_itself, number)], 1) == ["not ended"]


def test_an_interruption_ends_the_tasks(engine: LocalEngine) -> None:
    processes: list[int] = []

    def interrupt(process: int) -> None:
        processes.append(process)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_tasks(engine, [tell_process_id_and_sleep], ALL_CORES, interrupt)
    assert not psutil.pid_exists(processes[0]), "a process whose task has ended is kept"


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


def eventually(true: Callable[[], bool]) -> None:
    """Wait until something is true; fail after five minutes, which is long before a task that sleeps ends."""
    deadline = time.monotonic() + 300
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
