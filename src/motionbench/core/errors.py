"""Errors that a user can cause."""

import errno
import os
import stat
from pathlib import Path

from motionbench.core.redaction import without_secrets

REMEDIES = {
    errno.ENOSPC: "free some space on this disk",
    errno.EDQUOT: "free some of your quota on this disk",
    errno.EFBIG: "allow larger files (ulimit -f)",
    errno.EROFS: "work in a clone on a disk that can be written to",
    errno.EACCES: "check write permission, or work in a clone of your own",
    errno.EPERM: "check write permission, or work in a clone of your own",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENOMEM: "free some memory",
    errno.EIO: "check this disk",
    errno.ENFILE: "close some programs, since the system has too many files open",
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.ENOLCK: "work on a disk that has file locks",
    **dict.fromkeys((errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN), "check this network disk"),
}

LONGEST = 200  # characters of a message that a library has made


class UserError(Exception):
    """An error that only the user can fix. The message is one line: what is wrong, where, and how to fix it."""

    def __init__(self, message: str) -> None:
        """Keep `message` without secrets, printable, since values may hold anything."""
        super().__init__(printable(without_secrets(message)))


def is_of_the_system(error: BaseException) -> bool:
    """Return whether a disk or the system refuses, which a user can help; any other `OSError` may be a bug.

    Where a disk is full, NumPy's has no number: "9 requested and 5 written".
    """
    return isinstance(error, OSError) and (error.errno in REMEDIES or str(error).endswith(" written"))


def remedy(error: OSError) -> str:
    """Return what a user can do about an error that `is_of_the_system`."""
    if isinstance(error, PermissionError) and isinstance(error.filename, str) and not _is_readable(error.filename):
        return "check read permission, of the folders above it too"
    return REMEDIES[error.errno or errno.ENOSPC]


def _is_readable(path: str) -> bool:
    """Return whether a file or folder can be read, or is missing: it was to be written then."""
    try:
        is_folder = stat.S_ISDIR(Path(path).stat().st_mode)
    except OSError as error:
        return not isinstance(error, PermissionError)  # of a folder above it
    return os.access(path, os.R_OK | os.X_OK if is_folder else os.R_OK)


def printable(text: str) -> str:
    """Return `text` on one line, with its line ends and terminal codes as escapes."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def one_line(error: object) -> str:
    """Return an error's message without secrets as one line, cut off if it is too long."""
    line = " ".join(without_secrets(str(error)).split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
