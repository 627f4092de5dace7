"""Results of the tests of each model. They are plain data: the main process needs no TensorFlow."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from motionbench.core.errors import UserError
from motionbench.core.files import read_json
from motionbench.core.paths import APPLIED_SEARCHES
from motionbench.evaluation.costs import Cost
from motionbench.evaluation.held_out import HeldOutClips
from motionbench.evaluation.predictions import Predictions
from motionbench.evaluation.statistics import accuracy_interval
from motionbench.models.registry import contenders_among
from motionbench.training.results import Training


class Perturbed(TypedDict):
    """The answers of a model from one seed to perturbed clips."""

    perturbation: str
    level: float
    predicted: list[int]  # per clip, the number of the class
    right: list[bool]  # per clip, whether that is the label of the perturbed clip


class Scores(TypedDict):
    """The answers of a model from one seed to all test clips; with folds, those of one replicate per fold."""

    correct: int
    clips: int
    accuracy: float
    classes: dict[str, dict[str, float]]  # precision, recall and F1 of each class; 0 where a class is never predicted
    confusion: list[list[int]]  # clips by true class (rows) and predicted class (columns)
    predicted: list[int]  # per clip, the number of the class
    perturbed: list[Perturbed]


class Search(TypedDict):
    """The search that a model's parameters come from."""

    study: str
    trials: int
    number: int  # of the best trial
    validation_loss: float  # of the best trial, at the end of its epochs, as the search ranked it
    search_loss: float  # the best trial's validation loss at the epochs at which the retrained replicates ended, mean
    retrained_loss: float
    """The retrained replicates' validation loss at these epochs; the difference is the search's optimism."""


class ModelResult(TypedDict):
    """All results of one model."""

    accuracy: float  # on the test split, mean over the replicates, as is F1 over the classes too
    f1: float
    interval: tuple[float, float]  # 95 %, of accuracy, as `accuracy_interval` returns it
    training: Training
    cost: Cost
    search: Search | None
    replicates: list[Scores]


Models = Mapping[str, ModelResult]


def score_models(
    predictions: Predictions, trained: Mapping[str, Training], costs: Mapping[str, Cost], clips: HeldOutClips
) -> Models:
    """Return all results of the models that `predictions` has."""
    return {
        name: join_results(
            trained[name], _score(predictions, name), costs[name], clips,
            read_applied_search(name, trained[name]) if name in contenders_among(trained) else None,
        )
        for name in predictions.models
    }  # fmt: skip


def _score(predictions: Predictions, name: str) -> list[Scores]:
    labels, names = predictions.labels, predictions.class_names
    numbers, scores = np.arange(len(names)), []
    for seed, predicted in enumerate(predictions.unchanged.predicted(name)):
        precision, recall, f1, _ = precision_recall_fscore_support(labels, predicted, labels=numbers, zero_division=0)
        hits = int((predicted == labels).sum())
        one = Scores(
            correct=hits,
            clips=len(predicted),
            accuracy=hits / len(predicted),
            classes={
                name: {"precision": float(precision[label]), "recall": float(recall[label]), "f1": float(f1[label])}
                for label, name in enumerate(names)
            },
            confusion=confusion_matrix(labels, predicted, labels=numbers).tolist(),
            predicted=predicted.tolist(),
            perturbed=[
                Perturbed(
                    perturbation=each.name, level=each.level, predicted=each.predicted(name)[seed].tolist(),
                    right=each.right(name)[seed].tolist(),
                )
                for each in predictions.perturbed
            ],
        )  # fmt: skip
        scores.append(one)
    return scores


def join_results(
    training: Training, scores: Sequence[Scores], cost: Cost, clips: HeldOutClips, search: Search | None = None
) -> ModelResult:
    """Join the results of one model on `clips`."""
    return ModelResult(
        accuracy=mean(score["accuracy"] for score in scores),
        f1=mean(values["f1"] for score in scores for values in score["classes"].values()),
        interval=accuracy_interval(right_answers(scores, clips.labels), clips.groups),
        training=training, cost=cost, search=search, replicates=list(scores),
    )  # fmt: skip


def balanced_accuracy(model: ModelResult) -> float:
    """Return the mean over the classes of recall, itself a mean over the replicates: each class counts the same."""
    return mean(values["recall"] for replicate in model["replicates"] for values in replicate["classes"].values())


def right_answers(replicates: Sequence[Scores], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which answers are right, shape (replicates, clips)."""
    right: NDArray[np.bool_] = np.array([replicate["predicted"] for replicate in replicates]) == labels
    return right


def right_when_perturbed(model: ModelResult) -> list[NDArray[np.bool_]]:
    """Return for each perturbation and level which answers are right, shape (replicates, clips)."""
    replicates = [[each["right"] for each in replicate["perturbed"]] for replicate in model["replicates"]]
    return [np.array(same) for same in zip(*replicates, strict=True)]


def perturbation_settings(models: Models) -> list[tuple[str, float]]:
    """Return name and level of each perturbation that the models were tested with."""
    first = next(iter(models.values()))["replicates"][0]
    return [(each["perturbation"], each["level"]) for each in first["perturbed"]]


def read_applied_search(model_name: str, training: Training) -> Search | None:
    """Return the search that a model's parameters come from; None if they come from none.

    Losses are compared at equal epochs, each the lowest so far: a search trains for a fixed number of epochs, a stage
    until the loss is good enough.

    Raises:
        UserError: if the file is damaged.
    """
    try:
        applied = read_json(APPLIED_SEARCHES).get(model_name)
        if applied is None or applied["section"] != training.section:
            return None
        replicate = [column for column in ("seed", "fold") if column in training.history]
        lowest = training.history.sort_values("epoch").groupby(replicate)["validation_loss"].agg(list)
        curve = np.minimum.accumulate(applied["curve"])
        ends = [min(len(losses), len(curve)) for losses in lowest]
        return Search(
            study=applied["study"], trials=applied["trials"], number=applied["number"],
            validation_loss=applied["validation_loss"],
            search_loss=mean(float(curve[end - 1]) for end in ends),
            retrained_loss=mean(min(losses[:end]) for losses, end in zip(lowest, ends, strict=True)),
        )  # fmt: skip
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"not readable ({type(error).__name__}); write it again: make tune-apply MODEL={model_name}"
        raise UserError(f"{APPLIED_SEARCHES}: {reason}") from error
