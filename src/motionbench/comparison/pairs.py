"""Whether one of two models is better: these networks, and these recipes, trained again."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import nctdtrinc, stdtr, stdtrit

from motionbench.comparison.intervals import (
    ALIKE,
    LEVEL,
    Groups,
    Right,
    effective_clips,
    effective_groups,
    group_variance,
    sum_by_group,
)

MOST_ALIKE = 0.3  # the correlation within groups up to which an interval is to hold on the side away from 0
MOST_FREEDOM = 3  # times the degrees of freedom of the seeds
POWER = 0.8
NEGLIGIBLE = 1e-40  # a probability


class Estimate(NamedTuple):
    """What is found of one question."""

    interval: tuple[float, float]  # 95 %, of the first model's accuracy less the second's
    p_value: float  # two-sided


NOTHING = Estimate((-1.0, 1.0), 1.0)  # is known


class Comparison(NamedTuple):
    """Two models on the same clips, with the verdict; from `compare_pairs`, p-values are adjusted for its tests."""

    first: str
    second: str
    difference: float  # the first model's accuracy less the second's, means over the replicates
    networks: Estimate
    """Are these networks different on other clips of the same kind? `paired_permutation`; seeds do not count."""
    recipes: Estimate | None
    """Are these recipes different, trained again and on other clips? None: one seed cannot tell."""
    probability: float | None  # that the first recipe is the better one; None: no test, or one seed
    findable: float | None
    """The true difference at which the p-value of the recipes shows it in about 80 of 100 repetitions: with as many
    clips, groups, tests, and seeds that vary as here. The exact test of the networks is not counted: with few groups it
    finds less. Above 1: none. None: no test, or one seed."""
    units: int  # clips or groups
    tests: int
    margin: float  # the difference below which two models are practically equal

    @property
    def needed(self) -> int:
        """Return how many clips or groups are needed for any test."""
        return units_needed(self.tests)

    @property
    def testable(self) -> bool:
        """Return whether there are enough clips or groups to show anything. If not, p-values say nothing."""
        return self.units >= self.needed

    @property
    def better_network(self) -> str | None:
        """Return the model whose trained networks are shown to be better; None if neither's are."""
        ahead = self.first if self.difference > 0 else self.second
        return ahead if self.networks.p_value < LEVEL else None

    @property
    def better(self) -> str | None:
        """Return the model that is shown to be better, as networks and as recipes; None if neither is."""
        return self.better_network if self.recipes and self.recipes.p_value < LEVEL else None

    @property
    def leader(self) -> str | None:
        """Return the model that is shown to be better: as recipe too, or from one seed as network alone."""
        return self.better if self.recipes else self.better_network

    @property
    def first_leads(self) -> bool:
        """Return whether the leader is the first model."""
        return self.leader == self.first

    @property
    def equal(self) -> bool:
        """Return whether the recipes are shown to be practically equal."""
        recipes = self.recipes
        return recipes is not None and -self.margin <= recipes.interval[0] and recipes.interval[1] <= self.margin


def compare_pairs(
    right: Mapping[str, Right], groups: Groups | None, margin: float, pairs: Sequence[tuple[str, str]] | None = None
) -> list[Comparison]:
    """Compare models pair by pair, p-values adjusted by Holm's procedure.

    Args:
        right: by model, whether each prediction is right, shape (replicates, clips); the same clips in the same order.
        margin: the difference below which two models are practically equal.
        pairs: those to compare; by default each model with each other.
    """
    pairs = list(combinations(right, 2)) if pairs is None else pairs
    found = [
        compare(right[first], right[second], groups, names=(first, second), margin=margin, tests=len(pairs))
        for first, second in pairs
    ]
    networks = iter(adjust_holm([each.networks.p_value for each in found]))
    recipes = iter(adjust_holm([each.recipes.p_value for each in found if each.recipes]))
    return [
        each._replace(
            networks=each.networks._replace(p_value=next(networks)),
            recipes=each.recipes and each.recipes._replace(p_value=next(recipes)),
        )
        for each in found
    ]


def compare(
    ours: Right, theirs: Right, groups: Groups | None = None, *,
    names: tuple[str, str] = ("first", "second"), margin: float = 0.0, tests: int = 1,
) -> Comparison:  # fmt: skip # options on a line of their own
    """Compare the predictions of two models of the same clips.

    >>> rng = np.random.default_rng(0)
    >>> ours, theirs = rng.random((3, 80)) < 0.95, rng.random((3, 80)) < 0.7
    >>> found = compare(ours, theirs, names=("cnn_lstm", "convlstm"))
    >>> found.better, round(found.difference, 3)
    ('cnn_lstm', 0.271)

    *These networks*: `paired_permutation` of the differences summed over replicates, by clip or by group. To count on
    which clips one model is more often right would not do: replicates that err on the same clips err on few, replicates
    that err on different ones on many, at the same accuracy.

    *These recipes*: replicates and clips are crossed in each model, clips are shared by the models, replicates are not.
    Radiology has the same design, readers and cases. The variance of the difference is that of the clips, by groups,
    plus that of the seeds, less the residual, which both contain (Obuchowski and Rockette, 1995; Hillis, 2007). The
    interval is Student's with Satterthwaite's degrees of freedom. A variance of 0 in the sample is not taken for one in
    truth: one effective clip is added on which the models differ. On the side away from 0 it counts with a higher
    correlation within groups: a rare group on which they differ much is more often absent from a sample than too
    frequent in it, so that a difference is rather seen too small. The variance over groups is the jackknife's, and its
    degrees of freedom are those of `effective_groups`: where a few groups have most clips, intervals are wide.

    Args:
        ours, theirs: whether each prediction is right, shape (replicates, clips); the same clips in the same order.
        groups: what belongs together; without it each clip is a group.
        names: of the two models.
        margin: the difference below which they are practically equal.
        tests: the number of such tests, for what can be found; p-values are not adjusted.
    """
    (ours_by_group, sizes), (theirs_by_group, _) = sum_by_group(ours, groups), sum_by_group(theirs, groups)
    difference = float(ours.mean() - theirs.mean())
    found = Comparison(*names, difference, NOTHING, None, None, None, len(sizes), tests, margin)
    several = len(ours) > 1 and len(theirs) > 1
    if len(sizes) == 1:
        return found._replace(recipes=NOTHING if several else None)
    # Whole numbers, so that ties are ties.
    ahead = (ours_by_group.sum(axis=0) * len(theirs) - theirs_by_group.sum(axis=0) * len(ours)).astype(np.int64)
    of_clips = group_variance(ahead / (len(ours) * len(theirs)), sizes)
    near, away = (of_clips + effective_clips(sizes, alike) ** -2 for alike in (ALIKE, MOST_ALIKE))
    of_groups = max(1.0, effective_groups(sizes) - 1)
    interval = _interval(difference, (near, of_groups), (away, of_groups))
    found = found._replace(networks=Estimate(interval, paired_permutation(ahead)))
    if not several:
        return found
    parts = [_seed_variance(each, sizes) for each in (ours_by_group, theirs_by_group)]
    seeds = [(variance, len(side) - 1.0) for (variance, _), side in zip(parts, (ours, theirs), strict=True)]
    residual = sum(each for _, each in parts)
    (variance, freedom), outer = (_add_seeds((each, of_groups), seeds, residual) for each in (near, away))
    errors = difference / variance**0.5
    p_value = max(NEGLIGIBLE, 2 * float(stdtr(freedom, -abs(errors))))
    found = found._replace(recipes=Estimate(_interval(difference, (variance, freedom), outer), p_value))
    if not found.testable:
        return found
    findable = _findable(variance, freedom, near, int(sizes.sum()), tests)
    return found._replace(probability=float(stdtr(freedom, errors)), findable=findable)


def _findable(variance: float, freedom: float, of_clips: float, clips: int, tests: int) -> float:
    """Return the true difference that Student's test shows with a power of 80 %; 2 if there is none.

    Models that differ by that much do so on at least such a share of the clips: their variance counts where the sample
    has a smaller one.

    Args:
        variance: of the difference, and its degrees of freedom.
        of_clips: the part of the clips in it.
        clips: their number.
        tests: the number of such tests.
    """
    errors = float(nctdtrinc(freedom, 1 - POWER, stdtrit(freedom, 1 - LEVEL / 2 / tests)))
    difference = errors * math.sqrt(variance)
    if difference >= 1:
        return 2.0
    if difference * (1 - difference) / clips <= of_clips:
        return difference
    # The positive root of (x / errors) ** 2 = variance - of_clips + x * (1 - x) / clips.
    least = errors * errors / clips
    return (least + math.sqrt(least**2 + 4 * (1 + least) * errors**2 * (variance - of_clips))) / 2 / (1 + least)


def _seed_variance(sums: NDArray[np.float64], sizes: NDArray[np.float64]) -> tuple[float, float]:
    """Return the variance of the mean accuracy over replicates, and the residual variance in it.

    The residual is what replicates and groups do together: what is left in the sums, shape (replicates, groups),
    without the mean of each replicate and of each group.
    """
    replicates, groups = sums.shape
    clips = sizes.sum()
    deviations = sums.sum(axis=1) / clips - sums.sum() / replicates / clips
    left = sums - sums.mean(axis=0) - deviations[:, np.newaxis] * sizes
    seeds = (deviations**2).sum() / (replicates - 1) / replicates
    residual = groups / (groups - 1) * (left**2).sum() / clips**2 / (replicates - 1) / replicates
    return float(seeds), float(residual)


def _add_seeds(
    of_clips: tuple[float, float], seeds: Sequence[tuple[float, float]], residual: float
) -> tuple[float, float]:
    """Return the variance over clips and seeds, and Satterthwaite's degrees of freedom.

    The residual is an estimate: less it, the sum is still no less than either part. Where few seeds agree by chance,
    Satterthwaite's formula gives too many degrees of freedom: no more than three times those of the seeds are used.

    Args:
        of_clips: variance over clips, and its degrees of freedom.
        seeds: the variance of the mean over the replicates of each model, and its degrees of freedom.
        residual: what both contain.
    """
    of_seeds = sum(variance for variance, _ in seeds)
    variance = max(of_clips[0], of_seeds, of_clips[0] + of_seeds - residual)
    freedom = variance**2 / sum(part**2 / own for part, own in (of_clips, *seeds))
    return variance, min(max(1.0, freedom), MOST_FREEDOM * sum(own for _, own in seeds))


def _interval(difference: float, near: tuple[float, float], away: tuple[float, float]) -> tuple[float, float]:
    """Return the interval around a difference, from variance and degrees of freedom on the side of 0 and on the other.

    A difference of 0 has no side of 0.
    """
    close, far = (float(stdtrit(freedom, 1 - LEVEL / 2) * variance**0.5) for variance, freedom in (near, away))
    low, high = close if difference > 0 else far, close if difference < 0 else far
    return max(-1.0, difference - low), min(1.0, difference + high)


def paired_permutation(differences: NDArray[np.int64]) -> float:
    """Return the two-sided p-value of the exact test that swaps two models' predictions of whole groups of clips.

    >>> paired_permutation(np.array([1, 1, 1, 1, 1, 1]))  # of all 64 ways to swap, two are as far from 0
    0.03125

    Whole groups stay together, because only they are independent. A swap changes the sign of a group's difference. The
    p-value is the share of all 2 ** groups ways to swap whose total is as far from 0 as the real one, or farther. As
    differences are whole numbers, it follows from the distribution of their sums, built up group by group (Pagano and
    Tritchler, 1983), for any number of groups. It is the exact version of the tests of clustered matched pairs that
    build on the sums of groups (Yang, Sun and Hardin, 2010); of one replicate each and single clips it is McNemar's
    (1947). Sums of a probability below 1e-40 are left out, and no smaller p-value is returned.

    It is exact if swapping the models changes nothing. If accuracies are equal and only the variances of the replicates
    differ, it is so in the limit of many groups.

    Args:
        differences: in right predictions of the two models in each group, shape (groups,).
    """
    differences = differences // max(1, np.gcd.reduce(differences))
    shares = np.ones(1)  # of the ways to swap, by the sum of the groups whose difference is positive
    for size in np.sort(np.abs(differences[differences != 0])):
        wider = np.zeros(len(shares) + size)
        wider[: len(shares)] = shares
        wider[size:] += shares
        shares = wider / 2
        cut = int(np.argmax(shares > NEGLIGIBLE)) if len(shares) > 10_000 else 0
        shares = shares[cut : len(shares) - cut]
    totals = 2 * np.arange(len(shares)) - (len(shares) - 1)
    # Their sum does not depend on the order in which a processor adds.
    p_value = math.fsum(shares[np.abs(totals) >= abs(differences.sum())])
    return min(1.0, max(p_value, NEGLIGIBLE))


def units_needed(tests: int) -> int:
    """Return how many clips or groups must all favour one model for a difference to be shown, as one of `tests`."""
    return math.floor(math.log2(tests / LEVEL)) + 2


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for the number of tests, to control the family-wise error rate (Holm, 1979).

    >>> adjust_holm([0.03, 0.01, 0.5])
    [0.06, 0.03, 0.5]
    """
    order = np.argsort(p_values)
    stepped = np.asarray(p_values)[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return [float(p_value) for p_value in adjusted]
