"""What a change does to the results, compared with those in another working tree, as Markdown."""

from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any, NamedTuple

from motionbench.comparison.pairs import Comparison, compare_pairs
from motionbench.comparison.sentences import describe_pair
from motionbench.core.errors import UserError
from motionbench.core.files import read_json
from motionbench.core.paths import COMPARISON_METRICS, COMPARISON_REPORT, COMPARISON_TIMING, MODELS
from motionbench.evaluation.costs import Cost, read_costs
from motionbench.evaluation.predictions import Predictions, read_predictions
from motionbench.training.results import read_trainings

PICTURES = {"cost": "Error against latency", "perturbations": "Accuracy against the level of each perturbation"}


class Results(NamedTuple):
    """What `make repro` has written in a working tree."""

    predictions: Predictions
    parameters: dict[str, int]  # of each model
    costs: dict[str, Cost]
    summary: dict[str, Any]
    verdict: list[str]  # with the reason for the champion

    def accuracy(self, name: str) -> str:
        """Return a model's accuracy with its 95 % interval."""
        if name not in self.parameters:
            return "-"
        found = self.summary[name]
        return f"{found['accuracy']:.3f} ({found['low']:.3f} to {found['high']:.3f})"

    def networks(self, name: str) -> dict[str, str]:
        """Return the md5s of a model's replicates, by path."""
        return {path: md5 for path, md5 in self.predictions.md5s.items() if Path(path).parent == MODELS / name}

    def held_out(self) -> dict[str, str]:
        """Return the md5s of the clips that were predicted, by path."""
        return {path: md5 for path, md5 in self.predictions.md5s.items() if not path.endswith(".keras")}


def read_results(folder: Path) -> Results:
    """Read the results in a working tree.

    Raises:
        UserError: if some are missing or damaged.
    """
    with chdir(folder):
        try:
            predictions = read_predictions()
            trained = read_trainings(predictions.models)
            return Results(
                predictions, {name: training.parameters for name, training in trained.items()},
                read_costs(predictions.models), read_json(COMPARISON_METRICS / "summary.json"),
                [
                    *(COMPARISON_METRICS / "verdict.txt").read_text(encoding="utf-8").splitlines(),
                    read_json(COMPARISON_TIMING)["reason"],
                ],
            )  # fmt: skip # in the order of its fields
        except UserError as error:
            raise UserError(f"in {folder}: {error}") from error
        except (OSError, LookupError, TypeError, ValueError) as error:
            what = f"{COMPARISON_METRICS} or {COMPARISON_TIMING}: not readable ({type(error).__name__})"
            raise UserError(f"in {folder}: {what}; make it again: dvc repro --single-item --force compare") from error


def describe_change(before: Results, now: Results, margin: float) -> Iterator[str]:
    """Yield the lines of a page: what changed, the models side by side, and the verdict with two pictures.

    A model is compared with itself as it was before, replicate by replicate of the same clips, as two models are.

    Args:
        margin: the difference of accuracies below which both are practically equal.
    """
    names = list(dict.fromkeys([*now.parameters, *before.parameters]))
    changed = [name for name in names if before.networks(name) != now.networks(name)]
    comparable = before.held_out() == now.held_out()
    pairs = {each.first: each for each in (_compare(before, now, changed, margin) if comparable else [])}
    yield "## What this change does"
    yield ""
    yield f"Networks that changed: {', '.join(changed) or 'none'}." + (
        "" if comparable else " The test clips are others than before, so that accuracies cannot be compared."
    )
    yield ""
    yield "| | accuracy before | accuracy now | difference | parameters | latency (ms) |"
    yield "|---|---|---|---|---|---|"
    for name in names:
        difference = _difference(pairs[name]) if name in pairs else "-" if name in changed else "the same networks"
        parameters = dict.fromkeys(f"{each.parameters[name]:,}" for each in (before, now) if name in each.parameters)
        latency = [f"{each.costs[name].latency_milliseconds:.1f}" for each in (before, now) if name in each.costs]
        cells = [before.accuracy(name), now.accuracy(name), difference, *map(" → ".join, (parameters, latency))]
        yield f"| {' | '.join([name, *cells])} |"
    yield ""
    yield from (f"- {describe_pair(pair)}" for pair in pairs.values())
    then, after = (results.summary["conclusions"] for results in (before, now))
    differing = [
        f"- {key}: {then.get(key, 'not asked')} → {after.get(key, 'not asked')}"
        for key in {**then, **after}
        if then.get(key) != after.get(key)
    ]
    yield from ["", "### Conclusions that changed", "", *(differing or ["None."])]
    yield from ["", "### The verdict now", ""]
    yield from (f"- {sentence}" for sentence in now.verdict)
    for name, caption in PICTURES.items():
        yield from ["", f"![{caption}]({COMPARISON_REPORT.as_posix()}/{name}.png)"]


def _compare(before: Results, now: Results, changed: list[str], margin: float) -> list[Comparison]:
    """Compare each model that changed with itself before, p-values adjusted for their number."""
    both = [name for name in changed if name in before.parameters and name in now.parameters]
    right = {name: now.predictions.unchanged.right(name) for name in both}
    right |= {f"{name} before": before.predictions.unchanged.right(name) for name in both}
    return compare_pairs(right, now.predictions.groups, margin, [(name, f"{name} before") for name in both])


def _difference(pair: Comparison) -> str:
    """Return a difference of accuracies with its 95 % interval, and what it shows."""
    low, high = (pair.recipes or pair.networks).interval
    shown = "better" if pair.first_leads else "worse" if pair.leader else "equal" if pair.equal else "not shown"
    return f"{pair.difference:+.3f} ({low:+.3f} to {high:+.3f}): {shown}"
