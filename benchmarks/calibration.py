"""How often verdicts and intervals are right, in made-up worlds whose truth is known.

python -m benchmarks.calibration writes docs/results/calibration.md; it takes an hour on two cores.
"""

from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtr, ndtri

from benchmarks.common import DOCS, as_task, markdown_table, write_page
from motionbench.comparison.intervals import accuracy_interval, sum_by_group
from motionbench.comparison.pairs import compare
from motionbench.execution.engine import local_engine, run_tasks

CLIPS = (80, 300, 1200)
GROUPS = ((0, 0.0), *product((6, 12, 30), (0.0, 0.1, 0.3)))  # their number, 0 for none, and the correlation within them
SEEDS = (1, 2, 3, 5, 10)
DEVIATIONS = (0.0, 0.01, 0.02, 0.04)  # of the accuracies of seeds
ACCURACIES = (0.7, 0.9, 0.97)  # of the first recipe
DIFFERENCES = (0.0, 0.02, 0.05)  # the first recipe's accuracy less the second's
DATA_SETS, MORE_DATA_SETS = 1_000, 10_000
MARGIN = 0.02
SHARED, OF_CLIP = 0.5, 0.5  # how much of what makes clips hard is so for both models, and for all seeds of a model
AT_ONCE = 100
PART = 0.5
OLD_RESAMPLES = 1_000


class World(NamedTuple):
    """A truth, and the design of an experiment in it."""

    clips: int
    groups: int
    correlation: float
    seeds: int
    deviation: float
    accuracy: float
    difference: float
    other_correlation: float | None = None  # of the second recipe; by default that of the first
    collapsing: float = 0.0  # the share of seeds that end at the accuracy COLLAPSED


COLLAPSED = 0.4
NOT_COVERED = (
    World(1200, 12, 0.0, 3, 0.0, 0.97, 0.0, other_correlation=0.3),
    World(1200, 12, 0.0, 10, 0.0, 0.97, 0.0, other_correlation=0.3),
    World(1200, 12, 0.0, 3, 0.0, 0.9, 0.0, other_correlation=0.3),
    World(1200, 30, 0.0, 10, 0.0, 0.97, 0.0, other_correlation=0.3),
    World(300, 0, 0.0, 3, 0.0, 0.9, 0.0, collapsing=0.1),
    World(300, 0, 0.0, 10, 0.0, 0.9, 0.0, collapsing=0.1),
)


def main() -> None:
    """Simulate all worlds, those near a bound again with more data sets, and write the page."""
    worlds = some_worlds()
    rates = simulate_all(worlds, DATA_SETS, stream=0)
    near = near_bounds(rates)
    again = [world for world, is_near in zip(worlds, near, strict=True) if is_near]
    rates = pd.concat([rates[~near], simulate_all(again, MORE_DATA_SETS, stream=1)], ignore_index=True)
    not_covered = simulate_all(NOT_COVERED, DATA_SETS, stream=0)
    write_page(DOCS / "calibration.md", [*as_markdown(rates, len(again)), *describe_not_covered(not_covered)])


def some_worlds() -> list[World]:
    """Return all corners, where each property has its lowest or highest value, and a part of the other worlds."""
    chosen = np.random.default_rng(0)
    worlds = []
    for clips, groups, *rest in product(CLIPS, GROUPS, SEEDS, DEVIATIONS, ACCURACIES, DIFFERENCES):
        world = World(clips, groups[0], groups[1], int(rest[0]), *rest[1:])
        values = zip(
            world[:7], (CLIPS, (0, 6, 30), (0.0, 0.3), SEEDS, DEVIATIONS, ACCURACIES, DIFFERENCES), strict=True
        )
        is_corner = all(value in (known[0], known[-1], 6 if known[-1] == 30 else None) for value, known in values)
        if chosen.random() < PART or is_corner:
            worlds.append(world)
    return worlds


def near_bounds(rates: pd.DataFrame) -> "pd.Series[bool]":
    """Return which worlds are so near a bound that chance could put them on the wrong side of it."""
    few = rates["seeds"] > 1
    covered = rates[["covered", "accuracy covered"]].min(axis=1)
    false = rates["better"].where(rates["difference"] == 0, 0)
    false_equal = rates["equal"].where(rates["difference"] == MARGIN, 0)
    return (few & (covered < 0.932)) | (false > 0.055) | (false_equal > 0.055)


def simulate_all(worlds: Sequence[World], data_sets: int, stream: int) -> pd.DataFrame:
    """Return a row per world: the world and its rates."""
    with local_engine() as engine:
        rows = run_tasks(engine, [as_task(simulate, world, data_sets, stream) for world in worlds], threads=1)
    return pd.DataFrame([{**world._asdict(), **row} for world, row in zip(worlds, rows, strict=True)])


def simulate(world: World, data_sets: int, stream: int) -> dict[str, float]:
    """Return in which shares of the data sets of a world verdicts are given and intervals hold the truth."""
    random = np.random.default_rng([stream, *(round(100 * value) for value in world[:7])])
    groups = np.arange(world.clips) % world.groups if world.groups else None
    rows: list[dict[str, bool | float]] = []
    while len(rows) < data_sets:
        number = min(AT_ONCE, data_sets - len(rows))
        ours, theirs = draw(world, groups, number, random)
        old = OldRule(ours, theirs, groups)
        for each in range(number):
            rows.append(_judge(world, ours[each], theirs[each], groups, old, each))
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _judge(
    world: World,
    ours: NDArray[np.bool_],
    theirs: NDArray[np.bool_],
    groups: NDArray[Any] | None,
    old: "OldRule",
    number: int,
) -> dict[str, bool | float]:
    found = compare(ours, theirs, groups, margin=MARGIN)
    low, high = (found.recipes or found.networks).interval
    old_low, old_high = old.differences[number]
    row: dict[str, bool | float] = {
        "better": found.better is not None,
        "better network": found.better_network is not None,
        "equal": found.equal,
        "covered": low <= world.difference <= high,
        "width": high - low,
        "old better": found.networks.p_value < 0.05 and not old_low <= 0 <= old_high,
        "old covered": old_low <= world.difference <= old_high,
        "old width": old_high - old_low,
    }
    if world.difference == 0:  # The first model's answers are then of all its worlds.
        low, high = accuracy_interval(ours, groups)
        old_low, old_high = old.accuracies[number]
        row |= {"accuracy covered": low <= world.accuracy <= high, "accuracy width": high - low}
        row |= {"old accuracy covered": old_low <= world.accuracy <= old_high, "old accuracy width": old_high - old_low}
    return row


def draw(
    world: World, groups: NDArray[np.int64] | None, number: int, random: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return answers of two models, each of shape (data sets, seeds, clips).

    An answer is right if the sum of normal effects of group, clip and chance is below a threshold. The seed's accuracy
    sets the threshold; it has a beta distribution. So all means, deviations and correlations are exact.
    """

    def normal(*shape: int) -> NDArray[np.float32]:
        return random.standard_normal((number, *shape), dtype=np.float32)

    shared_groups, shared_clips = normal(world.groups or 1), normal(world.clips)
    models = []
    other = world.correlation if world.other_correlation is None else world.other_correlation
    for accuracy, correlation in ((world.accuracy, world.correlation), (world.accuracy - world.difference, other)):
        of_group = latent_correlation(accuracy, correlation)
        of_clip = OF_CLIP * (1 - of_group)
        effect = _mixed(of_clip, shared_clips, normal(world.clips))
        if groups is not None:
            effect = effect + _mixed(of_group, shared_groups, normal(world.groups))[:, groups]
        thresholds = ndtri(_seed_accuracies(accuracy, world, number, random)).astype(np.float32)
        chance = np.float32((1 - of_group - of_clip) ** 0.5) * normal(world.seeds, world.clips)
        models.append(effect[:, np.newaxis] + chance < thresholds[..., np.newaxis])
    return models[0], models[1]


def _mixed(variance: float, shared: NDArray[np.float32], own: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.float32((variance * SHARED) ** 0.5) * shared + np.float32((variance * (1 - SHARED)) ** 0.5) * own


def _seed_accuracies(accuracy: float, world: World, number: int, random: np.random.Generator) -> NDArray[np.float64]:
    if world.collapsing:
        others = (accuracy - world.collapsing * COLLAPSED) / (1 - world.collapsing)
        return np.where(random.random((number, world.seeds)) < world.collapsing, COLLAPSED, others)
    if world.deviation == 0:
        return np.full((number, world.seeds), accuracy)
    size = accuracy * (1 - accuracy) / world.deviation**2 - 1
    drawn = random.beta(accuracy * size, (1 - accuracy) * size, (number, world.seeds))
    return np.clip(drawn, 1e-9, 1 - 1e-9)


@cache
def latent_correlation(accuracy: float, correlation: float) -> float:
    """Return the correlation of normal effects that gives right answers, of this share, a correlation."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        chances = ndtr((ndtri(accuracy) + middle**0.5 * nodes) / (1 - middle) ** 0.5)
        both = (weights * chances**2).sum() / weights.sum()
        low, high = (middle, high) if both < accuracy**2 + correlation * accuracy * (1 - accuracy) else (low, middle)
    return low


class OldRule(NamedTuple("OldRule", [("differences", Any), ("accuracies", Any)])):
    """The intervals before: the bootstrap over groups and replicates, and the union of exact intervals.

    A difference was "significant" if this interval excluded 0 and the exact test, which is as it was, showed one.
    """

    def __new__(cls, ours: NDArray[np.bool_], theirs: NDArray[np.bool_], groups: NDArray[Any] | None) -> "OldRule":
        """Take answers of shape (data sets, seeds, clips); hold the ends of intervals, shape (data sets, 2)."""
        number, seeds, clips = ours.shape
        (first, sizes), (second, _) = (sum_by_group(side.reshape(-1, clips), groups) for side in (ours, theirs))
        units, random = len(sizes), np.random.default_rng(0)
        drawn = random.multinomial(units, np.full(units, 1 / units), size=OLD_RESAMPLES).astype(np.float32)
        resampled = []
        for side in (first, second):
            sums = (drawn @ side.T.astype(np.float32)).reshape(OLD_RESAMPLES, number, seeds)
            chosen = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=OLD_RESAMPLES)
            resampled.append((sums * chosen[:, np.newaxis]).sum(axis=2) / (seeds * drawn @ sizes)[:, np.newaxis])
        differences = np.quantile(resampled[0] - resampled[1], [0.025, 0.975], axis=0).T
        accuracies = np.quantile(resampled[0], [0.025, 0.975], axis=0).T
        if groups is None:
            ends = _exact(ours.sum(axis=2), clips)
            return super().__new__(cls, differences, np.stack([ends[0].min(axis=1), ends[1].max(axis=1)], axis=1))
        alike = accuracies[:, 0] == accuracies[:, 1]
        accuracies[alike] = np.stack(_exact(ours.mean(axis=(1, 2))[alike] * units, units), axis=1)
        return super().__new__(cls, differences, accuracies)


def _exact(right: NDArray[Any], trials: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    low = np.where(right > 0, betaincinv(np.maximum(right, 1e-9), trials - right + 1, 0.025), 0)
    high = np.where(right < trials, betaincinv(right + 1, np.maximum(trials - right, 1e-9), 0.975), 1)
    return low, high


def as_markdown(rates: pd.DataFrame, again: int) -> list[str]:
    """Return the page: tables of false verdicts, coverage, width and power, and the worlds that are worst.

    Args:
        rates: a row per world, as `simulate_all` returns them.
        again: how many worlds were simulated again.
    """
    alike, several = rates[rates["difference"] == 0], rates[rates["seeds"] > 1]
    at_margin = rates[rates["difference"] == MARGIN]
    return [
        "# How often verdicts and intervals are right",
        f"Written by `python -m benchmarks.calibration`. In {len(rates):,} made-up worlds the truth is known: "
        f"{_listed(CLIPS)} test clips, without groups or in 6, 12 or 30 with a correlation of 0, 0.1 or 0.3 within "
        f"them, {_listed(SEEDS)} seeds whose accuracies deviate by 0, 1, 2 or 4 points, an accuracy of "
        f"{_listed(ACCURACIES)}, and a true difference of {_listed(DIFFERENCES)} between two recipes. They are all "
        f"corners and a random half of the other combinations. "
        f"Of each, {DATA_SETS:,} experiments were drawn; of the {again} nearest to a bound, "
        f'{MORE_DATA_SETS:,} others. All figures but the widths are percent of experiments. "Before" is the rule that '
        f"these statistics replaced: an exact test and a bootstrap over groups and replicates (with {OLD_RESAMPLES:,} "
        "resamples), and for one accuracy the union of the replicates' exact intervals or that bootstrap. Half of what "
        "makes clips and groups hard is so for both models. The accuracies of seeds have a beta distribution, which is "
        "very skewed at 97 % with 4 points.",
        "## False verdicts",
        'Two recipes of the same accuracy. "Better" is to be said in at most 6 of 100. With one seed it is never said; '
        "what is then said of these networks is true of them, and says little about the recipes.",
        markdown_table(_by(alike, "seeds", {"better": max, "old better": max, "better network": max})),
        f'A true difference of {MARGIN:g}, the margin: "practically equal" is to be said in at most 6 of 100. Beside '
        "it, how often it is said where there is no difference.",
        markdown_table(
            [
                {**row, "no difference: mean": other["equal: mean"], "no difference: highest": other["equal: highest"]}
                for row, other in zip(
                    _by(at_margin, ["clips", "seeds"], {"equal": max}),
                    _by(alike, ["clips", "seeds"], {"equal": max}),
                    strict=True,
                )
            ]
        ),
        "## Coverage",
        "How often 95 % intervals hold the truth about the recipes. With one seed the interval of a difference is that "
        "of these networks: it does not count seeds, and must not be read as one of recipes.",
        markdown_table(_by(rates, "seeds", {"covered": min, "old covered": min})),
        markdown_table(_by(rates[rates["seeds"] == 1], "deviation", {"covered": min, "accuracy covered": min})),
        "Of the accuracy of one model:",
        markdown_table(_by(alike, "seeds", {"accuracy covered": min, "old accuracy covered": min})),
        "By groups, with two seeds or more:",
        markdown_table(
            _by(several, ["groups", "correlation"], {"covered": min, "old covered": min, "accuracy covered": min})
        ),
        "## The price: width and power",
        "Mean width of the intervals, with two seeds or more:",
        markdown_table(_widths(several)),
        "How often the better recipe is called so. Before, that was said more often, of identical recipes too.",
        markdown_table(_power(several[several["difference"] > 0])),
        "## The worst worlds",
        markdown_table(_worst(several, "covered")),
        markdown_table(_worst(several, "accuracy covered")),
        markdown_table(_worst(alike, "better", highest=True)),
    ]


def describe_not_covered(rates: pd.DataFrame) -> list[str]:
    """Return the part of the page that shows in which worlds verdicts do not keep their word."""
    rows = [
        {
            **{name: f"{row[name]:g}" for name in ("clips", "groups", "seeds", "accuracy")},
            "correlation": f"{row['correlation']:g} and {row['other_correlation']:g}" if row["groups"] else "",
            "seeds that collapse": f"{row['collapsing']:.0%}",
            **{name: f"{100 * row[name]:.1f}" for name in ("better", "covered", "accuracy covered")},
        }
        for _, row in rates.iterrows()
    ]
    return [
        "## What is not covered",
        "Verdicts and intervals assume that both recipes err alike, on single clips or on whole groups. Here two "
        "recipes of the same accuracy do not: the second one errs on whole groups, which few samples of groups have. "
        f"Or one seed in ten ends at an accuracy of {COLLAPSED:g}, which three seeds mostly do not show. More clips do "
        "not help, only more groups and more seeds do.",
        markdown_table(rows),
    ]


def _listed(values: Sequence[float]) -> str:
    return f"{', '.join(f'{value:g}' for value in values[:-1])} or {values[-1]:g}"


def _by(rates: pd.DataFrame, by: str | list[str], columns: dict[str, Any]) -> list[dict[str, str]]:
    """Return mean and extreme of rates, in percent, by the properties of worlds."""
    names = [by] if isinstance(by, str) else by
    rows = []
    for key, part in rates.groupby(names):
        row = {name: f"{value:g}" for name, value in zip(names, key, strict=True)}
        for column, extreme in columns.items():
            title = column.replace("old ", "before: ")
            row[f"{title}: mean"] = f"{100 * part[column].mean():.1f}"
            row[f"{title}: {'highest' if extreme is max else 'lowest'}"] = f"{100 * extreme(part[column].dropna()):.1f}"
        rows.append(row)
    return rows


def _widths(rates: pd.DataFrame) -> list[dict[str, str]]:
    columns = ["width", "old width", "accuracy width", "old accuracy width"]
    means = rates.groupby(["clips", "groups"])[columns].mean().reset_index()
    titles = {"width": "difference", "accuracy width": "accuracy"}
    return [
        {"clips": f"{row['clips']:g}", "groups": f"{row['groups']:g}"}
        | {
            ("before: " if name.startswith("old ") else "") + titles[name.removeprefix("old ")]: f"{row[name]:.3f}"
            for name in columns
        }
        for _, row in means.iterrows()
    ]


def _power(rates: pd.DataFrame) -> list[dict[str, str]]:
    properties = ["difference", "clips", "deviation"]
    means = rates.groupby([*properties, "seeds"])[["better", "old better"]].mean().reset_index()
    rows: dict[tuple[float, ...], dict[str, str]] = {}
    for _, row in means.iterrows():
        key = tuple(row[name] for name in properties)
        cells = rows.setdefault(key, {name: f"{row[name]:g}" for name in properties})
        cells[f"{row['seeds']:g} seeds"] = f"{100 * row['better']:.0f} (before {100 * row['old better']:.0f})"
    return list(rows.values())


def _worst(rates: pd.DataFrame, column: str, highest: bool = False) -> list[dict[str, str]]:
    worst = rates.sort_values(column, ascending=not highest).head(5)
    return [
        {name: f"{row[name]:g}" for name in World._fields[:7]} | {column: f"{100 * row[column]:.1f}"}
        for _, row in worst.iterrows()
    ]


if __name__ == "__main__":
    main()
