"""Tasks side by side in processes of their own, their events shown as they come."""

import multiprocessing
import os
import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import joblib
from joblib.externals.loky import get_reusable_executor

Report = Callable[[Any], None]
Result = TypeVar("Result")


@contextmanager
def discarded_stderr() -> Iterator[None]:
    """Discard what C code writes to stderr, for the import of TensorFlow 2.21: its notices heed no log level."""
    with Path(os.devnull).open("w") as devnull:
        original = os.dup(2)
        os.dup2(devnull.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(original, 2)
            os.close(original)


def run_side_by_side(
    tasks: Sequence[Callable[[Report], Result]], threads: int, on_event: Callable[[Any], None] = lambda _event: None
) -> list[Result]:
    """Run each task in a process and return the results in the order of `tasks`.

    As many run at once as the cores allow with `threads` each; `on_event` is called here, in this process, with
    whatever a task passes to its `report` argument. The first task that raises ends the others, and its exception is
    raised here.
    """
    processes = max(1, joblib.cpu_count() // threads)
    # TensorFlow complains of a missing GPU at every start; its failures are exceptions anyway.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # joblib would run a lone job in this process, so allow for two and hand out one at a time.
    parallel = joblib.Parallel(n_jobs=max(2, processes), pre_dispatch=processes, batch_size=1, backend="loky")
    # spawn: a fork would copy whatever threads and locks this process has.
    with multiprocessing.get_context("spawn").Manager() as manager, ThreadPoolExecutor(1) as waiter:
        events = manager.Queue()
        results = waiter.submit(parallel, [joblib.delayed(task)(events.put) for task in tasks])
        try:
            while not (results.done() and events.empty()):
                try:
                    on_event(events.get(timeout=0.1))
                except queue.Empty:
                    continue
        except BaseException:
            get_reusable_executor().shutdown(kill_workers=True)
            raise
        return list(results.result())
