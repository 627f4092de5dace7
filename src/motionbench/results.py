"""The files by which the stages hand on what they found: training's, which `compare` reads, and comparison's own.

What is measured with a clock stands in files of its own, with the machine it was measured on: the others are the same
in every run.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from motionbench.environment import describe_environment
from motionbench.errors import UserError
from motionbench.files import read_json, write_json
from motionbench.statistics import proportion_interval

if TYPE_CHECKING:
    from motionbench.evaluation import Cost, Scores
    from motionbench.training import Replicate


APPLIED = Path("metrics/tuning/applied.json")
"""By model, the search whose best trial params.yaml holds, as `tuning.outcome` describes it."""


class Training(NamedTuple):
    """What training left of a model."""

    parameters: int
    best_epochs: list[int]
    """Of each replicate, the epoch whose weights were kept."""
    history: pd.DataFrame
    """A row an epoch of a replicate: the items of `training.Epoch`."""
    seconds: float
    """Of training, mean over the replicates."""


class Search(TypedDict):
    """The search that a model's parameters come from, and how its promise was kept."""

    study: str
    trials: int
    number: int
    """Of the best trial."""
    validation_loss: float
    """Of the best trial, at the end of its epochs, as the search ranked it."""
    promised: float
    """The best trial's validation loss at the epochs at which the retrained replicates ended, mean."""
    retrained: float
    """The retrained replicates' validation loss then; the rest is what the search's luck had added."""


class ModelResult(TypedDict):
    """What the comparison knows of a model."""

    accuracy: float
    """On the test split, mean over the replicates, as is F1 over the classes too."""
    f1: float
    interval: tuple[float, float]
    """From the lowest to the highest end of the replicates' 95 % intervals of accuracy."""
    parameters: int
    best_epochs: list[int]
    training_seconds: float
    cost: "Cost"
    search: Search | None
    replicates: "list[Scores]"


def summarise(replicates: "Sequence[Replicate]") -> dict[str, float]:
    """Return the means over the replicates at the epochs whose weights were kept."""
    return {
        "parameters": replicates[0]["parameters"],
        "best_epoch": mean(replicate["best"]["epoch"] for replicate in replicates),
        "validation_loss": mean(replicate["best"]["validation_loss"] for replicate in replicates),
        "validation_accuracy": mean(replicate["best"]["validation_accuracy"] for replicate in replicates),
    }


def write_training(folder: Path, timing: Path, replicates: "Sequence[Replicate]") -> None:
    """Write what `replicates` came to as files in `folder`, and what was measured with a clock to the file `timing`."""
    write_json(folder / "summary.json", summarise(replicates))
    pd.DataFrame([replicate["best"] for replicate in replicates]).to_csv(folder / "replicates.csv", index=False)
    history = [epoch for replicate in replicates for epoch in replicate["history"]]
    pd.DataFrame(history).to_csv(folder / "history.csv", index=False)
    (folder / "model_summary.txt").write_text(replicates[0]["summary"], encoding="utf-8")
    seconds = [sum(replicate["epoch_seconds"]) for replicate in replicates]
    timings = {
        "training_seconds": mean(seconds),
        "first_epoch_seconds": mean(replicate["epoch_seconds"][0] for replicate in replicates),
        "epoch_seconds": median(seconds for replicate in replicates for seconds in replicate["epoch_seconds"]),
        "replicate_seconds": seconds,
        "environment": describe_environment(),
    }
    write_json(timing, timings)


def read_training(model_name: str, folder: Path, timing: Path) -> Training:
    """Read what `write_training` wrote.

    Raises:
        UserError: if a file is missing or damaged.
    """
    try:
        return Training(
            parameters=read_json(folder / "summary.json")["parameters"],
            best_epochs=pd.read_csv(folder / "replicates.csv")["epoch"].tolist(),
            history=pd.read_csv(folder / "history.csv"),
            seconds=read_json(timing)["training_seconds"],
        )
    except (OSError, ValueError, KeyError) as error:
        reason = f"not readable ({type(error).__name__}); train again: dvc repro --force train_{model_name}"
        raise UserError(f"{folder}: {reason}") from error


def read_search(model_name: str, section: Mapping[str, Any], history: pd.DataFrame) -> Search | None:
    """Return what is known of the search that `section`, the model's parameters, comes from; None if from none.

    Losses are compared at equal epochs, each the lowest so far: the search trains for a fixed number of them, the
    stages until a loss is good enough.

    Raises:
        UserError: if the file is damaged.
    """
    try:
        applied = read_json(APPLIED).get(model_name)
        if applied is None or applied["section"] != json.loads(json.dumps(section)):
            return None
        lowest = history.sort_values("epoch").groupby("seed")["validation_loss"].agg(list)
        curve = np.minimum.accumulate(applied["curve"])
        ends = [min(len(losses), len(curve)) for losses in lowest]
        return Search(
            study=applied["study"],
            trials=applied["trials"],
            number=applied["number"],
            validation_loss=applied["validation_loss"],
            promised=mean(float(curve[end - 1]) for end in ends),
            retrained=mean(min(losses[:end]) for losses, end in zip(lowest, ends, strict=True)),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"not readable ({type(error).__name__}); write it again: make tune-apply MODEL={model_name}"
        raise UserError(f"{APPLIED}: {reason}") from error


def describe_model(
    training: Training, scores: "list[Scores]", cost: "Cost", search: Search | None = None
) -> ModelResult:
    """Join what is known of one model."""
    intervals = [proportion_interval(score["correct"], score["clips"]) for score in scores]
    return ModelResult(
        accuracy=mean(score["accuracy"] for score in scores),
        f1=mean(values["f1"] for score in scores for values in score["classes"].values()),
        interval=(min(low for low, _ in intervals), max(high for _, high in intervals)),
        parameters=training.parameters,
        best_epochs=training.best_epochs,
        training_seconds=training.seconds,
        cost=cost,
        search=search,
        replicates=scores,
    )


def write_comparison(folder: Path, timing: Path, models: Mapping[str, ModelResult], labels: NDArray[np.int64]) -> None:
    """Write summary.json, scores.json and predictions.csv to `folder`, and what inference costs to the file `timing`.

    predictions.csv has a row a clip: its label, and the class that each replicate of each model predicts.
    """
    summary: dict[str, Any] = {
        name: {"accuracy": model["accuracy"], "f1": model["f1"]} for name, model in models.items()
    }
    write_json(folder / "summary.json", summary)
    scores = {
        name: [
            {key: value for key, value in replicate.items() if key != "predicted"} for replicate in model["replicates"]
        ]
        for name, model in models.items()
    }
    write_json(folder / "scores.json", scores)
    predictions = {
        f"{name} {number}": replicate["predicted"]
        for name, model in models.items()
        for number, replicate in enumerate(model["replicates"], start=1)
    }
    pd.DataFrame({"label": labels, **predictions}).to_csv(folder / "predictions.csv", index_label="clip")
    costs: dict[str, Any] = {name: model["cost"] for name, model in models.items()}
    write_json(timing, {**costs, "environment": describe_environment()})
