"""`make promote`: put a version of the champions in use by its number; without a number, list them."""

import sys

from motionbench.core.errors import run_command


def main() -> None:
    """Give a version in MLflow's store the alias `champion`, and print what it is."""
    # Imported late: keeps error messages fast.
    from motionbench.tracking.model_registry import use_version

    print(use_version(sys.argv[1] if len(sys.argv) == 2 else ""))


if __name__ == "__main__":
    run_command(main)
