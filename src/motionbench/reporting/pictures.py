"""The report's pictures, written as files."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import mode

from motionbench.data.perturbations import chosen_clips, perturb
from motionbench.data.splits import Clips, Split
from motionbench.evaluation.comparison import accuracies_when_perturbed
from motionbench.evaluation.results import ModelResult, Models, perturbation_settings
from motionbench.models.registry import CONTENDERS
from motionbench.params.schema import PerturbationsParams
from motionbench.reporting.figures import (
    confusions,
    contact_sheet,
    error_against_latency,
    film_strips,
    learning_curves,
    perturbation_curves,
)


def disagreements(models: Models, split: Split, params: PerturbationsParams, limit: int = 6) -> list[tuple[str, Clips]]:
    """Return clips on which the contenders disagree, by the answers of most replicates of each, and who says what.

    First those of the split as it is, then the first one of each perturbation, made again from `params`.
    """
    majorities = {name: _majorities(models[name]) for name in CONTENDERS}
    unchanged, *perturbed = (
        {name: answers[number] for name, answers in majorities.items()}
        for number in range(1 + len(perturbation_settings(models)))
    )
    found = [(split, number, f"{number}, as it is", unchanged) for number in _differing(unchanged)]
    numbers, chosen = chosen_clips(split, params.clips_per_class)
    for (name, level), answers in zip(perturbation_settings(models), perturbed, strict=True):
        differing = _differing(answers)
        if len(found) < limit and differing.size:
            text = f"{numbers[differing[0]]}, {name.replace('_', ' ')} {level:g}"
            found.append((perturb(chosen, name, level, params.seed), differing[0], text, answers))
    names = split.class_names
    return [
        (
            "\n".join(
                [
                    f"test clip {text}",
                    f"is {names[changed.labels[number]]}",
                    *(f"{model}: {names[answer[number]]}" for model, answer in answers.items()),
                ]
            ),
            changed.clips[number],
        )
        for changed, number, text, answers in found[:limit]
    ]


def _differing(answers: Mapping[str, NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the numbers of the clips to which not all answers are the same."""
    stacked = np.stack(list(answers.values()))
    return np.flatnonzero((stacked != stacked[0]).any(axis=0))


def _majorities(model: ModelResult) -> list[NDArray[np.int64]]:
    """Return what most replicates say of each clip, shape (clips,), of the split as it is and of each perturbation."""
    replicates = [
        [replicate["predicted"], *(each["predicted"] for each in replicate["perturbed"])]
        for replicate in model["replicates"]
    ]
    return [mode(same, axis=0).mode for same in zip(*replicates, strict=True)]


def draw_pictures(
    folder: Path, models: Models, histories: Mapping[str, pd.DataFrame], split: Split, params: PerturbationsParams
) -> dict[str, str]:
    """Write the report's pictures to `folder`; return the caption of each by its name, which is the file's too.

    Args:
        split: the one that the models were tested on.
    """
    matrices = {
        name: np.sum([score["confusion"] for score in model["replicates"]], axis=0) for name, model in models.items()
    }
    errors = {
        name: (
            1 - model["accuracy"],
            (1 - model["interval"][1], 1 - model["interval"][0]),
            model["cost"]["latency_milliseconds"],
        )
        for name, model in models.items()
    }
    accuracies = accuracies_when_perturbed(models, split.clips.shape[1])
    pictures = {
        "cost": ("Error against latency, with 95 % intervals and quartiles", error_against_latency(errors)),
        "perturbations": (
            "Accuracy against the level of each perturbation, a band over the replicates, chance dotted",
            perturbation_curves(accuracies, 1 / len(split.class_names)),
        ),
        "confusions": ("Confusions, all replicates together", confusions(matrices, split.class_names)),
        "learning_curves": ("Learning curves", learning_curves(histories)),
        "samples": ("The first test clip of each class", contact_sheet(split)),
    }
    if clips := disagreements(models, split, params):
        pictures["disagreements"] = ("What was shown, and what most replicates of each model say", film_strips(clips))
    for name, (_, figure) in pictures.items():
        figure.savefig(folder / f"{name}.png", dpi=110)
    return {name: caption for name, (caption, _) in pictures.items()}
