"""`make mlflow-sync`: log to MLflow's store what it lacks of what the files here say, but put no model in use."""

import sys
from functools import partial

from motionbench.core.dvc_files import read_lock, read_stages
from motionbench.core.errors import UserError, run_command
from motionbench.provenance.lineage import commit_of


def main() -> None:
    """Log what stages had to spool, then the run behind each stage's outputs."""
    # Imported late: keeps error messages fast.
    from motionbench.tracking.model_registry import champions_not_in_use
    from motionbench.tracking.record import pending, restored_record
    from motionbench.tracking.runs import log_run
    from motionbench.tracking.store import best_effort

    champions: dict[str, None] = {}  # by the md5 of their archives
    for record in pending():
        champions |= {record.champion.md5: None} if record.champion else {}
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
            champions |= {record.champion.md5: None} if record.champion else {}
            missing = log_run(record)
            restored = f"restored: {', '.join(missing)}" if missing else "there already"
            print(f"{stage}: {'logged' if f'run {stage}' in missing else restored}")
    if champions:
        for line in best_effort(partial(champions_not_in_use, champions)) or []:
            print(line)
    sys.exit(incomplete)


if __name__ == "__main__":
    run_command(main)
