"""How a command runs: its errors and interrupts, and how often it collects garbage."""

import gc
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from motionbench.core.errors import UserError, is_of_the_system, remedy
from motionbench.core.redaction import without_secrets

OBJECTS_BETWEEN_COLLECTIONS = 50_000  # Python's default: 700
ENDS = (signal.SIGTERM, signal.SIGHUP)  # the second when a terminal is closed
OTHER_WORK = (
    "MPLBACKEND",  # in notebooks a package that only Jupyter has
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_DIR", "GIT_INDEX_FILE", "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY", "GIT_PREFIX", "GIT_WORK_TREE",  # in a hook of git: the repository that it is of
)  # fmt: skip
"""Environment variables that would have a command draw or work elsewhere. The Makefile has those of Python and pip."""


@contextmanager
def deferred_interrupts() -> Iterator[Callable[[], bool]]:
    """Delay interrupts until the block ends; yield a function that returns whether one was received.

    Those are SIGINT, SIGTERM and SIGHUP, unless they are ignored, as after nohup. An interrupt in the middle of a
    database transaction would leave the database locked. Blocks may be nested.
    """
    received: list[int] = []
    heeded = [number for number in (signal.SIGINT, *ENDS) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, lambda number, _frame: received.append(number)) for number in heeded}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])


def ignore_other_work() -> None:
    """Remove `OTHER_WORK` from the environment of this process, and so of those that it starts."""
    for name in OTHER_WORK:
        os.environ.pop(name, None)


def _show_traceback(_kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    print(without_secrets("".join(traceback.format_exception(error))), end="", file=sys.stderr)


def _reader_has_gone() -> bool:
    """Return whether what reads stdout or stderr has ended."""
    outputs = select.poll()
    for number in (1, 2):
        outputs.register(number, 0)
    return bool(outputs.poll(0))


def run_command(main: Callable[[], None]) -> None:
    """Run a command: a `UserError`, or a disk or system that refuses, becomes one line on stderr and exit code 2.

    The traceback of any other error is shown without secrets. SIGTERM and SIGHUP are raised as `KeyboardInterrupt`, so
    that what is in progress is cleaned up as for Ctrl-C; all exit with 130. Garbage is collected a seventieth as often
    as by default: imports make many objects and little garbage, and take four fifths of the time so.
    """

    def interrupt(signal_number: int, _frame: object) -> None:
        raise KeyboardInterrupt(signal.Signals(signal_number).name)

    for number in ENDS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupt)
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:  # from pipeline/__init__.py
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.excepthook = _show_traceback
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    ignore_other_work()
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _reader_has_gone():  # `head` has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)
        if not is_of_the_system(error):
            raise
        # Not the error's own message, which a library may have made several lines long.
        reason = os.strerror(error.errno) if error.errno else str(error)
        place = f"{error.filename}: " if error.filename else ""
        message = f"{place}{reason}; {remedy(error)}, and run the command again: no output is half-written"
        print(f"error: {UserError(message)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted: no output is half-written", file=sys.stderr)
        sys.exit(130)
