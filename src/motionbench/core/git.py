"""Git commands."""

import subprocess

from motionbench.core.errors import UserError


def git(*arguments: str) -> str:
    """Return what a git command prints.

    Raises:
        UserError: if it fails.
    """
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", "") or str(error)
        reason = " ".join(reason.split())
        raise UserError(f"git {arguments[0]}: {reason}; run inside a clone of the repository") from error
