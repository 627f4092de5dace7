"""Where studies are kept: the journal file in the current folder, or a database that machines share."""

import json
import os
import re
import sys
import time
import warnings

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from sqlalchemy.exc import ArgumentError, IntegrityError, ProgrammingError, SQLAlchemyError

from motionbench.core.errors import UserError, one_line
from motionbench.core.files import atomic_outputs
from motionbench.core.paths import JOURNAL
from motionbench.core.redaction import without_secrets

RECORD = re.compile(rb'(?=\{"op_code":)')  # where one of the journal begins
HEARTBEAT_SECONDS, GRACE_SECONDS = 20, 90  # of trials in a database that other machines may share


def open_storage() -> tuple[BaseStorage, str]:
    """Return the storage and its name: the URL in `OPTUNA_STORAGE`, or else the journal file in the current folder.

    Raises:
        UserError: if it cannot be reached, or is damaged.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Study.optimize is not used: `search` sends the heartbeats.
    warnings.filterwarnings("ignore", message="Heartbeat of storage is supposed to be used with Study.optimize")
    # Heartbeats and retries have been experimental for years.
    warnings.simplefilter("ignore", ExperimentalWarning)
    url = os.environ.get("OPTUNA_STORAGE")
    if not url:
        _repair_journal()
        try:
            return JournalStorage(JournalFileBackend(str(JOURNAL))), str(JOURNAL)
        except ValueError as error:
            raise UserError(
                f"{JOURNAL}: damaged, not only at its end; put a copy of it back, or search anew: mv {JOURNAL} "
                f"{JOURNAL}.damaged"
            ) from error
    try:
        return _open_database(url), without_secrets(url)
    except (SQLAlchemyError, ImportError, ValueError, optuna.exceptions.StorageInternalError) as error:
        reason = one_line(error.__cause__ or error)
        form = " as in docs/tuning.md" if isinstance(error, ArgumentError | ValueError) else ""
        raise UserError(
            f"OPTUNA_STORAGE: {url}: cannot be reached ({reason}); start the server, set another "
            f"address{form}, or unset OPTUNA_STORAGE to search in {JOURNAL}"
        ) from error


def _repair_journal() -> None:
    """Remove each beginning of a line that a full disk or a kill has left, also where a process went on behind it."""
    lock = JournalFileSymlinkLock(str(JOURNAL))
    lock.acquire()
    try:
        found = JOURNAL.read_bytes() if JOURNAL.exists() else b""
        *lines, end = found.split(b"\n")
        kept: list[bytes] = []
        for line in lines:
            *before, last = RECORD.split(line)
            kept += [*filter(_is_json, before), last]
        kept += filter(_is_json, RECORD.split(end))
        whole = b"".join(record + b"\n" for record in kept)
        if found != whole:
            with atomic_outputs(JOURNAL) as (new,):
                new.write_bytes(whole)
        if found.replace(b"\n", b"") != whole.replace(b"\n", b""):  # not where a line's end alone was missing
            print(f"{JOURNAL}: removed a line that was cut off; finished trials are kept", file=sys.stderr)
    finally:
        lock.release()


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _open_database(url: str, attempts: int = 5) -> RDBStorage:
    try:
        return RDBStorage(
            url,
            engine_kwargs={"pool_pre_ping": True},  # replaces a connection that was closed by a restart of the server
            heartbeat_interval=HEARTBEAT_SECONDS,
            grace_period=GRACE_SECONDS,
        )
    except (IntegrityError, ProgrammingError):
        if attempts == 1:
            raise
        # When two processes open an empty database, both create its tables, and one of them fails.
        time.sleep(1)
        return _open_database(url, attempts - 1)
