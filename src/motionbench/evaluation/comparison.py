"""The contenders compared on the test split, pair by pair, and the files that hold the result."""

from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from motionbench.core.files import write_json
from motionbench.core.processes import describe_environment
from motionbench.data.perturbations import unchanged_level
from motionbench.data.splits import AnySplit
from motionbench.evaluation.results import Models, median_cost, right_answers
from motionbench.evaluation.statistics import Comparison, adjust_holm, compare
from motionbench.models.registry import CONTENDERS


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


def compare_pairs(models: Models, labels: NDArray[np.int64]) -> list[Pair]:
    """Compare each contender with each other on the test split, p-values adjusted by Holm's procedure."""
    right = {name: right_answers(models[name], labels) for name in CONTENDERS}
    names = list(combinations(CONTENDERS, 2))
    found = [compare(right[first], right[second], tests=len(names)) for first, second in names]
    adjusted = adjust_holm([each.p_value for each in found])
    return [Pair(*pair, each._replace(p_value=p)) for pair, each, p in zip(names, found, adjusted, strict=True)]


def unbeaten_models(pairs: list[Pair]) -> list[str]:
    """Return the contenders than which no other is significantly better."""
    beaten = {pair.second if pair.better == pair.first else pair.first for pair in pairs if pair.better}
    return [name for name in CONTENDERS if name not in beaten]


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


def write_comparison(folder: Path, timing: Path, models: Models, split: AnySplit, champion: Path | None) -> None:
    """Write summary.json, scores.json and two tables to `folder`, and the cost of inference to the file `timing`.

    predictions.csv has a row per clip: its label, and the class that each replicate of each model predicts.
    perturbations.csv has a row per replicate, perturbation and level.
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
        for pair in compare_pairs(models, split.labels)
    }
    summary = {name: {"accuracy": model["accuracy"], "f1": model["f1"]} for name, model in models.items()}
    best = max(CONTENDERS, key=lambda name: models[name]["accuracy"])
    highest = {"model": best, "accuracy": models[best]["accuracy"]}
    write_json(folder / "summary.json", {**summary, "best": highest, "difference": differences})
    tables = {"predicted", "perturbed"}  # written as CSV
    scores = {
        name: [{key: replicate[key] for key in replicate if key not in tables} for replicate in model["replicates"]]  # type: ignore[literal-required]
        for name, model in models.items()
    }
    write_json(folder / "scores.json", scores)
    predictions = {
        f"{name} {number}": replicate["predicted"]
        for name, model in models.items()
        for number, replicate in enumerate(model["replicates"], start=1)
    }
    pd.DataFrame({"label": split.labels, **predictions}).to_csv(folder / "predictions.csv", index_label="clip")
    accuracies_when_perturbed(models, split.clips.shape[1]).to_csv(folder / "perturbations.csv", index=False)
    costs = {name: median_cost(model["cost"]) for name, model in models.items()}
    origin = {"champion": champion and champion.as_posix(), "environment": describe_environment()}
    write_json(timing, {**costs, **origin})
