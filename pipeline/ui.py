"""`make ui`: prepare the views in MLflow's pages, and print their addresses, while its server starts."""

import sys

from motionbench.core.commands import run_command


def main() -> None:
    """Write the views to MLflow's store, and print a line for each.

    Raises:
        UserError: if there is no store, or it fails.
    """
    from motionbench.tracking.views import prepare_views  # imported late: keeps error messages fast

    for name, url in prepare_views(sys.argv[1]).items():
        print(f"{name}: {url}", flush=True)


if __name__ == "__main__":
    run_command(main)
