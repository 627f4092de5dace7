"""The results of training and their files."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any, NamedTuple, NotRequired, TypedDict

from motionbench.core.dvc_files import run_again, training_stage
from motionbench.core.errors import UserError
from motionbench.core.files import read_json, write_json
from motionbench.core.paths import ReplicateKey, training_paths
from motionbench.core.processes import describe_environment
from motionbench.models.registry import ModelParams

if TYPE_CHECKING:
    import pandas as pd  # otherwise imported late: processes that train, and those that start them, need it not at once


# Plain dicts, so that the main process needs no TensorFlow.
class Epoch(TypedDict):
    """The measures of one epoch of one replicate. Losses are cross-entropies in nats, epochs count from 1."""

    seed: int
    epoch: int
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float
    fold: NotRequired[int]  # with folds


class Replicate(TypedDict):
    """A fitted model: all its epochs, the best one, whose weights it has, and the cost of fitting."""

    history: list[Epoch]
    best: Epoch
    parameters: int
    summary: str
    epoch_seconds: list[float]  # per epoch, validation included; in the first one also the tracing of the graph
    peak_megabytes: float  # peak memory of the process so far
    machine: str  # what of the machine that fitted it may change weights


class Training(NamedTuple):
    """The results of training a model, as read from its files."""

    parameters: int
    replicates: "pd.DataFrame"  # a row per replicate: the items of its best epoch
    replicate_seconds: list[float]  # of each
    history: "pd.DataFrame"  # a row per epoch and replicate: the items of `training.Epoch`
    best_replicate: (
        ReplicateKey  # of the replicate with the lowest validation loss; with folds, of those of the first fold
    )
    seconds: float  # time to the best epoch, mean over the replicates
    peak_megabytes: float  # peak memory of a process that trains replicates one after the other
    section: dict[str, Any]  # the section of params.yaml that the model was trained with, as JSON
    machines: dict[ReplicateKey, str]  # the machine that fitted each replicate

    def curves(self) -> "dict[ReplicateKey, pd.DataFrame]":
        """Return the history of each replicate: the number of each epoch and its measures."""
        identity = [column for column in ReplicateKey._fields if column in self.history]
        groups = self.history.groupby(identity, sort=False)
        return {replicate_key(rows.iloc[0].to_dict()): rows.drop(columns=identity) for _, rows in groups}


def write_training(folder: Path, timing: Path, replicates: Sequence[Replicate], section: ModelParams) -> None:
    """Write the results of `replicates` as files in `folder`, and wall-clock times to the file `timing`."""
    import pandas as pd

    best = [replicate["best"] for replicate in replicates]
    summary = {
        "parameters": replicates[0]["parameters"],
        "best_epoch": mean(epoch["epoch"] for epoch in best),
        "validation_loss": mean(epoch["validation_loss"] for epoch in best),
        "validation_accuracy": mean(epoch["validation_accuracy"] for epoch in best),
    }
    write_json(folder / "summary.json", summary)
    pd.DataFrame(best).to_csv(folder / "replicates.csv", index=False)
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
        "replicate_machines": [replicate["machine"] for replicate in replicates],
        "environment": describe_environment(),
        "section": section.model_dump(mode="json"),
    }
    write_json(timing, timings)


def write_untrained(folder: Path, timing: Path) -> None:
    """Write the files of a model that is switched off, without figures: DVC wants the files that it shows."""
    write_json(folder / "summary.json", {})
    (folder / "history.csv").write_text(",".join(Epoch.__annotations__) + "\n", encoding="utf-8")
    write_json(timing, {"environment": describe_environment()})


def replicate_key(row: Mapping[Any, Any]) -> ReplicateKey:
    """Return the key of the replicate that an epoch, or a row of one of the tables, belongs to."""
    return ReplicateKey(int(row["seed"]), int(row["fold"]) if "fold" in row else None)


def read_trainings(models: Iterable[str]) -> dict[str, Training]:
    """Read the files of `write_training` of these models.

    Raises:
        UserError: if a file is missing or damaged, or of a model that was switched off.
    """
    found = {name: read_training(name) for name in models}
    for name, training in found.items():
        if training is None:
            raise UserError(f"{training_paths(name)[1]}: holds no figures; train it: {run_again(training_stage(name))}")
    return {name: training for name, training in found.items() if training}


def read_training(model_name: str) -> Training | None:
    """Read the files of `write_training`; return None if the model was switched off.

    Raises:
        UserError: if a file is missing or damaged.
    """
    import pandas as pd

    _, folder, timing = training_paths(model_name)
    try:
        summary = read_json(folder / "summary.json")
        if summary == {}:
            return None
        replicates, timings = pd.read_csv(folder / "replicates.csv"), read_json(timing)
        keys = [replicate_key(row) for row in replicates.to_dict("records")]
        losses = replicates["validation_loss"]
        if "fold" in replicates:  # Losses of other folds are of other clips, so that they cannot be compared.
            losses = losses.where(replicates["fold"] == replicates["fold"].min(), float("inf"))
        return Training(
            parameters=summary["parameters"],
            replicates=replicates,
            replicate_seconds=timings["replicate_seconds"],
            history=pd.read_csv(folder / "history.csv"),
            best_replicate=keys[int(losses.argmin())],
            seconds=timings["seconds_to_best"],
            peak_megabytes=timings["peak_megabytes"],
            section=timings["section"],
            machines=dict(zip(keys, timings["replicate_machines"], strict=True)),
        )
    except (OSError, ValueError, LookupError, TypeError) as error:
        reason = f"not readable ({type(error).__name__}); train again: {run_again(training_stage(model_name))}"
        raise UserError(f"{folder}: {reason}") from error
