"""What is known of each model once it was tested. Plain data: the process that receives it needs no TensorFlow."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from numpy.typing import NDArray

from motionbench.evaluation.applied_search import Search
from motionbench.evaluation.statistics import proportion_interval
from motionbench.training.results import Training

if TYPE_CHECKING:
    from motionbench.models.cost import Cost


class Perturbed(TypedDict):
    """How one replicate classifies perturbed clips."""

    perturbation: str
    level: float
    predicted: list[int]
    """Of each clip, the number of the class."""
    right: list[bool]
    """Of each clip, whether that is the class that it has once perturbed."""


class Scores(TypedDict):
    """How one replicate classifies a split."""

    correct: int
    clips: int
    accuracy: float
    classes: dict[str, dict[str, float]]
    """Precision, recall and F1 of each class; 0 where a class is never predicted."""
    confusion: list[list[int]]
    """Clips by true class (rows) and predicted class (columns)."""
    predicted: list[int]
    """Of each clip, the number of the class."""
    perturbed: list[Perturbed]


class ModelResult(TypedDict):
    """What the comparison knows of a model."""

    accuracy: float
    """On the test split, mean over the replicates, as is F1 over the classes too."""
    f1: float
    interval: tuple[float, float]
    """From the lowest to the highest end of the replicates' 95 % intervals of accuracy."""
    training: Training
    cost: "Cost"
    search: Search | None
    replicates: list[Scores]


Models = Mapping[str, ModelResult]


def join_results(
    training: Training, scores: Sequence[Scores], cost: "Cost", search: Search | None = None
) -> ModelResult:
    """Join what is known of one model."""
    intervals = [proportion_interval(score["correct"], score["clips"]) for score in scores]
    return ModelResult(
        accuracy=mean(score["accuracy"] for score in scores),
        f1=mean(values["f1"] for score in scores for values in score["classes"].values()),
        interval=(min(low for low, _ in intervals), max(high for _, high in intervals)),
        training=training,
        cost=cost,
        search=search,
        replicates=list(scores),
    )


def median_cost(model: ModelResult) -> dict[str, float]:
    """Return the medians of what inference takes."""
    cost = model["cost"]
    return {"latency_milliseconds": cost["latency_milliseconds"][1], "clips_per_second": cost["clips_per_second"][1]}


def right_answers(model: ModelResult, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which answers are right, shape (replicates, clips)."""
    right: NDArray[np.bool_] = np.array([replicate["predicted"] for replicate in model["replicates"]]) == labels
    return right


def right_when_perturbed(model: ModelResult) -> list[NDArray[np.bool_]]:
    """Return for each perturbation and level which answers are right, shape (replicates, clips)."""
    replicates = [[each["right"] for each in replicate["perturbed"]] for replicate in model["replicates"]]
    return [np.array(same) for same in zip(*replicates, strict=True)]


def perturbation_settings(models: Models) -> list[tuple[str, float]]:
    """Return name and level of each perturbation that the models were tested with."""
    first = next(iter(models.values()))["replicates"][0]
    return [(each["perturbation"], each["level"]) for each in first["perturbed"]]
