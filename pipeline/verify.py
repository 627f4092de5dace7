"""`make verify`: are the outputs that the last commit's dvc.lock names what its code makes from nothing?"""

import sys

from rich.console import Console
from rich.table import Table

from motionbench.core.errors import run_command
from motionbench.core.processes import describe_environment, git
from motionbench.params.loading import load_params
from motionbench.provenance.verification import verify


def main() -> None:
    """Run all stages in a temporary clone, print each output's md5 beside dvc.lock's, exit with 1 if one differs."""
    here = describe_environment()
    if git("status", "--porcelain").strip():
        print("warning: changes that are not committed are not verified: HEAD is", file=sys.stderr)
    found = verify()
    table = Table("stage", "output", "md5 in dvc.lock", "md5 made anew", "equal")
    for check in found.checks:
        equal = "not compared: timings" if check.timed else "equal" if check.equal else "DIFFERENT"
        table.add_row(check.stage, check.out, check.expected, check.found, equal)
    # As wide as it is, so that no md5 is cut.
    Console(width=max(Console().width, 160)).print(table)
    print(f"commit: {git('log', '-1', '--format=%h %s').strip()}")
    print(f"here: {', '.join(here)}; {load_params().training.threads} thread a replicate (training.threads)")
    for out, environment in found.recorded_on.items():
        print(f"{out}: recorded on {', '.join(environment)}")
    if found.other_inputs:
        print(f"warning: dvc.lock was made with others of: {', '.join(found.other_inputs)}", file=sys.stderr)
    compared = [check for check in found.checks if not check.timed]
    different = [check.out for check in compared if not check.equal]
    print(f"{len(compared) - len(different)} of {len(compared)} outputs are equal.")
    if different:
        print(
            f"different: {', '.join(different)}. Clips are the same on every machine; trained weights, and what "
            "follows from them, with the same kind of processor, packages and training.threads."
        )
        sys.exit(1)


if __name__ == "__main__":
    run_command(main)
