"""`make mlflow-sync`: log to MLflow's store what it lacks of what the files here say; run again, it changes nothing."""

import sys

from motionbench.core.dvc_files import read_lock, read_stages
from motionbench.core.errors import UserError, run_command
from motionbench.provenance.lineage import commit_of


def main() -> None:
    """Log what stages had to spool, then the run behind each stage's outputs."""
    # Imported late: keeps error messages fast.
    from motionbench.tracking.record import pending, restored_record
    from motionbench.tracking.runs import log_run

    for record in pending():
        print(f"{record.stage}, pending: {'logged' if log_run(record) else 'there already'}")
    lock, incomplete = read_lock(), False
    for stage in read_stages():
        try:
            if stage not in lock:
                raise UserError("never run; run it: dvc repro")
            record = restored_record(lock[stage], commit_of(lock[stage]))
        except UserError as error:
            incomplete = True
            print(f"{stage}: not logged: {error}", file=sys.stderr)
        else:
            missing = log_run(record)
            restored = f"restored: {', '.join(missing)}" if missing else "there already"
            print(f"{stage}: {'logged' if f'run {stage}' in missing else restored}")
    sys.exit(incomplete)


if __name__ == "__main__":
    run_command(main)
