"""`make mlflow-sync`: bring MLflow's store up to what the files here say; the same again changes nothing."""

import sys

from motionbench.errors import UserError, run_command
from motionbench.lock import read_lock, restored
from motionbench.records import stage_names, undelivered


def main() -> None:
    """Deliver what stages had to keep, then the run behind each stage's outputs."""
    from motionbench import tracking

    for record in undelivered():
        print(f"{record.stage}, kept: {_told(tracking.deliver(record))}")
    lock = read_lock()
    missing = False
    for stage in stage_names():
        try:
            if stage not in lock:
                raise UserError("never run; run it: dvc repro")
            record = restored(lock[stage], "motionbench.serving")
        except UserError as error:
            missing = True
            print(f"{stage}: not delivered: {error}", file=sys.stderr)
        else:
            print(f"{stage}: {_told(tracking.deliver(record))}")
    if missing:
        sys.exit(1)


def _told(delivered: bool) -> str:
    return "delivered" if delivered else "there already"


if __name__ == "__main__":
    run_command(main)
