"""Tasks side by side in processes of their own, their events shown as they come."""

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import NamedTemporaryFile
from threading import Thread
from typing import Any, TypeVar

import joblib
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import ShutdownExecutorError

Report = Callable[[Any], None]
IDLE_SECONDS = 20  # after which a worker without a task ends, also one whose parent was killed
Result = TypeVar("Result")


@contextmanager
def importing_tensorflow() -> Iterator[None]:
    """Import TensorFlow and Keras, and discard what they write to stderr in this block: it heeds no log level.

    For parts that nothing here uses, Keras 3.15 imports packages which it can do without; their import takes as long as
    its own.
    """
    hidden = {"matplotlib", "pandas", "scipy", "sklearn"} - sys.modules.keys()
    with Path(os.devnull).open("w") as devnull:
        original = os.dup(2)
        os.dup2(devnull.fileno(), 2)
        try:
            for name in hidden:
                sys.modules[name] = None  # type: ignore[assignment] # not to be found: Python's reference, 5.3.1
            try:
                import_module("keras")
            finally:
                for name in hidden:
                    del sys.modules[name]
            yield
        finally:
            os.dup2(original, 2)
            os.close(original)


def _parallel(**options: Any) -> joblib.Parallel:
    # TensorFlow complains of a missing GPU at every start; its failures are exceptions anyway.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # What TensorFlow keeps after a task looks like a leak to joblib, which then takes a new worker, as it should.
    warnings.filterwarnings("ignore", "A worker stopped while some jobs were given to the executor", UserWarning)
    # Always as many workers, for joblib keeps them, with what they imported, from one call to the next; never one, for
    # it would run a lone job in this process. How many of them have a task at once is for pre_dispatch to say.
    workers = max(2, joblib.cpu_count())
    return joblib.Parallel(n_jobs=workers, batch_size=1, backend="loky", idle_worker_timeout=IDLE_SECONDS, **options)


def import_ahead(module: str) -> None:
    """Have the workers import `module` for the tasks to come, while this process goes on."""
    imports = [joblib.delayed(_import)(module) for _ in range(joblib.cpu_count())]

    def have_imported() -> None:
        with suppress(ShutdownExecutorError):  # A task failed meanwhile.
            _parallel(pre_dispatch="all")(imports)

    Thread(target=have_imported, daemon=True).start()


def _import(module: str) -> None:
    with importing_tensorflow():
        import_module(module)


def run_side_by_side(
    tasks: Sequence[Callable[[Report], Result]], threads: int, on_event: Callable[[Any], None] = lambda _event: None
) -> list[Result]:
    """Run each task in a process and return the results in the order of `tasks`.

    As many run at once as the cores allow with `threads` each; `on_event` is called here, in this process, with
    whatever JSON a task passes to its `report` argument. The first task that raises ends the others, and its exception
    is raised here.
    """
    processes = max(1, min(len(tasks), joblib.cpu_count() // threads))
    parallel = _parallel(pre_dispatch=processes)
    # Events come as lines of a file: unlike a queue's server, a file outlives nobody and waits for nobody.
    with NamedTemporaryFile("r", encoding="utf-8") as events, ThreadPoolExecutor(1) as waiter:
        report = partial(_append, events.name, os.getpid())
        results = waiter.submit(parallel, [joblib.delayed(task)(report) for task in tasks])
        try:
            incomplete, finished = "", False
            while not finished:
                # Told before the events are read: those of the last moment are among them.
                finished = bool(wait([results], timeout=0.1).done)
                *lines, incomplete = (incomplete + events.read()).split("\n")
                for line in lines:
                    on_event(json.loads(line))
        except BaseException:
            get_reusable_executor(reuse=True).shutdown(kill_workers=True)
            raise
        return list(results.result())


def _append(path: str, parent: int, event: Any) -> None:
    if os.getppid() != parent:
        os._exit(1)  # Nobody is left to take the result.
    with Path(path).open("a", encoding="utf-8") as events:
        events.write(json.dumps(event) + "\n")
