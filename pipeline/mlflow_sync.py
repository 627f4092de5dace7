"""`make mlflow-sync`: make MLflow's store hold what the files here say; run again, it changes nothing."""

import sys

from motionbench.core.dvc_files import read_lock, read_stages
from motionbench.core.errors import UserError, run_command


def main() -> None:
    """Log what stages had to spool, then the run behind each stage's outputs."""
    from motionbench.provenance.restore import restored_record
    from motionbench.tracking.runs import log_run
    from motionbench.tracking.spool import pending

    for record in pending():
        print(f"{record.stage}, pending: {_result(logged=log_run(record))}")
    lock = read_lock()
    incomplete = False
    for stage in read_stages():
        try:
            if stage not in lock:
                raise UserError("never run; run it: dvc repro")
            record = restored_record(lock[stage])
        except UserError as error:
            incomplete = True
            print(f"{stage}: not logged: {error}", file=sys.stderr)
        else:
            print(f"{stage}: {_result(logged=log_run(record))}")
    if incomplete:
        sys.exit(1)


def _result(*, logged: bool) -> str:
    return "logged" if logged else "there already"


if __name__ == "__main__":
    run_command(main)
