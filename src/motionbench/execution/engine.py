"""Run tasks in separate processes: events while they run, results at the end.

Training, evaluation and tuning use the same few calls, which a cluster can offer too: start a task, wait for messages,
kill a task. A process that ends without a result counts as a message too.
"""

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing
from importlib import import_module
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Literal, NamedTuple, TypeVar, cast

import joblib

from motionbench.core.errors import UserError
from motionbench.execution.runtime import importing_tensorflow

EventCallback = Callable[[Any], None]
Result = TypeVar("Result")
Task = Callable[[EventCallback], Result]


class Message(NamedTuple):
    """An event that a task sent, or how the task ended."""

    kind: Literal["event", "completed", "failed", "lost"]
    content: Any  # the event, the result or the exception; None if the process was killed


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

    def receive(self) -> Message:
        """Return the next message; "lost" if the process ended without one."""
        try:
            return cast("Message", self.connection.recv())
        except (EOFError, OSError):
            return Message("lost", None)

    def kill(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.join()
        self.connection.close()


class LocalEngine:
    """Processes of this machine, kept from one task to the next with the modules they imported."""

    def __init__(self) -> None:
        self._idle: list[Worker] = []
        self._busy: list[Worker] = []

    def slots(self, threads: int) -> int:
        """Return how many tasks of `threads` threads each can run at once."""
        return max(1, int(joblib.cpu_count()) // threads)

    def prepare(self, module: str, workers: int) -> None:
        """Start workers that import `module` before the first tasks are ready."""
        self._idle += [Worker() for _ in range(workers - len(self._idle))]
        for worker in self._idle:
            worker.connection.send(module)

    def start(self, task: Task[Any], *, fresh: bool = False) -> Worker:
        """Start a task in a worker: in an idle one, or in a new one that ends with the task if `fresh`."""
        self._idle = [worker for worker in self._idle if worker.process.is_alive()]
        worker = self._idle.pop() if self._idle and not fresh else Worker(fresh=fresh)
        self._busy.append(worker)
        worker.connection.send(task)
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
    engine: LocalEngine, tasks: Sequence[Task[Result]], threads: int, on_event: EventCallback = lambda _event: None
) -> list[Result]:
    """Run all tasks, as many at once as there are slots, and return their results in the order of `tasks`.

    `on_event` is called in this process with each event that a task sends. If a task raises, the others are ended and
    its exception is raised here.

    Raises:
        UserError: if a task's process was killed.
    """
    pending, slots = list(enumerate(tasks))[::-1], engine.slots(threads)
    running: dict[Worker, int] = {}
    results: dict[int, Result] = {}
    try:
        while pending or running:
            while pending and len(running) < slots:
                number, task = pending.pop()
                running[engine.start(task)] = number
            for worker, message in engine.wait():
                match message.kind:
                    case "event":
                        on_event(message.content)
                    case "completed":
                        results[running.pop(worker)] = message.content
                    case "failed":
                        raise message.content
                    case "lost":
                        raise UserError(
                            f"a process was killed ({worker.process.exitcode}), perhaps because memory ran out; lower "
                            "training.threads or the size of the models, or run the command again"
                        )
    except BaseException:
        engine.close()
        raise
    return [results[number] for number in range(len(tasks))]


def _work(connection: Connection) -> None:
    """Run tasks until the process that sends them has ended."""
    # Ctrl-C reaches all processes of a terminal; the main process decides which of them end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def send(kind: Literal["event", "completed", "failed"], content: Any) -> None:
        try:
            connection.send(Message(kind, content))
        except BrokenPipeError:
            os._exit(1)  # The main process has ended.

    while True:
        try:
            task = connection.recv()
        except (EOFError, OSError):
            return
        try:
            if isinstance(task, str):  # a module, see `LocalEngine.prepare`
                with importing_tensorflow():
                    import_module(task)
                continue
            send("completed", task(lambda event: send("event", event)))
        except (UserError, OSError) as error:  # which `run_command` turns into one line
            send("failed", error)
        except Exception as error:  # raised again in the main process
            send("failed", RuntimeError(f"{type(error).__name__}: {error}\n{traceback.format_exc()}"))
