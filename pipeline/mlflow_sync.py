"""`make mlflow-sync`: log to MLflow's store what it lacks of what the files here say, but put no model in use."""

import shlex
import shutil
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from motionbench.core.commands import run_command
from motionbench.core.dvc_files import StageLock, read_lock, read_stages
from motionbench.core.errors import UserError
from motionbench.provenance.lineage import commit_of

if TYPE_CHECKING:
    from motionbench.tracking.record import Record


def main() -> None:
    """Log what stages had to spool, then the run behind each stage's outputs.

    What the store refuses, or what is damaged, is named and holds up nothing else.

    Raises:
        UserError: if the store does not answer, is too old, or refuses every run.
    """
    from motionbench.tracking.champion import champion_not_in_use  # imported late: keeps error messages fast
    from motionbench.tracking.record import pending, read_spooled

    complete = True
    for folder in pending():
        remedy = f"; to give it up: rm -r {shlex.quote(str(folder))}"
        if _log(f"{folder.name}, pending", partial(read_spooled, folder), remedy):
            shutil.rmtree(folder)
        else:
            complete = False
    lock = read_lock()
    for stage in read_stages():
        record = _log(stage, partial(_read_outputs, lock.get(stage)))
        complete = complete and record is not None
        if record and record.model and (said := champion_not_in_use(record.model.md5)):
            print(said)
    sys.exit(not complete)


def _read_outputs(entry: StageLock | None) -> "Record":
    from motionbench.tracking.record import restored_record

    if entry is None:
        raise UserError("never run; run it: dvc repro")
    return restored_record(entry, commit_of(entry))


def _log(what: str, read: Callable[[], "Record"], remedy: str = "") -> "Record | None":
    """Log what the store lacks of a record, and say what that was; if it cannot be logged, say why and return None."""
    from motionbench.tracking.errors import StoreError
    from motionbench.tracking.runs import log_run
    from motionbench.tracking.store import open_store

    try:
        record = read()
        missing = log_run(record)
    except UserError as error:
        if isinstance(error, StoreError):
            open_store()  # raises if it is the store that fails, and not this record alone
        print(f"{what}: not logged: {error}{remedy}", file=sys.stderr)
        return None
    restored = f"restored: {', '.join(missing)}" if missing else "there already"
    print(f"{what}: {'logged' if f'run {record.name}' in missing else restored}")
    return record


if __name__ == "__main__":
    run_command(main)
