"""`make promote`: put a version of the champions in use by its number; without a number, list them."""

import sys

from motionbench.core.commands import run_command


def main() -> None:
    """Give a version in MLflow's store the alias `champion`, and print what it is."""
    # Imported late: keeps error messages fast.
    from motionbench.tracking.champion import list_versions, use_version

    number = " ".join(sys.argv[1:])
    print(use_version(number) if number else "\n".join(list_versions()))


if __name__ == "__main__":
    run_command(main)
