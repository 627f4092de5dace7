"""The files by which training hands on what it found."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple, TypedDict

import pandas as pd

from motionbench.core.dvc_files import training_stage
from motionbench.core.errors import UserError
from motionbench.core.files import read_json, write_json
from motionbench.core.paths import training_paths
from motionbench.core.processes import describe_environment
from motionbench.models.registry import ModelParams


# Plain dicts, so that the process that receives them needs no TensorFlow.
class Epoch(TypedDict):
    """What one epoch of one replicate came to. Losses are cross-entropies in nats, epochs count from 1."""

    seed: int
    epoch: int
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float


class Replicate(TypedDict):
    """A fitted model: all its epochs, the one whose weights were kept, and what the fit took."""

    history: list[Epoch]
    best: Epoch
    parameters: int
    summary: str
    epoch_seconds: list[float]
    """Of each epoch, its validation included; the first one's with the making of the graph."""
    peak_megabytes: float
    """The most memory that the process held so far."""


class Training(NamedTuple):
    """What training left of a model."""

    parameters: int
    best_epochs: list[int]
    """Of each replicate, the epoch whose weights were kept."""
    history: pd.DataFrame
    """A row per epoch and replicate: the items of `training.Epoch`."""
    best_seed: int
    """Of the replicate with the lowest validation loss."""
    seconds: float
    """Of training to the epoch whose weights were kept, mean over the replicates."""
    peak_megabytes: float
    """Of a process that trains replicates, one after the other."""
    section: dict[str, Any]
    """The section of params.yaml that the model was trained with, as JSON has it."""


def summarise(replicates: Sequence[Replicate]) -> dict[str, float]:
    """Return the means over the replicates at the epochs whose weights were kept."""
    return {
        "parameters": replicates[0]["parameters"],
        "best_epoch": mean(replicate["best"]["epoch"] for replicate in replicates),
        "validation_loss": mean(replicate["best"]["validation_loss"] for replicate in replicates),
        "validation_accuracy": mean(replicate["best"]["validation_accuracy"] for replicate in replicates),
    }


def write_training(folder: Path, timing: Path, replicates: Sequence[Replicate], section: ModelParams) -> None:
    """Write what `replicates` came to as files in `folder`, and wall-clock times to the file `timing`."""
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
        "section": section.model_dump(mode="json"),
    }
    write_json(timing, timings)


def read_training(model_name: str) -> Training:
    """Read what `write_training` wrote.

    Raises:
        UserError: if a file is missing or damaged.
    """
    _, folder, timing = training_paths(model_name)
    try:
        replicates, timings = pd.read_csv(folder / "replicates.csv"), read_json(timing)
        return Training(
            parameters=read_json(folder / "summary.json")["parameters"],
            best_epochs=replicates["epoch"].tolist(),
            history=pd.read_csv(folder / "history.csv"),
            best_seed=int(replicates.sort_values("validation_loss")["seed"].iloc[0]),
            seconds=timings["seconds_to_best"],
            peak_megabytes=timings["peak_megabytes"],
            section=timings["section"],
        )
    except (OSError, ValueError, KeyError) as error:
        reason = f"not readable ({type(error).__name__}); train again: dvc repro --force {training_stage(model_name)}"
        raise UserError(f"{folder}: {reason}") from error
