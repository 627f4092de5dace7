"""`make mlflow-sync`: log to MLflow's store what it lacks of what the files here say, but put no model in use."""

import shlex
import shutil
import sys

from motionbench.core.commands import run_command
from motionbench.core.dvc_files import read_lock, read_stages
from motionbench.core.errors import UserError
from motionbench.provenance.lineage import commit_of


def main() -> None:
    """Log what stages had to spool, then the run behind each stage's outputs.

    What the store refuses, or what is damaged, is named and holds up nothing else.

    Raises:
        UserError: if the store does not answer, is too old, or refuses every run.
    """
    # Imported late: keeps error messages fast.
    from motionbench.tracking.champion import champions_not_in_use
    from motionbench.tracking.errors import StoreError, store_errors

    champions: list[str] = []  # md5s of their archives
    try:
        complete = [_log_pending(champions), _log_outputs(champions)]
        with store_errors():
            print(*champions_not_in_use(champions), sep="\n", end="\n" if champions else "")
    except StoreError as error:
        again = "then run the command again: nothing is lost and nothing is logged twice"
        raise UserError(f"{error}; {again}") from error
    sys.exit(not all(complete))


def _log_pending(champions: list[str]) -> bool:
    """Log the spooled records, and add the champions among them; return whether all are logged."""
    from motionbench.tracking.errors import OutOfReachError, RefusedError, store_errors
    from motionbench.tracking.record import pending
    from motionbench.tracking.runs import log_run
    from motionbench.tracking.store import open_store

    records, refused = pending()
    for record in records:
        try:
            print(f"{record.stage}, pending: {'logged' if log_run(record) else 'there already'}")
        except (RefusedError, OutOfReachError) as error:
            with store_errors():
                open_store()  # raises if it is the store that fails, and not this record alone
            refused[record.folder] = str(error)
        else:
            champions += [record.champion.md5] if record.champion else []
            shutil.rmtree(record.folder)
    for folder, reason in refused.items():
        _name(f"{folder.name}, pending", f"{reason}; to give it up: rm -r {shlex.quote(str(folder))}")
    return not refused


def _log_outputs(champions: list[str]) -> bool:
    """Log the run behind the outputs of each stage, and add the champion; return whether all are logged."""
    from motionbench.tracking.errors import RefusedError
    from motionbench.tracking.record import restored_record
    from motionbench.tracking.runs import log_run

    lock, complete = read_lock(), True
    for stage in read_stages():
        try:
            if stage not in lock:
                raise UserError("never run; run it: dvc repro")
            record = restored_record(lock[stage], commit_of(lock[stage]))
        except UserError as error:
            complete = _name(stage, error)
            continue
        try:
            missing = log_run(record)
        except RefusedError as error:
            complete = _name(stage, error)
        else:
            champions += [record.champion.md5] if record.champion else []
            restored = f"restored: {', '.join(missing)}" if missing else "there already"
            print(f"{stage}: {'logged' if f'run {stage}' in missing else restored}")
    return complete


def _name(what: str, reason: object) -> bool:
    print(f"{what}: not logged: {reason}", file=sys.stderr)
    return False


if __name__ == "__main__":
    run_command(main)
