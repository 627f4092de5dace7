"""Errors that a user can cause, and how a command reports them."""

import errno
import gc
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from urllib.parse import parse_qsl, quote, unquote

REMEDIES = {
    errno.ENOSPC: "free some space on this disk",
    errno.EDQUOT: "free some of your quota on this disk",
    errno.EFBIG: "allow larger files (ulimit -f)",
    errno.EROFS: "work in a clone on a disk that can be written to",
    errno.EACCES: "check write permission, or work in a clone of your own",
    errno.EPERM: "check write permission, or work in a clone of your own",
    errno.EMFILE: "allow more open files (ulimit -n)",
}
OBJECTS_BETWEEN_COLLECTIONS = 50_000  # Python's default: 700
CONFIDENTIAL = r"[\w.-]*(?:password|passwd|passphrase|secret|token|signature|(?:api|access|account|secret)[_-]?key)"
"""Names whose values are secrets, of fields in the query of an address and of environment variables."""
FIELD = re.compile(rf"((?:[?&;=]|%3[BDF]|%26)(?:{CONFIDENTIAL}|sig|pwd|pass|key|auth)(?:=|%3D))[^\s&]*", re.IGNORECASE)
"""Such a field, which may be escaped; the group is what to keep of it."""
SHORTEST = 6  # characters of a secret that is looked for outside of addresses: a shorter one may be a usual word


class UserError(Exception):
    """An error that only the user can fix. The message is one line: what is wrong, where, and how to fix it."""

    def __init__(self, message: str) -> None:
        """Keep `message` without secrets; line ends and terminal codes, which values may hold, as escapes."""
        shown = without_secrets(message)
        super().__init__("".join(char if char.isprintable() else ascii(char)[1:-1] for char in shown))


def _credentials(inside: str) -> re.Pattern[str]:
    """Return what finds the credentials of an address, of the web or of a database, with what to keep before them.

    A password may have characters that should be escaped: it ends at the last @ before what is not `inside`. The user
    of a web address goes too, since it may be a token; what looks like its port is no password.
    """
    user = r"(?!\[)[^\s:/?#]*"  # a bracket starts an address of IPv6
    web = rf"(?P<web>(?:\w{{1,20}}\+)?https?://)(?P<login>{user}:(?!\d{{1,5}}[/?#]){inside}*|{user})@"
    database = rf"(?P<database>[a-z][\w+.-]{{0,30}}(?<!http)(?<!https)://{user}):(?P<password>{inside}*)@"
    return re.compile(f"{web}|{database}", re.IGNORECASE)


IN_TEXT, IN_VARIABLE = _credentials(r"\S"), _credentials(r"[\s\S]")


def without_secrets(text: str) -> str:
    """Return `text` without passwords and tokens: those of the addresses in it, and those in the environment.

    Host, database, and a database's user stay, so that a reader knows which address it is. A password with blanks is
    only known from the environment.
    """
    credentials, secrets = _in_environment()
    for shown, kept in credentials.items():
        text = text.replace(shown, kept)
    if secrets:
        longest_first = "|".join(map(re.escape, sorted(secrets, key=len, reverse=True)))
        # Whole words, of which one may follow the escape of a character.
        text = re.sub(rf"((?<!\w)|(?<=%[0-9A-Fa-f]{{2}}))({longest_first})(?!\w)", "***", text)
    return FIELD.sub(r"\1***", IN_TEXT.sub(_kept, text))


def _kept(found: re.Match[str]) -> str:
    return found["web"] or f"{found['database']}@"


def _in_environment() -> tuple[dict[str, str], set[str]]:
    """Return the credentials of the environment's addresses with what is shown instead, and all forms of its secrets.

    A library's message may have a secret without its address, or only a part of it, where no pattern finds it.
    """
    credentials, secrets = {}, set()
    for name, value in os.environ.items():
        if re.fullmatch(CONFIDENTIAL, name, re.IGNORECASE):
            secrets |= _forms(value.strip())
        if not {"@", "?"} & set(value):
            continue
        # The address of a proxy, or of a cluster, needs no scheme.
        scheme = "http://" if "://" not in value and name.lower().endswith(("_proxy", "ray_address")) else ""
        address = scheme + value
        fields = [field for key, field in parse_qsl(address.partition("?")[2]) if FIELD.match(f"?{key}=")]
        if found := IN_VARIABLE.match(address):
            credentials[found[0].removeprefix(scheme)] = _kept(found).removeprefix(scheme)
            user, _, password = (found["login"] or f":{found['password']}").partition(":")
            fields.append(password or user)
        # What the address shows anyway, such as a user with the same name, is no secret elsewhere.
        rest = FIELD.sub(r"\1***", IN_VARIABLE.sub(_kept, address))
        secrets |= {form for field in fields for form in _forms(field) if form not in rest}
    return credentials, secrets


def _forms(secret: str) -> set[str]:
    """Return a secret and its parts as they may appear in a message: escaped or not, or in quotes."""
    whole = {secret, unquote(secret)}
    parts = whole | {part for each in whole for part in re.split(r"[\s@:/?#]", each)}
    forms = {form for part in parts for form in (part, quote(os.fsencode(part), safe=""), repr(part)[1:-1])}
    return {form for form in forms if len(form) >= SHORTEST}


def one_line(error: object) -> str:
    """Return an error's message without secrets as one line of at most 200 characters."""
    return " ".join(without_secrets(str(error)).split())[:200]


@contextmanager
def deferred_interrupts() -> Iterator[Callable[[], bool]]:
    """Delay SIGINT and SIGTERM until the block ends; yield a function that returns whether one was received.

    An interrupt in the middle of a database transaction would leave the database locked. Blocks may be nested.
    """
    received: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda number, _frame: received.append(number)) for number in numbers}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])


def _show_traceback(_kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    print(without_secrets("".join(traceback.format_exception(error))), end="", file=sys.stderr)


def run_command(main: Callable[[], None]) -> None:
    """Run a command: a `UserError`, or a disk or system that refuses, becomes one line on stderr and exit code 2.

    The traceback of any other error is shown without secrets. SIGTERM is raised as `KeyboardInterrupt`, so that what is
    in progress is cleaned up as for Ctrl-C; both exit with 130. Garbage is collected a seventieth as often as by
    default: imports make many objects and little garbage, and take four fifths of the time so.
    """

    def interrupt(signal_number: int, _frame: object) -> None:
        raise KeyboardInterrupt(signal.Signals(signal_number).name)

    signal.signal(signal.SIGTERM, interrupt)
    sys.excepthook = _show_traceback
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        # Not the error's own message, which a library may have made several lines long.
        reason = os.strerror(error.errno) if error.errno else str(error)
        place = f"{error.filename}: " if error.filename else ""
        remedy = REMEDIES.get(error.errno or 0, "fix it")
        message = f"{place}{reason}; {remedy}, and run the command again: no output is half-written"
        print(f"error: {UserError(message)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted: no output is half-written", file=sys.stderr)
        sys.exit(130)
