"""Stage `keep_runs`, the last: check what dvc.lock records, and keep the runs of all stages in DVC's run cache.

DVC records a stage only when its process has ended, which is too late for the stage to see what is edited then. And it
keeps no run of a stage whose outputs are in git, as metrics are: with them, going back to earlier parameters or clips
trains nothing.
"""

from dvc.exceptions import DvcException
from dvc.repo import Repo

from motionbench.core.commands import run_command
from motionbench.core.dvc_files import read_lock
from motionbench.core.errors import UserError, one_line
from motionbench.core.inputs import drop_false_records


def main() -> None:
    """Check every stage in dvc.lock, and keep those whose inputs and outputs are still as it says."""
    drop_false_records(read_lock().values())
    try:
        with Repo() as repo, repo.lock:
            for stage in repo.index.stages:
                if not stage.changed():
                    repo.stage_cache.save(stage)  # as dvc.lock has it, whatever is edited meanwhile
    except DvcException as error:
        raise UserError(f"the runs are not kept in DVC's cache: {one_line(error)}; fix it, then: dvc repro") from error


if __name__ == "__main__":
    run_command(main)
