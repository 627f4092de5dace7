"""Errors that a user can cause, and how a command reports them."""

import signal
import sys
from collections.abc import Callable


class UserError(Exception):
    """Something only the user can mend. The message is one line: what, where, and the way out."""

    def __init__(self, message: str) -> None:
        """Keep `message`, with line ends and terminal codes, which names and values may hold, as escapes."""
        super().__init__("".join(char if char.isprintable() else ascii(char)[1:-1] for char in message))


def without_password(url: str) -> str:
    """Return an address without the password that it may hold, for messages."""
    scheme, separator, rest = url.rpartition("://")
    credentials, at, host = rest.rpartition("@")
    return f"{scheme}{separator}{credentials.partition(':')[0]}{at}{host}"


def run_command(main: Callable[[], None]) -> None:
    """Run a command: a `UserError` becomes one line on stderr and exit code 2.

    SIGTERM is raised as `KeyboardInterrupt`, so that what is in progress is cleaned up as for Ctrl-C;
    both exit with 130.
    """

    def interrupt(signal_number: int, _frame: object) -> None:
        raise KeyboardInterrupt(signal.Signals(signal_number).name)

    signal.signal(signal.SIGTERM, interrupt)
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted: no output is half-written", file=sys.stderr)
        sys.exit(130)
