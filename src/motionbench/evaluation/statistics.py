"""Confidence intervals and tests: how certain a measure is, and whether two models differ."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, false_discovery_control

RESAMPLES = 4_000
LEVEL = 0.05


class Comparison(NamedTuple):
    """Two models on the same clips; all figures are differences of accuracy, the first model's less the second's."""

    difference: float
    interval: tuple[float, float]  # 95 %, from resampling clips and replicates of both models
    p_value: float  # of the exact sign test over clips, two-sided
    detectable: float
    """The smallest difference that the test can show with so many clips, if all differing clips favour one model."""

    @property
    def significant(self) -> bool:
        """Return whether both the test over clips and the interval over clips and replicates show a difference."""
        return self.p_value < LEVEL and not self.interval[0] <= 0 <= self.interval[1]


def proportion_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the exact 95 % confidence interval of a proportion (Clopper and Pearson, 1934)."""
    interval = binomtest(successes, trials).proportion_ci(confidence_level=0.95, method="exact")
    return float(interval.low), float(interval.high)


def mcnemar(first_only: int, second_only: int) -> float:
    """Return the two-sided p-value of the exact test of McNemar (1947) from the numbers of discordant pairs."""
    discordant = first_only + second_only
    return float(binomtest(first_only, discordant).pvalue) if discordant else 1.0


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


def compare(ours: NDArray[np.bool_], theirs: NDArray[np.bool_], tests: int = 1) -> Comparison:
    """Compare the answers of two models to the same clips.

    The interval is that of the pigeonhole bootstrap, which draws clips and replicates independently, with replacement
    (Owen, 2007): it covers the variation of both clips and seeds. The test counts on how many clips one model's
    replicates are right more often than the other's; with one replicate each it is McNemar's.

    Args:
        ours, theirs: whether each answer is right, shape (replicates, clips); the same clips in the same order.
        tests: the number of such tests, for the smallest difference that this one can show.
    """
    clips = ours.shape[1]
    per_clip = ours.mean(axis=0) - theirs.mean(axis=0)
    random = np.random.default_rng(0)
    clip_counts = random.multinomial(clips, np.full(clips, 1 / clips), size=RESAMPLES).astype(float)

    def resampled(answers: NDArray[np.bool_]) -> NDArray[np.float64]:
        replicates = len(answers)
        counts = random.multinomial(replicates, np.full(replicates, 1 / replicates), size=RESAMPLES).astype(float)
        return np.asarray(np.einsum("sr,rc,sc->s", counts, answers, clip_counts, optimize=True))

    # Sums of whole numbers are exact, so that every processor gives the same interval.
    differences = resampled(ours) * len(theirs) - resampled(theirs) * len(ours)
    low, high = np.quantile(differences / (len(ours) * len(theirs) * clips), [LEVEL / 2, 1 - LEVEL / 2])
    needed = next(n for n in range(1, 100) if tests * mcnemar(n, 0) < LEVEL)
    return Comparison(
        difference=float(per_clip.mean()),
        interval=(float(low), float(high)),
        p_value=mcnemar(int((per_clip > 0).sum()), int((per_clip < 0).sum())),
        detectable=needed / clips,
    )
