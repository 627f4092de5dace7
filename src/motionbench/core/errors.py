"""Errors that a user can cause."""

import errno

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


def printable(text: str) -> str:
    """Return `text` on one line, with its line ends and terminal codes as escapes."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def one_line(error: object) -> str:
    """Return an error's message without secrets as one line, cut off if it is too long."""
    line = " ".join(without_secrets(str(error)).split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
