"""The report's pictures, written as files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import mode

from motionbench.data.perturbations import perturb, perturbed_labels
from motionbench.data.splits import AnySplit, Clips, SourceRecord
from motionbench.evaluation.comparison import accuracies_when_perturbed
from motionbench.evaluation.results import ModelResult, Models, perturbation_settings
from motionbench.models.registry import contenders_among
from motionbench.reporting import figures


def disagreements(
    models: Models, split: AnySplit, chosen: NDArray[np.int64], seed: int, source: SourceRecord, limit: int = 6
) -> list[tuple[str, Clips]]:
    """Return clips on which the majorities of the contenders' replicates disagree, each with the answers as text.

    Clips as they are come first, then the first one of each perturbation, perturbed again.

    Args:
        split: the clips that the models were tested with.
        chosen: the numbers of those that were perturbed too.
        seed: of what perturbations draw.
        source: of the clips.
    """
    contenders, names = contenders_among(models), split.class_names
    unchanged, *perturbed = zip(*(_majorities(models[name]) for name in contenders), strict=True)
    numbers = _differing(unchanged)[:limit]
    found = [
        (
            split.clips[number : number + 1][0],
            f"{number}, as it is",
            split.labels[number],
            [a[number] for a in unchanged],
        )
        for number in numbers
    ]
    for (name, level), answers in zip(perturbation_settings(models), perturbed, strict=True):
        differing = _differing(answers)
        if len(found) < limit and differing.size:
            number = chosen[differing[:1]]
            clip = perturb(split.clips[number[0] : number[0] + 1], number, name, level, seed)[0]
            [label] = perturbed_labels(split.labels[number], names, name, source)
            text = f"{number[0]}, {name.replace('_', ' ')} {level:g}"
            found.append((clip, text, label, [each[differing[0]] for each in answers]))
    return [
        (
            "\n".join(
                [
                    f"test clip {text}", f"is {names[label]}",
                    *(f"{model}: {names[answer]}" for model, answer in zip(contenders, said, strict=True)),
                ]
            ),
            clip,
        )
        for clip, text, label, said in found
    ]  # fmt: skip


def _differing(answers: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the numbers of the clips to which not all answers are the same."""
    return np.flatnonzero(np.ptp(answers, axis=0))


def _majorities(model: ModelResult) -> list[NDArray[np.int64]]:
    """Return the most frequent answer to each clip, shape (clips,), as it is and with each perturbation."""
    replicates = [
        [replicate["predicted"], *(each["predicted"] for each in replicate["perturbed"])]
        for replicate in model["replicates"]
    ]
    return [mode(same, axis=0).mode for same in zip(*replicates, strict=True)]


def draw_pictures(
    folder: Path, models: Models, histories: Mapping[str, pd.DataFrame], split: AnySplit, chosen: NDArray[np.int64],
    seed: int, source: SourceRecord,
) -> dict[str, str]:  # fmt: skip
    """Write the report's pictures to `folder`; return the caption of each by its name, which is the file's too.

    Args:
        split: the clips that the models were tested with.
        chosen: the numbers of those that were perturbed too.
        seed: of what perturbations draw.
        source: of the clips.
    """
    matrices = {
        name: np.sum([score["confusion"] for score in model["replicates"]], axis=0) for name, model in models.items()
    }
    accuracies = accuracies_when_perturbed(models, split.clips.shape[1])
    pictures = {
        "cost": ("Error against latency, with 95 % intervals and quartiles", _error_against_latency(models)),
        "perturbations": (
            "Accuracy against the level of each perturbation, a band over the replicates, chance dotted",
            figures.perturbation_curves(accuracies, 1 / len(split.class_names)),
        ),
        "confusions": ("Confusions, all replicates together", figures.confusions(matrices, split.class_names)),
        "learning_curves": ("Learning curves", figures.learning_curves(histories)),
        "samples": ("The first test clip of each class", figures.contact_sheet(split)),
    }
    if clips := disagreements(models, split, chosen, seed, source):
        caption = "What was shown, and what most replicates of each model say"
        pictures["disagreements"] = (caption, figures.film_strips(clips))
    for name, (_, figure) in pictures.items():
        figure.savefig(folder / f"{name}.png", dpi=110)
    return {name: caption for name, (caption, _) in pictures.items()}


def _error_against_latency(models: Models) -> Figure:
    """Draw each model's error against its latency, and a line through those that no other beats in both."""
    figure = figures.new_figure(6, 3.6)
    axis = figure.subplots()
    points: list[tuple[float, float]] = []
    for name, (colour, marker) in figures.model_styles(models).items():
        error, intervals = 1 - models[name]["accuracy"], 1 - np.array(models[name]["interval"])[::-1]
        latency, (fast, slow) = models[name]["cost"][1:3]
        points.append((latency, error))
        axis.errorbar(
            latency, error, xerr=[[latency - fast], [slow - latency]], yerr=np.abs(intervals - error)[:, np.newaxis],
            color=colour, marker=marker, markerfacecolor="none", markersize=8, capsize=3, label=name,
        )  # fmt: skip # hollow markers can be seen where they overlap
    points.sort()
    front = [point for number, point in enumerate(points) if all(point[1] < error for _, error in points[:number])]
    axis.step(
        *zip(*front, strict=True), where="post", color="grey", linestyle=":", zorder=0, label="no other beats both"
    )
    axis.set(xlabel="latency of one clip (ms, one process)", ylabel="error on the test split", xscale="log")
    axis.legend()
    return figure
