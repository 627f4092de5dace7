"""`make leaderboard`: every experiment of `dvc exp run` that git knows, what it changed and what came of it."""

from rich.console import Console
from rich.table import Table

from motionbench.errors import UserError, run_command
from motionbench.leaderboard import HEADER, leaderboard_rows
from motionbench.params import flat, load_params


def main() -> None:
    """Print the table."""
    params = load_params()
    # Late: a bad parameter is to be answered in a blink.
    from dvc.api import exp_show

    rows = leaderboard_rows(exp_show(), list(flat(params)))
    if not rows:
        raise UserError("leaderboard: no experiment has results yet; run one: make repro")
    table = Table(title="accuracy on the test split, and the difference with its 95 % interval")
    for column in HEADER:
        table.add_column(column, overflow="fold", min_width=30 if column == "changed" else None)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    run_command(main)
