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

from motionbench.data.conditions import unchanged_level
from motionbench.data.splits import Split
from motionbench.environment import describe_environment
from motionbench.errors import UserError
from motionbench.files import read_json, write_json
from motionbench.params import MODEL_NAMES, training_stage
from motionbench.statistics import Comparison, compare, proportion_interval

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
    best_seed: int
    """Of the replicate with the lowest validation loss."""
    seconds: float
    """Of training to the epoch whose weights were kept, mean over the replicates."""
    peak_megabytes: float
    """Of a process that trains replicates, one after the other."""


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
    training: Training
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
        "seconds_to_best": mean(sum(each["epoch_seconds"][: each["best"]["epoch"]]) for each in replicates),
        "peak_megabytes": max(replicate["peak_megabytes"] for replicate in replicates),
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
        replicates, timings = pd.read_csv(folder / "replicates.csv"), read_json(timing)
        return Training(
            parameters=read_json(folder / "summary.json")["parameters"],
            best_epochs=replicates["epoch"].tolist(),
            history=pd.read_csv(folder / "history.csv"),
            best_seed=int(replicates.sort_values("validation_loss")["seed"].iloc[0]),
            seconds=timings["seconds_to_best"],
            peak_megabytes=timings["peak_megabytes"],
        )
    except (OSError, ValueError, KeyError) as error:
        reason = f"not readable ({type(error).__name__}); train again: dvc repro --force {training_stage(model_name)}"
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
        training=training,
        cost=cost,
        search=search,
        replicates=scores,
    )


def timings(model: ModelResult) -> dict[str, float]:
    """Return the medians of what inference takes."""
    cost = model["cost"]
    return {"latency_milliseconds": cost["latency_milliseconds"][1], "clips_per_second": cost["clips_per_second"][1]}


def right_answers(model: ModelResult, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which answers are right, shape (replicates, clips)."""
    right: NDArray[np.bool_] = np.array([replicate["predicted"] for replicate in model["replicates"]]) == labels
    return right


def compare_pair(models: Mapping[str, ModelResult], labels: NDArray[np.int64]) -> Comparison:
    """Compare the two models that are not controls on the test split, the first less the second."""
    ours, theirs = (right_answers(models[name], labels) for name in MODEL_NAMES)
    return compare(ours, theirs)


def better_model(models: Mapping[str, ModelResult], labels: NDArray[np.int64]) -> str | None:
    """Return the name of the model that is shown to be better, None if neither is."""
    found = compare_pair(models, labels)
    if not found.shown:
        return None
    return MODEL_NAMES[0] if found.difference > 0 else MODEL_NAMES[1]


def accuracies_under_conditions(models: Mapping[str, ModelResult], frames: int) -> pd.DataFrame:
    """Return the accuracy of each replicate under each condition, at each level and at the one that changes nothing.

    Returns:
        Rows of model, replicate, condition, level and accuracy.
    """
    rows: list[tuple[str, int, str, float, float]] = []
    for name, model in models.items():
        for number, replicate in enumerate(model["replicates"], start=1):
            for condition in {each["condition"]: None for each in replicate["conditions"]}:
                rows.append((name, number, condition, unchanged_level(condition, frames), replicate["accuracy"]))
            for each in replicate["conditions"]:
                rows.append((name, number, each["condition"], each["level"], mean(each["right"])))
    columns = ["model", "replicate", "condition", "level", "accuracy"]
    return pd.DataFrame(rows, columns=columns)


def write_comparison(
    folder: Path, timing: Path, models: Mapping[str, ModelResult], split: Split, champion: Path | None
) -> None:
    """Write summary.json, scores.json and two tables to `folder`, and what inference costs to the file `timing`.

    predictions.csv has a row a clip: its label, and the class that each replicate of each model predicts.
    conditions.csv has a row a replicate, condition and level.
    """
    found = compare_pair(models, split.labels)
    summary: dict[str, Any] = {
        name: {"accuracy": model["accuracy"], "f1": model["f1"]} for name, model in models.items()
    }
    summary["difference"] = {
        "better": better_model(models, split.labels) or "no difference shown",
        "accuracy": found.difference,
        "low": found.interval[0],
        "high": found.interval[1],
        "p_value": found.p_value,
        "detectable": found.detectable,
    }
    write_json(folder / "summary.json", summary)
    scores = {
        name: [
            {key: value for key, value in replicate.items() if key not in ("predicted", "conditions")}
            for replicate in model["replicates"]
        ]
        for name, model in models.items()
    }
    write_json(folder / "scores.json", scores)
    predictions = {
        f"{name} {number}": replicate["predicted"]
        for name, model in models.items()
        for number, replicate in enumerate(model["replicates"], start=1)
    }
    pd.DataFrame({"label": split.labels, **predictions}).to_csv(folder / "predictions.csv", index_label="clip")
    accuracies_under_conditions(models, split.clips.shape[1]).to_csv(folder / "conditions.csv", index=False)
    measured: dict[str, Any] = {name: timings(model) for name, model in models.items()}
    write_json(
        timing, {**measured, "champion": champion and champion.as_posix(), "environment": describe_environment()}
    )
