"""`make mlflow-sync`: log to MLflow's store what it lacks of what the files here say, but put no model in use."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from motionbench.core.commands import run_command
from motionbench.core.dvc_files import StageLock, read_lock, read_stages
from motionbench.core.errors import UserError
from motionbench.provenance.lineage import commit_of


def main() -> None:
    """Log what stages had to spool, then the run behind each stage's outputs.

    What the store refuses, or what is damaged, is named and holds up nothing else.

    Raises:
        UserError: if the store does not answer, is too old, or refuses access.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")  # Nobody waits for it, as for a stage.
    from motionbench.tracking.record import pending  # imported late: keeps error messages fast

    complete = [_log(f"{folder.name}, pending", folder) for folder in pending()]
    lock = read_lock()
    # `embed` has no run: it writes what others read, and measures nothing.
    complete += [_log(stage, lock.get(stage)) for stage in read_stages() if stage != "embed"]
    sys.exit(not all(complete))


def _log(what: str, source: Path | StageLock | None) -> bool:
    """Log the record in a folder, or of a stage's outputs, and say what of it was missing, or why it is not logged."""
    from motionbench.tracking.champion import champion_not_in_use
    from motionbench.tracking.errors import StoreError
    from motionbench.tracking.from_files import restored_record
    from motionbench.tracking.record import read_spooled
    from motionbench.tracking.runs import log_run
    from motionbench.tracking.store import open_store

    try:
        if source is None:
            raise UserError("never run; run it: dvc repro")
        record = read_spooled(source) if isinstance(source, Path) else restored_record(source, commit_of(source))
        if isinstance(source, StageLock) and record.name.startswith("train_") and not record.replicates:
            print(f"{what}: nothing was trained")  # All its models are switched off: it has no run.
            return True
        missing = log_run(record)
    except UserError as error:
        if isinstance(error, StoreError):
            open_store()  # raises if it is the store that fails, and not this record alone
        remedy = f"; to give it up: rm -r {shlex.quote(str(source))}" if isinstance(source, Path) else ""
        print(f"{what}: not logged: {error}{remedy}", file=sys.stderr)
        return False
    restored = f"restored: {', '.join(missing)}" if missing else "there already"
    print(f"{what}: {'logged' if f'run {record.name}' in missing else restored}", flush=True)
    if isinstance(source, Path):
        shutil.rmtree(source)
    elif record.model and (not_in_use := champion_not_in_use(record.model.md5)):
        print(not_in_use)
    return True


if __name__ == "__main__":
    run_command(main)
