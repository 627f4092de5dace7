from motionbench.core.paths import PERTURBATIONS_PAGE
from motionbench.data.perturbations import PERTURBATIONS
from motionbench.reporting.report import describe_perturbations
from tests.conftest import ROOT


def test_page_of_perturbations_is_up_to_date() -> None:
    assert (ROOT / PERTURBATIONS_PAGE).read_text(encoding="utf-8") == describe_perturbations(), "run: make docs"


def test_page_describes_each_perturbation() -> None:
    rows = [line for line in describe_perturbations().splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows[2:]] == list(PERTURBATIONS)
