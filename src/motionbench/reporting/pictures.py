"""The report's pictures, written as files."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from motionbench.comparison.audit import Shown
from motionbench.comparison.findings import Findings
from motionbench.comparison.probabilities import reliability
from motionbench.comparison.tables import accuracies_when_perturbed, count_votes
from motionbench.data.folds import AnySplit
from motionbench.data.perturbations import perturb
from motionbench.data.splits import Clips
from motionbench.evaluation.predictions import UNCHANGED
from motionbench.reporting import figures

MOST_DISAGREEMENTS = 6


def disagreements(findings: Findings, split: AnySplit) -> list[tuple[str, Clips]]:
    """Return six clips at most on which the majorities of the contenders' seeds disagree, with these as text.

    Clips as they are come first, then the first one of each perturbation, perturbed again.

    Args:
        split: the clips that the models were tested with.
    """
    predictions, names = findings.predictions, [*map(figures.short_name, findings.predictions.class_names)]
    clips: list[tuple[str, Clips]] = []
    for condition in (predictions.unchanged, *predictions.perturbed):
        votes = [count_votes(condition.predicted(name), len(names)) for name in findings.contenders]
        majorities = np.argmax(votes, axis=2)  # shape (contenders, clips)
        most = MOST_DISAGREEMENTS if condition.name == UNCHANGED else min(1, MOST_DISAGREEMENTS - len(clips))
        for place in np.flatnonzero(np.ptp(majorities, axis=0))[:most]:
            number = condition.clips[place : place + 1]
            clip, what = split.clips[number], "as it is"
            if condition.name != UNCHANGED:
                clip = perturb(clip, number, condition.name, condition.level, predictions.perturbation_seed)
                what = f"{condition.name.replace('_', ' ')} {condition.level:g}"
            said = [
                f"{model}: {names[each[place]]}" for model, each in zip(findings.contenders, majorities, strict=True)
            ]
            text = "\n".join([f"test clip {number[0]}, {what}", f"is {names[condition.labels[place]]}", *said])
            clips.append((text, clip[0]))
    return clips


def draw_pictures(folder: Path, findings: Findings, split: AnySplit) -> dict[str, str]:
    """Write the report's pictures to `folder`; return the caption of each by its name, which is the file's too.

    Args:
        split: the clips that the models were tested with.
    """
    models, names = findings.models, findings.predictions.class_names
    pictures = {
        "cost": ("Error against latency, with 95 % intervals and quartiles", _error_against_latency(findings)),
        "reliability": (
            "Accuracy of the predictions of each confidence; on the dotted line confidence is accuracy",
            _reliability_diagram(findings),
        ),
        "perturbations": (
            "Accuracy against the level of each perturbation, of the same clips, a band over the seeds, chance dotted",
            figures.perturbation_curves(accuracies_when_perturbed(findings), 1 / len(names)),
        ),
        "confusions": (
            "Confusions, all seeds together",
            figures.confusions({name: model.confusion.sum(axis=0) for name, model in models.items()}, names),
        ),
        "learning_curves": (
            "Learning curves",
            figures.learning_curves({name: model.training.history for name, model in models.items()}),
        ),
        "samples": ("The first test clip of each class", figures.contact_sheet(split)),
    }
    if clips := disagreements(findings, split):
        caption = "What was shown, and what most seeds of each model say"
        pictures["disagreements"] = (caption, figures.film_strips(clips))
    for finding in findings.audit:
        if finding.pairs:
            caption = f"Clips that look alike, with their classes: what the check {finding.check} found"
            pictures[finding.check] = (caption, _side_by_side(finding.pairs))
    for name, (_, figure) in pictures.items():
        figure.savefig(folder / f"{name}.png", dpi=110)
    return {name: caption for name, (caption, _) in pictures.items()}


def _side_by_side(pairs: Sequence[Sequence[Shown]]) -> Figure:
    """Show the first frames of clips, a row for each pair."""
    figure = figures.new_figure(9, 2.4 * len(pairs))
    axes = figure.subplots(len(pairs), 2, squeeze=False)
    for axis, shown in zip(axes.flat, chain(*pairs), strict=True):
        axis.imshow(shown.frame, cmap="gray", vmin=0, vmax=255)
        axis.set_axis_off()
        text = f"{figures.short_name(shown.name, 36)}\n{figures.short_name(shown.class_name)}"
        axis.set_title(text, fontsize="small", parse_math=False)  # Names come from the user: a $ is not TeX.
    return figure


def _reliability_diagram(findings: Findings) -> Figure:
    """Draw accuracy against confidence, a line per model, dots as large as they have predictions."""
    figure = figures.new_figure(4.2, 3.6)
    axis = figure.subplots()
    unchanged = findings.predictions.unchanged
    for name, (colour, _) in figures.model_styles(findings.models).items():
        bins = reliability(unchanged.probabilities[name].astype(float), unchanged.labels)
        axis.plot(bins["confidence"], bins["accuracy"], color=colour, linewidth=1, label=name)
        sizes = 100 * bins["predictions"] / bins["predictions"].sum()
        axis.scatter(bins["confidence"], bins["accuracy"], s=sizes, color=colour, alpha=0.6)
    axis.plot([0, 1], [0, 1], color="grey", linestyle=":", zorder=0)
    axis.set(xlabel="confidence: probability of the prediction", ylabel="accuracy", xlim=(0, 1.03), ylim=(-0.03, 1.03))
    axis.legend()
    return figure


def _error_against_latency(findings: Findings) -> Figure:
    """Draw each model's error against its latency, and a line through those that no other beats in both."""
    models = findings.models
    figure = figures.new_figure(6, 3.6)
    axis = figure.subplots()
    points: list[tuple[float, float]] = []
    for name, (colour, marker) in figures.model_styles(models).items():
        error, intervals = 1 - models[name].accuracy, 1 - np.array(models[name].interval)[::-1]
        latency, (fast, slow) = models[name].cost[1:3]
        points.append((latency, error))
        axis.errorbar(
            latency, error, xerr=[[latency - fast], [slow - latency]], yerr=np.abs(intervals - error)[:, np.newaxis],
            color=colour, marker=marker, markerfacecolor="none", markersize=8, capsize=3, label=name,
        )  # fmt: skip # hollow markers can be seen where they overlap
    points.sort()
    front = [point for number, point in enumerate(points) if all(point[1] < error for _, error in points[:number])]
    if len(front) > 1:
        axis.step(
            *zip(*front, strict=True), where="post", color="grey", linestyle=":", zorder=0, label="no other beats both"
        )
    axis.set(xlabel="latency of one clip (ms, one process)", ylabel="error on the test split", xscale="log")
    axis.legend()
    return figure
