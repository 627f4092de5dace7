"""Tasks in processes of their own: events while they run, results at the end. One engine serves every kind of work.

Training, evaluation and tuning use the same few calls, which a cluster can offer too: start a task, wait for messages,
kill a task. A process that ended without a result is a message as well.
"""

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Literal, NamedTuple, TypeVar

import joblib

from motionbench.core.errors import UserError
from motionbench.execution.runtime import importing_tensorflow

EventCallback = Callable[[Any], None]
Result = TypeVar("Result")
Task = Callable[[EventCallback], Result]


class Message(NamedTuple):
    """What a task sent, or what became of it."""

    kind: Literal["event", "completed", "failed", "lost"]
    content: Any
    """An event, the result, or the exception; nothing of a task whose process was killed."""


class Worker:
    """A process that runs one task after the other, or a single one if `fresh`, and the connection to it."""

    def __init__(self, *, fresh: bool = False) -> None:
        self.fresh = fresh
        # TensorFlow complains of a missing GPU at every start; its failures are exceptions anyway.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        # Fresh processes, not forks: TensorFlow does not survive a fork.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_work, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def receive(self) -> Message:
        """Return the next message; "lost" if the process ended without one."""
        try:
            message: Message = self.connection.recv()
        except (EOFError, OSError):
            return Message("lost", None)
        return message

    def kill(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.join()
        self.connection.close()


class LocalEngine:
    """Processes of this machine. They are kept from one task to the next, with what they imported."""

    def __init__(self) -> None:
        self._idle: list[Worker] = []
        self._busy: list[Worker] = []

    def slots(self, threads: int) -> int:
        """Return how many tasks of `threads` threads each can run at once."""
        cores: int = joblib.cpu_count()
        return max(1, cores // threads)

    def prepare(self, module: str, workers: int) -> None:
        """Start workers that import `module`, so that it is there when the first tasks come."""
        self._idle += [Worker() for _ in range(workers - len(self._idle))]
        for worker in self._idle:
            worker.connection.send(_Import(module))

    def start(self, task: Task[Any], *, fresh: bool = False) -> Worker:
        """Start a task in a worker: in an idle one, or in a new one that ends with the task if `fresh`."""
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


@contextmanager
def local_engine() -> Iterator[LocalEngine]:
    """Yield an engine; end its processes afterwards, also if the block raises."""
    engine = LocalEngine()
    try:
        yield engine
    finally:
        engine.close()


def run_tasks(
    engine: LocalEngine,
    tasks: Sequence[Task[Result]],
    threads: int,
    on_event: EventCallback = lambda _event: None,
) -> list[Result]:
    """Run all tasks, as many at once as there are slots, and return their results in the order of `tasks`.

    `on_event` is called here, in this process, with whatever a task passes to its argument. The first task that raises
    ends the others, and its exception is raised here.

    Raises:
        UserError: if a task's process was killed.
    """
    pending = list(enumerate(tasks))[::-1]
    running: dict[Worker, int] = {}
    results: dict[int, Result] = {}
    try:
        while pending or running:
            while pending and len(running) < engine.slots(threads):
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


class _Import(NamedTuple):
    module: str


def _work(connection: Connection) -> None:
    """Run tasks as they come, until the process that sends them is gone."""
    # Ctrl-C reaches all processes of a terminal; the one that waits for this one decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def send(kind: Literal["event", "completed", "failed"], content: Any) -> None:
        try:
            connection.send(Message(kind, content))
        except BrokenPipeError:
            os._exit(1)  # Nobody is left to take it.

    while True:
        try:
            task = connection.recv()
        except (EOFError, OSError):
            return
        try:
            if isinstance(task, _Import):
                with importing_tensorflow():
                    import_module(task.module)
                continue
            send("completed", task(lambda event: send("event", event)))
        except UserError as error:
            send("failed", error)
        except Exception as error:  # whatever a task raises is for the other process to see
            send("failed", RuntimeError(f"{type(error).__name__}: {error}\n{traceback.format_exc()}"))
