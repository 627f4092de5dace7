"""How good the probabilities of the classes are."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import bdtrc

from motionbench.comparison.intervals import LEVEL

BINS = 10
LIKE_GUESSING = 0.1  # how near a loss is to that of guessing, relative to it, if it is about the same
LEAST_PROBABILITY = 1e-7  # Keras' own, so that one sure and wrong prediction does not make a loss infinite


class Calibration(NamedTuple):
    """What the probabilities of one model are worth, means over the replicates. NaN if a probability is."""

    log_loss: float  # nats per clip
    brier_score: float  # the squared distance to the true class, 0 to 2 (Brier, 1950)
    calibration_error: float
    """Expected: the mean distance of confidence and accuracy in bins (Guo and others, 2017)."""
    guessing_loss: float  # the log loss of always predicting the classes' shares
    guesses: tuple[bool, ...]
    """Whether each replicate has learned nothing that shows: its loss is within 10 % of that of guessing or NaN, and
    its accuracy is not shown to be above the share of the commonest class. False for all if the clips have a single
    class."""
    overconfident: tuple[bool, ...]
    """Whether each replicate's loss is more than 10 % above that of guessing, and its mean confidence above its
    accuracy. False for all if the clips have a single class."""


def calibrate(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> Calibration:
    """Return how good probabilities are.

    >>> probabilities = np.array([[[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.8, 0.2]]])  # one replicate, two classes
    >>> found = calibrate(probabilities, labels=np.array([0, 0, 1, 1]))
    >>> round(found.log_loss, 3), round(found.brier_score, 3), round(found.guessing_loss, 3)
    (0.646, 0.45, 0.693)

    Whether an accuracy is above the share of the commonest class is judged by the exact binomial test of each network,
    as if clips were independent: of one group nothing would be known, and a perfect model would have learned nothing.

    Args:
        probabilities: of each class, shape (replicates, clips, classes).
        labels: the number of each clip's class, shape (clips,).
    """
    right = np.take_along_axis(probabilities, labels[np.newaxis, :, np.newaxis], axis=2)[..., 0]
    losses = -np.log(np.clip(right, LEAST_PROBABILITY, 1))
    shares = np.bincount(labels) / len(labels)
    guessing = -np.log(shares[labels])
    distances = (probabilities**2).sum(axis=2) - 2 * right + 1
    ratios = losses.mean(axis=1) / guessing.mean() if shares.max() < 1 else np.full(len(losses), np.inf)
    correct = (probabilities.argmax(axis=2) == labels).sum(axis=1)
    guesses = ~(np.abs(ratios - 1) > LIKE_GUESSING) & (bdtrc(correct - 1, len(labels), shares.max()) > LEVEL / 2)
    is_sure = probabilities.max(axis=2).mean(axis=1) > correct / len(labels)
    overconfident = (ratios > 1 + LIKE_GUESSING) & np.isfinite(ratios) & is_sure
    return Calibration(
        log_loss=float(losses.mean()),
        brier_score=float(distances.mean()),
        calibration_error=float(np.mean([_calibration_error(each[np.newaxis], labels) for each in probabilities])),
        guessing_loss=float(guessing.mean()),
        guesses=tuple(guesses.tolist()),
        overconfident=tuple(overconfident.tolist()),
    )


def _calibration_error(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    if not np.isfinite(probabilities).all():
        return float("nan")
    bins = reliability(probabilities, labels)
    return float(np.average(np.abs(bins["confidence"] - bins["accuracy"]), weights=bins["predictions"]))


def reliability(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> pd.DataFrame:
    """Return the points of a reliability diagram: predictions by confidence, of all replicates.

    Args:
        probabilities: of each class, shape (replicates, clips, classes).
        labels: the number of each clip's class, shape (clips,).

    Returns:
        A row per bin of confidence that has predictions: mean confidence, accuracy, number of predictions.
    """
    confidence = probabilities.max(axis=2).ravel()
    right = (probabilities.argmax(axis=2) == labels).ravel()
    known = np.isfinite(confidence)
    numbers = np.minimum((confidence[known] * BINS).astype(int), BINS - 1)
    table = pd.DataFrame({"bin": numbers, "confidence": confidence[known], "accuracy": right[known]})
    by_bin = table.groupby("bin")
    return by_bin.mean().assign(predictions=by_bin.size()).reset_index(drop=True)
