"""`make lineage`: what made a file, or what a run made."""

import sys

from motionbench.core.commands import run_command
from motionbench.provenance.lineage import lineage


def main() -> None:
    """Print what is known of a path, an md5 or a run id."""
    for label, text in lineage(" ".join(sys.argv[1:])):
        print(f"{label}: {text}" if len(label) > 12 else f"{label:<12} {text}")


if __name__ == "__main__":
    run_command(main)
