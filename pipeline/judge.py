"""`make judge`: what a change does to the results, compared with another working tree, as Markdown."""

import sys
from pathlib import Path

from motionbench.core.commands import run_command
from motionbench.core.errors import UserError
from motionbench.core.paths import PARAMS
from motionbench.params.loading import load_params
from motionbench.provenance.change import describe_change, read_results


def main() -> None:
    """Print what differs between the results in the folder that is named and those here."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "")
    if folder == Path() or not (folder / PARAMS).is_file():
        raise UserError(
            f"FOLDER: {folder}: no other working tree of this project; name one in which make repro has run, "
            "as in make judge FOLDER=../main"
        )
    before, now = read_results(folder), read_results(Path())
    print("\n".join(describe_change(before, now, load_params().gate.margin)))


if __name__ == "__main__":
    run_command(main)
