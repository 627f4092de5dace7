"""The interval of one model's accuracy, and what all intervals share: sums by group, clips that count."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import betainc

LEVEL = 0.05
ALIKE = 0.1  # the correlation within groups that is assumed even if the predictions show none
SEED_DEVIATION = 0.03  # of the accuracies of replicates, assumed even if they show none
MOST_ALIKE_SEEDS = 0.05  # the correlation within a replicate that this deviation is at most
Groups = Sequence[Any] | NDArray[Any]
Right = NDArray[np.bool_]


def sum_by_group(right: Right, groups: Groups | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the right predictions per group, shape (replicates, groups), and the clips in each, shape (groups,)."""
    if groups is None:
        return right.astype(float), np.ones(right.shape[1])
    numbers = pd.factorize(np.asarray(groups))[0]
    sums = np.array([np.bincount(numbers, weights=replicate) for replicate in right])
    return sums, np.bincount(numbers).astype(float)


def effective_clips(sizes: NDArray[np.float64], alike: float = ALIKE) -> float:
    """Return how many independent clips tell as much as groups of these sizes (Kish, 1965).

    >>> round(effective_clips(np.full(10, 20.0)), 3)  # 200 / (1 + 19 * 0.1)
    68.966

    Args:
        sizes: clips in each group, shape (groups,).
        alike: the correlation of predictions within a group.
    """
    clips = sizes.sum()
    return float(1 / (alike * (sizes**2).sum() / clips**2 + (1 - alike) / clips))


def group_variance(sums: NDArray[np.float64], sizes: NDArray[np.float64]) -> float:
    """Return the variance of the share of `sums` in all clips, groups being a sample, by the jackknife.

    That is CR3, of Bell and McCaffrey (2002): a large group pulls the mean towards itself, for which its residual is
    corrected. For groups of one size it is the variance of Rao and Scott (1992).

    Args:
        sums: of the values in each group, shape (groups,).
        sizes: clips in each group, shape (groups,).
    """
    clips, groups = sizes.sum(), len(sizes)
    residuals = (sums - sums.sum() / clips * sizes) / (1 - sizes / clips)
    return float((groups - 1) / groups * (residuals**2).sum() / clips**2)


def effective_groups(sizes: NDArray[np.float64]) -> float:
    """Return how many groups of one size tell as much as groups of these sizes, if clips of a group are all alike.

    Args:
        sizes: clips in each group, shape (groups,).
    """
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def accuracy_interval(right: Right, groups: Groups | None = None) -> tuple[float, float]:
    """Return a 95 % interval of the accuracy that the recipe has: on other clips, of other groups, trained again.

    >>> right = np.arange(100) >= np.array([[8], [10], [12]])  # three seeds, 92, 90 and 88 of 100 clips right
    >>> [round(end, 3) for end in accuracy_interval(right)]
    [0.801, 0.976]

    It is the interval of Clopper and Pearson (1934) of the effective number of clips (Korn and Graubard, 1998), for
    which a correlation of 0.1 within groups and a deviation of 3 points between seeds are assumed, whatever is seen: so
    it is not empty where all are right, and is also defined for one seed. Before, the accuracy is moved outwards by the
    larger of two standard errors that are seen: that of the seeds and that of the groups.

    One more right prediction never lowers an end: what is assumed depends on the design alone, and one standard error
    of a mean never changes more than the mean itself. So no more than one can be used.

    In simulations it covers the true accuracy in 93 of 100 cases or more with 2 seeds and 6 groups or more, if seeds
    deviate by up to 4 points and the correlation within groups is up to 0.3 (docs/results/calibration.md). With one
    seed and a deviation above 3 points, with fewer groups, or if seeds vary much more, it covers less. So it does, in
    about 92 of 100, where sizes are so unequal that there are fewer than 6 effective groups. Of a single group nothing
    is known about others: 0 to 1.
    """
    sums, sizes = sum_by_group(right, groups)
    if len(sizes) == 1:
        return 0.0, 1.0
    replicates, clips = right.shape
    accuracy = float(right.mean())
    seeds = float(sums.sum(axis=1).std(ddof=1)) / clips / replicates**0.5 if replicates > 1 else 0.0
    # The most that one prediction changes this standard error, relative to the accuracy; 1 for groups of one size.
    number, odds = len(sizes), sizes / (clips - sizes)
    slope = ((number - 1) / number * (1 + (odds**2).sum() - odds.min() ** 2)) ** 0.5
    # Groups of one clip show nothing that the interval does not have already.
    of_groups = (1 - number / clips) * group_variance(sums.mean(axis=0), sizes) ** 0.5 / slope
    moved, trials = max(seeds, of_groups), effective_clips(sizes)
    return _lowest(accuracy - moved, trials, replicates), 1 - _lowest(1 - accuracy - moved, trials, replicates)


def _lowest(share: float, clips: float, replicates: int) -> float:
    """Return the lowest accuracy of which `share` or more is not too unlikely.

    Halving keeps the order: where a share accepts a middle, each lower share does so too, and goes the lower way.
    """
    if share <= 0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        spread = middle * (1 - middle)
        seeds = min(SEED_DEVIATION**2, MOST_ALIKE_SEEDS * spread) / replicates
        trials = spread / (spread / clips + seeds)
        if betainc(share * trials, (1 - share) * trials + 1, middle) > LEVEL / 2:
            high = middle
        else:
            low = middle
    return low
