"""Confidence intervals and tests: how certain a measure is, and whether two models differ."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import beta, binomtest, false_discovery_control

RESAMPLES = 4_000
LEVEL = 0.05
Groups = NDArray[Any]
"""The group of each clip, shape (clips,), as a number or a name: clips of a group are alike, groups are independent."""


class Comparison(NamedTuple):
    """Two models on the same clips; all figures are differences of accuracy, the first model's less the second's."""

    difference: float
    interval: tuple[float, float]  # 95 %, from resampling clips, or groups of them, and replicates of both models
    p_value: float  # of the exact test over clips or groups, two-sided
    detectable: float | None
    """The smallest difference that the test can show, if all differing clips, in as many groups as it takes, favour one
    model. None: there are too few groups for the test to show any."""

    @property
    def significant(self) -> bool:
        """Return whether both the test and the interval show a difference."""
        return self.p_value < LEVEL and not self.interval[0] <= 0 <= self.interval[1]


def proportion_interval(successes: float, trials: int) -> tuple[float, float]:
    """Return the exact 95 % confidence interval of a proportion (Clopper and Pearson, 1934).

    Successes need not be a whole number: the ends are quantiles of beta distributions.
    """
    low = beta.ppf(LEVEL / 2, successes, trials - successes + 1) if successes > 0 else 0.0
    high = beta.ppf(1 - LEVEL / 2, successes + 1, trials - successes) if successes < trials else 1.0
    return float(low), float(high)


def accuracy_interval(right: NDArray[np.bool_], groups: Groups | None = None) -> tuple[float, float]:
    """Return a 95 % confidence interval of a model's accuracy.

    Without groups, or if each clip is a group, it goes from the lowest to the highest end of the replicates' exact
    intervals. Else it is that of the bootstrap of `compare`, over groups and replicates. With fewer than about 30
    groups that is too narrow (Cameron, Gelbach and Miller, 2008): what the groups at hand do not show, it cannot know.
    So if there is a single group, or if all have the same share of right answers, it is the exact interval of as many
    trials as there are groups, which is wide.

    Args:
        right: whether each answer is right, shape (replicates, clips).
    """
    numbers, sizes = _number_groups(groups, right.shape[1])
    if len(sizes) == len(numbers):
        intervals = [proportion_interval(int(replicate.sum()), len(replicate)) for replicate in right]
        return min(low for low, _ in intervals), max(high for _, high in intervals)
    random = np.random.default_rng(0)
    drawn = _draw(random, len(sizes))
    low, high = _percentiles(_resample(random, right, numbers, drawn) / (len(right) * (drawn @ sizes)))
    if len(sizes) == 1 or low == high:
        return proportion_interval(float(right.mean()) * len(sizes), len(sizes))
    return low, high


def mcnemar(first_only: int, second_only: int) -> float:
    """Return the two-sided p-value of the exact test of McNemar (1947) from the numbers of discordant pairs."""
    discordant = first_only + second_only
    return float(binomtest(first_only, discordant).pvalue) if discordant else 1.0


def paired_permutation(differences: NDArray[np.int64]) -> float:
    """Return the two-sided p-value of the exact test that swaps two models' answers to whole groups of clips.

    Whole groups stay together, because only they are independent. A swap changes the sign of a group's difference. The
    p-value is the share of all 2 ** groups ways to swap whose total is as far from 0 as the real one, or farther. As
    differences are whole numbers, it follows from the distribution of their sums, built up group by group (Pagano and
    Tritchler, 1983), for any number of groups. It is the exact version of the tests of clustered matched pairs that
    build on the sums of groups (Yang, Sun and Hardin, 2010).

    Args:
        differences: in right answers of the two models in each group, shape (groups,).
    """
    differences = differences // max(1, np.gcd.reduce(differences))
    sizes = np.abs(differences)
    shares = np.ones(1)  # of the ways to swap, by the sum of the groups whose difference is positive
    for size in sizes:
        shares = (np.pad(shares, (0, size)) + np.pad(shares, (size, 0))) / 2
    totals = 2 * np.arange(len(shares)) - sizes.sum()
    # Their sum does not depend on the order in which a processor adds.
    return min(1.0, math.fsum(shares[np.abs(totals) >= abs(differences.sum())]))


def units_needed(tests: int) -> int:
    """Return how many clips or groups must all favour one model for a difference to be shown, as one of `tests`."""
    return next(n for n in range(1, 100) if tests * mcnemar(n, 0) < LEVEL)


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for the number of tests, to control the family-wise error rate (Holm, 1979)."""
    order = np.argsort(p_values)
    stepped = np.asarray(p_values)[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return [float(p_value) for p_value in adjusted]


def adjust_false_discoveries(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for the number of tests, to control the false discovery rate.

    The procedure is that of Benjamini and Hochberg (1995).
    """
    return [float(p_value) for p_value in false_discovery_control(p_values)] if p_values else []


def compare(
    ours: NDArray[np.bool_], theirs: NDArray[np.bool_], tests: int = 1, groups: Groups | None = None
) -> Comparison:
    """Compare the answers of two models to the same clips.

    The interval is that of the pigeonhole bootstrap, which draws clips and replicates independently, with replacement
    (Owen, 2007): it covers the variation of both clips and seeds. The test counts on how many clips one model's
    replicates are right more often than the other's; with one replicate each it is McNemar's.

    With groups, the bootstrap draws whole groups, and the test is `paired_permutation`. The test stays exact with few
    groups. The interval is too narrow then (see `accuracy_interval`), which is why a difference counts as shown only
    if both show it; of a single group it is (-1, 1), as nothing is known about others.

    Args:
        ours, theirs: whether each answer is right, shape (replicates, clips); the same clips in the same order.
        tests: the number of such tests, for the smallest difference that this one can show.
        groups: what belongs together; without it each clip is a group.
    """
    clips = ours.shape[1]
    numbers, sizes = _number_groups(groups, clips)
    # Sums of whole numbers are exact, so that every processor gives the same interval.
    ahead = ours.sum(axis=0) * len(theirs) - theirs.sum(axis=0) * len(ours)
    random = np.random.default_rng(0)
    drawn = _draw(random, len(sizes))
    differences = _resample(random, ours, numbers, drawn) * len(theirs)
    differences -= _resample(random, theirs, numbers, drawn) * len(ours)
    if len(sizes) == clips:
        p_value = mcnemar(int((ahead > 0).sum()), int((ahead < 0).sum()))
    else:
        p_value = paired_permutation(_sum_by_group(ahead, numbers).astype(np.int64))
    needed = units_needed(tests)
    shares = differences / (len(ours) * len(theirs) * (drawn @ sizes))
    return Comparison(
        difference=float((ours.mean(axis=0) - theirs.mean(axis=0)).mean()),
        interval=_percentiles(shares) if len(sizes) > 1 else (-1.0, 1.0),
        p_value=p_value,
        detectable=needed / clips if needed <= len(sizes) else None,
    )


def _number_groups(groups: Groups | None, clips: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the number of each clip's group, shape (clips,), and the size of each group, shape (groups,)."""
    numbers = np.arange(clips) if groups is None else pd.factorize(groups)[0]
    return numbers, np.bincount(numbers)


def _sum_by_group(values: NDArray[Any], numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.bincount(numbers, weights=values).astype(float)


def _draw(random: np.random.Generator, units: int) -> NDArray[np.float64]:
    """Return how often each unit is in each resample, shape (RESAMPLES, units)."""
    return random.multinomial(units, np.full(units, 1 / units), size=RESAMPLES).astype(float)


def _resample(
    random: np.random.Generator, right: NDArray[np.bool_], numbers: NDArray[np.int64], drawn: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the number of right answers in each resample of the groups that are `drawn` and of replicates."""
    by_group = np.array([_sum_by_group(replicate, numbers) for replicate in right])
    return np.asarray((_draw(random, len(right)) * (drawn @ by_group.T)).sum(axis=1))


def _percentiles(resampled: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(resampled, [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)
