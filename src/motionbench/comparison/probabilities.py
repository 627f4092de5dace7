"""How good the probabilities of the classes are."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from motionbench.comparison.intervals import Groups, accuracy_interval

BINS = 10
LIKE_GUESSING = 0.9  # the share of the loss of guessing from which a loss is about the same
LEAST_PROBABILITY = 1e-7  # Keras' own, so that one sure and wrong answer does not make a loss infinite


class Calibration(NamedTuple):
    """What the probabilities of one model are worth, means over the replicates. NaN if a probability is."""

    log_loss: float  # nats per clip
    brier_score: float  # the squared distance to the right answer, 0 to 2 (Brier, 1950)
    calibration_error: float  # expected: the mean distance of confidence and accuracy in bins (Guo and others, 2017)
    guessing_loss: float  # the log loss of always answering with the classes' shares
    guesses: tuple[bool, ...]
    """Whether each replicate has learned nothing: its loss is about that of guessing or NaN, and its accuracy is not
    shown to be above the share of the commonest class. False for all if the clips have a single class."""


def calibrate(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], groups: Groups | None = None
) -> Calibration:
    """Return how good probabilities are.

    Args:
        probabilities: of each class, shape (replicates, clips, classes).
        labels: the number of each clip's class, shape (clips,).
        groups: what belongs together; without it each clip is a group.
    """
    right = np.take_along_axis(probabilities, labels[np.newaxis, :, np.newaxis], axis=2)[..., 0]
    losses = -np.log(np.clip(right, LEAST_PROBABILITY, 1))
    shares = np.bincount(labels) / len(labels)
    guessing = -np.log(shares[labels])
    distances = (probabilities**2).sum(axis=2) - 2 * right + 1
    bins = reliability(probabilities, labels)
    distance = np.abs(bins["confidence"].to_numpy() - bins["accuracy"].to_numpy())
    guesses = [
        shares.max() < 1
        and not loss.mean() < LIKE_GUESSING * guessing.mean()
        and not accuracy_interval((answers.argmax(axis=1) == labels)[np.newaxis], groups)[0] > shares.max()
        for loss, answers in zip(losses, probabilities, strict=True)
    ]
    return Calibration(
        log_loss=float(losses.mean()),
        brier_score=float(distances.mean()),
        calibration_error=float(np.average(distance, weights=bins["answers"]))
        if np.isfinite(probabilities).all()
        else float("nan"),
        guessing_loss=float(guessing.mean()),
        guesses=tuple(bool(each) for each in guesses),
    )


def reliability(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> pd.DataFrame:
    """Return the points of a reliability diagram: answers by confidence, of all replicates.

    Args:
        probabilities: of each class, shape (replicates, clips, classes).
        labels: the number of each clip's class, shape (clips,).

    Returns:
        A row per bin of confidence that has answers: mean confidence, accuracy, number of answers.
    """
    confidence = probabilities.max(axis=2).ravel()
    right = (probabilities.argmax(axis=2) == labels).ravel()
    known = np.isfinite(confidence)
    numbers = np.minimum((confidence[known] * BINS).astype(int), BINS - 1)
    table = pd.DataFrame({"bin": numbers, "confidence": confidence[known], "accuracy": right[known]})
    by_bin = table.groupby("bin")
    return by_bin.mean().assign(answers=by_bin.size()).reset_index(drop=True)
