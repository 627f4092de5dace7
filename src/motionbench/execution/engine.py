"""Run tasks in separate processes: events while they run, results at the end.

Training, evaluation and tuning use the same few calls, of this machine's engine or of a cluster's: start a task, wait
for messages, kill a task. A process that ends without a result counts as a message too.
"""

import gc
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar, cast

import joblib

from motionbench.core.commands import OBJECTS_BETWEEN_COLLECTIONS
from motionbench.core.errors import UserError, is_of_the_system

EventCallback = Callable[[Any], None]
Result = TypeVar("Result")
Task = Callable[[EventCallback], Result]


class Message(NamedTuple):
    """An event that a task sent, or how the task ended."""

    kind: Literal["event", "completed", "failed", "lost"]
    content: Any  # the event, the result, the exception, or what is known of how its process ended


@dataclass(frozen=True)
class FileTask(Generic[Result]):
    """A task that reads and writes files, all by paths relative to the working directory.

    On a machine that shares no files with this one it finds copies of `inputs`, files or folders, and of the checkpoint
    `kept`. What it writes to the files `outputs` and `kept` is written here too: `kept` with each event. A task that is
    started again from its checkpoint sends the events before it again.
    """

    call: Task[Result]
    inputs: Sequence[Path] = ()
    outputs: Sequence[Path] = ()
    kept: Path | None = None

    def __call__(self, on_event: EventCallback) -> Result:
        """Run it here."""
        return self.call(on_event)


class Engine(Protocol):
    """Where tasks run. What `start` returns stands for the task in the other calls."""

    retries: int
    """How often a task is started again whose process ended without a result."""

    def slots(self, threads: int) -> int:
        """Return how many tasks of `threads` threads each can run at once."""

    def prepare(self, imports: Task[None], workers: int) -> None:
        """Have processes run `imports`, which imports what tasks need, before the first tasks are ready."""

    def start(self, task: Task[Any], *, threads: int = 1, fresh: bool = False) -> Any:
        """Start a task, in a process that ran no other if `fresh`."""

    def wait(self, timeout: float | None = None) -> Sequence[tuple[Any, Message]]:
        """Return the next messages of running tasks, none if `timeout` seconds pass without one."""

    def kill(self, task: Any) -> None:
        """End a task and its process."""

    def close(self) -> None:
        """End all tasks."""


class Worker:
    """A process that runs one task after the other, or a single one if `fresh`, and the connection to it."""

    def __init__(self, *, fresh: bool = False) -> None:
        self.fresh = fresh
        # TensorFlow logs a missing GPU at every start; real failures are exceptions.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        # Not forked: TensorFlow does not work in a forked process.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_work, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def send(self, task: Task[Any], *, prepares: bool = False) -> None:
        """Have the process run a task; if it has just ended, the next message is that."""
        with suppress(ConnectionError):
            self.connection.send((task, prepares))

    def receive(self) -> Message:
        """Return the next message; "lost" if the process ended without one."""
        try:
            return cast("Message", self.connection.recv())
        except (EOFError, OSError):
            self.process.join()
            return Message("lost", f"a process was killed ({self.process.exitcode})")

    def kill(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.join()
        self.connection.close()


class LocalEngine:
    """Processes of this machine, kept from one task to the next with the modules they imported."""

    retries = 0  # A process that is killed here was probably too large, and would be again.

    def __init__(self) -> None:
        self._cores = int(joblib.cpu_count())
        self._idle: list[Worker] = []
        self._busy: list[Worker] = []

    def slots(self, threads: int) -> int:
        """Return how many tasks of `threads` threads each can run at once."""
        return max(1, self._cores // threads)

    def prepare(self, imports: Task[None], workers: int) -> None:
        """Start workers that run `imports` before the first tasks are ready; only its failure is a message."""
        self._idle += [Worker() for _ in range(workers - len(self._idle))]
        for worker in self._idle:
            worker.send(imports, prepares=True)

    def start(self, task: Task[Any], *, threads: int = 1, fresh: bool = False) -> Worker:  # noqa: ARG002 # see `slots`
        """Start a task in a worker: in an idle one, or in a new one that ends with the task if `fresh`."""
        self._idle = [worker for worker in self._idle if worker.process.is_alive()]
        worker = self._idle.pop() if self._idle and not fresh else Worker(fresh=fresh)
        self._busy.append(worker)
        worker.send(task)
        return worker

    def wait(self, timeout: float | None = None) -> list[tuple[Worker, Message]]:
        """Return the next messages of running tasks, none if `timeout` seconds pass without one."""
        ready = wait([worker.connection for worker in self._busy], timeout)
        messages = [(worker, worker.receive()) for worker in list(self._busy) if worker.connection in ready]
        for worker, message in messages:
            if message.kind == "lost" or (worker.fresh and message.kind != "event"):
                self.kill(worker)
            elif message.kind != "event":
                self._busy.remove(worker)
                self._idle.append(worker)
        return messages

    def kill(self, worker: Worker) -> None:
        """End a task and its process."""
        self._busy.remove(worker)
        worker.kill()

    def close(self) -> None:
        """End all processes."""
        for worker in (*self._busy, *self._idle):
            worker.kill()
        self._busy, self._idle = [], []


def local_engine() -> closing[LocalEngine]:
    """Return an engine as a context manager that ends its processes."""
    return closing(LocalEngine())


def run_tasks(
    engine: Engine, tasks: Sequence[Task[Result]], threads: int, on_event: EventCallback = lambda _event: None
) -> list[Result]:
    """Run all tasks, as many at once as there are slots, and return their results in the order of `tasks`.

    `on_event` is called in this process with each event that a task sends; once, although a lost task that is started
    again sends it again. If a task raises, the others are ended and its exception is raised here.

    Raises:
        UserError: if a task's process was killed, as often as the engine allows.
    """
    pending = list(range(len(tasks)))[::-1]
    running: dict[Any, int] = {}
    results: dict[int, Result] = {}
    sent, shown, lost = ([0] * len(tasks) for _ in range(3))  # events by task, since its start and in all; losses
    try:
        while pending or running:
            while pending and len(running) < engine.slots(threads):
                number = pending.pop()
                sent[number] = 0
                running[engine.start(tasks[number], threads=threads)] = number
            for handle, message in engine.wait():
                number = running[handle]
                match message.kind:
                    case "event":
                        sent[number] += 1
                        if sent[number] > shown[number]:
                            shown[number] += 1
                            on_event(message.content)
                    case "completed":
                        results[running.pop(handle)] = message.content
                    case "failed":
                        raise message.content
                    case "lost" if lost[number] < engine.retries:
                        lost[number] += 1
                        pending.append(running.pop(handle))
                        print(f"{message.content}: its task is started again", file=sys.stderr, flush=True)
                    case "lost":
                        raise UserError(
                            f"{message.content}, perhaps because memory ran out; lower training.threads or the size of "
                            "the models, or run the command again"
                        )
    except BaseException:
        engine.close()
        raise
    return [results[number] for number in range(len(tasks))]


def run_task(task: Task[Any], on_event: EventCallback) -> Message:
    """Run a task in this process, and return how it ended."""
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)  # as in the main process: imports and TensorFlow's traces
    try:
        return Message("completed", task(on_event))
    except Exception as error:  # raised again in the main process
        if isinstance(error, UserError) or is_of_the_system(error):  # which `run_command` turns into one line
            return Message("failed", error)
        return Message("failed", RuntimeError(f"{type(error).__name__}: {error}\n{traceback.format_exc()}"))


def _work(connection: Connection) -> None:
    """Run tasks until the process that sends them has ended."""
    # Ctrl-C reaches all processes of a terminal, as its end does; the main process decides which of them end.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def send(message: Message) -> None:
        try:
            connection.send(message)
        except ConnectionError:
            os._exit(1)  # The main process has ended.

    while True:
        try:
            task, prepares = connection.recv()
        except (EOFError, OSError):
            return
        ended = run_task(task, lambda event: send(Message("event", event)))
        if not prepares or ended.kind == "failed":
            send(ended)
