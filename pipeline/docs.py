"""`make docs`: write the pages of docs/ that follow from the code."""

from motionbench.core.errors import run_command
from motionbench.core.files import atomic_outputs
from motionbench.core.paths import PERTURBATIONS_PAGE
from motionbench.reporting.report import describe_perturbations


def main() -> None:
    """Write docs/perturbations.md."""
    with atomic_outputs(PERTURBATIONS_PAGE) as (page,):
        page.write_text(describe_perturbations(), encoding="utf-8")


if __name__ == "__main__":
    run_command(main)
