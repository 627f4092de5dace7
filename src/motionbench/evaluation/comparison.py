"""The contenders compared on the test split, pair by pair, and the files that hold the result."""

from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import mode

from motionbench.core.files import write_json
from motionbench.core.processes import describe_environment
from motionbench.data.perturbations import unchanged_level
from motionbench.evaluation.held_out import HeldOutClips
from motionbench.evaluation.results import Models, balanced_accuracy, right_answers
from motionbench.evaluation.statistics import Comparison, Groups, adjust_holm, compare
from motionbench.models.registry import contenders_among


class Pair(NamedTuple):
    """Two contenders compared on the same clips."""

    first: str
    second: str
    found: Comparison  # the first less the second; its p-value is adjusted for the number of pairs

    @property
    def better(self) -> str | None:
        """Return the model that is significantly better; None if neither is."""
        if not self.found.significant:
            return None
        return self.first if self.found.difference > 0 else self.second


def compare_pairs(models: Models, clips: HeldOutClips) -> list[Pair]:
    """Compare each contender with each other on the test split, p-values adjusted by Holm's procedure."""
    right = {name: right_answers(models[name]["replicates"], clips.labels) for name in contenders_among(models)}
    names = list(combinations(right, 2))
    found = [compare(right[first], right[second], len(names), clips.groups) for first, second in names]
    adjusted = adjust_holm([each.p_value for each in found])
    return [Pair(*pair, each._replace(p_value=p)) for pair, each, p in zip(names, found, adjusted, strict=True)]


def unbeaten_models(models: Iterable[str], pairs: list[Pair]) -> list[str]:
    """Return the contenders among the models than which no other is significantly better."""
    beaten = {pair.second if pair.better == pair.first else pair.first for pair in pairs if pair.better}
    return [name for name in contenders_among(models) if name not in beaten]


def accuracies_when_perturbed(models: Models, frames: int) -> pd.DataFrame:
    """Return each replicate's accuracy for each perturbation, at each level and at the one that changes nothing.

    Returns:
        Rows of model, replicate, perturbation, level and accuracy.
    """
    rows: list[tuple[str, int, str, float, float]] = []
    for name, model in models.items():
        for number, replicate in enumerate(model["replicates"], start=1):
            for perturbation in {each["perturbation"]: None for each in replicate["perturbed"]}:
                level = unchanged_level(perturbation, frames)
                rows.append((name, number, perturbation, level, replicate["accuracy"]))
            for each in replicate["perturbed"]:
                rows.append((name, number, each["perturbation"], each["level"], mean(each["right"])))
    return pd.DataFrame(rows, columns=["model", "replicate", "perturbation", "level", "accuracy"])


def group_accuracies(models: Models, labels: NDArray[np.int64], groups: Groups) -> pd.DataFrame:
    """Return the accuracy of each model on each group, the mean over the replicates.

    Returns:
        Rows of group, clips, and a column per model.
    """
    right = {name: right_answers(model["replicates"], labels).mean(axis=0) for name, model in models.items()}
    by_group = pd.DataFrame(right).groupby(pd.Series(groups, name="group"))
    return by_group.mean().assign(clips=by_group.size())[["clips", *models]].reset_index()


def missed_clips(models: Models, clips: HeldOutClips) -> pd.DataFrame:
    """Return the clips that more than half of the replicates of each contender get wrong.

    Returns:
        Rows of clip (its file if it has one, else its number), class, and each contender's most frequent wrong answer.
    """
    wrong = {name: ~right_answers(models[name]["replicates"], clips.labels) for name in contenders_among(models)}
    missed = np.flatnonzero(np.all([each.mean(axis=0) > 0.5 for each in wrong.values()], axis=0))
    names = np.array(clips.class_names, object)
    table = {"clip": missed if clips.files is None else np.array(clips.files, object)[missed]}
    table["class"] = names[clips.labels[missed]]
    for name, each in wrong.items():
        predicted = np.array([replicate["predicted"] for replicate in models[name]["replicates"]])
        answers = np.where(each, predicted, np.nan)[:, missed]
        table[name] = names[mode(answers, nan_policy="omit").mode.astype(int)]
    return pd.DataFrame(table)


def write_comparison(folder: Path, timing: Path, models: Models, clips: HeldOutClips, champion: Path | None) -> None:
    """Write summary.json, scores.json and tables to `folder`, and the champion to the file `timing`.

    perturbations.csv has a row per replicate, perturbation and level. Of clips made from files there are also
    missed.csv, as `missed_clips` returns it, and with groups groups.csv, as `group_accuracies` returns it.
    """
    differences = {
        f"{pair.first}_vs_{pair.second}": {
            "better": pair.better or "no difference shown",
            "accuracy": pair.found.difference,
            "low": pair.found.interval[0],
            "high": pair.found.interval[1],
            "p_value": pair.found.p_value,
            "detectable": pair.found.detectable,
        }
        for pair in compare_pairs(models, clips)
    }
    summary = {name: {"accuracy": model["accuracy"], "f1": model["f1"]} for name, model in models.items()}
    if clips.files is not None:
        for name, model in models.items():
            summary[name]["balanced_accuracy"] = balanced_accuracy(model)
        missed_clips(models, clips).to_csv(folder / "missed.csv", index=False)
    if clips.groups is not None:
        group_accuracies(models, clips.labels, clips.groups).to_csv(folder / "groups.csv", index=False)
    best = max(contenders_among(models), key=lambda name: models[name]["accuracy"])
    highest = {"model": best, "accuracy": models[best]["accuracy"]}
    write_json(folder / "summary.json", {**summary, "best": highest, "difference": differences})
    tables = {"predicted", "perturbed"}  # written as CSV
    scores = {
        name: [{key: replicate[key] for key in replicate if key not in tables} for replicate in model["replicates"]]  # type: ignore[literal-required]
        for name, model in models.items()
    }
    write_json(folder / "scores.json", scores)
    accuracies_when_perturbed(models, clips.frames).to_csv(folder / "perturbations.csv", index=False)
    write_json(timing, {"champion": champion and champion.as_posix(), "environment": describe_environment()})
