"""`make example-clips`: write example videos, to try clips of your own without having any."""

import sys
from pathlib import Path

from motionbench.core.commands import run_command
from motionbench.core.errors import UserError
from motionbench.data.examples import write_example_clips


def main() -> None:
    """Write the videos into a folder, and print its name."""
    if len(sys.argv) not in (2, 3) or not sys.argv[1] or sys.argv[2:] not in ([], ["leak"]):
        raise UserError("FOLDER: name a folder, as in make example-clips FOLDER=data/clips; for a leak, LEAK=1")
    folder = Path(sys.argv[1])
    write_example_clips(folder, leak=sys.argv[2:] == ["leak"])
    print(f"example clips: {folder}")


if __name__ == "__main__":
    run_command(main)
