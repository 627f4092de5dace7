"""All that a comparison finds, computed once: files, report, terminal and MLflow show the same."""

from collections.abc import Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from motionbench.comparison.audit import Finding, audit, summarise_audit
from motionbench.comparison.champion import Contender, choose_champion
from motionbench.comparison.intervals import accuracy_interval
from motionbench.comparison.notes import Search, clip_notes, search_notes
from motionbench.comparison.pairs import Comparison, Pair, compare, compare_pairs
from motionbench.comparison.probabilities import Calibration, calibrate
from motionbench.comparison.sentences import compare_with_controls, describe_controls, describe_pair, left_behind
from motionbench.core.paths import MODELS, ReplicateKey, replicate_path
from motionbench.data.splits import SourceRecord
from motionbench.evaluation.costs import Cost
from motionbench.evaluation.predictions import Condition, Predictions
from motionbench.models.registry import CONTROLS, contenders_among
from motionbench.params.schema import GateParams
from motionbench.training.results import Training

MOTION_HINT = " To draw clips that need motion, set synthetic.variant: motion."
NOTHING_SHOWS = "its loss is about that of guessing, and its accuracy is not shown to be above it"


class Model(NamedTuple):
    """What is known of one model."""

    training: Training
    cost: Cost
    search: Search | None
    right: NDArray[np.bool_]  # whether each answer to clips as they are is right, shape (seeds, clips)
    interval: tuple[float, float]  # 95 %, of the accuracy
    confusion: NDArray[np.int64]  # answers by true and named class, shape (seeds, classes, classes)
    calibration: Calibration
    guessing: list[ReplicateKey]  # the replicates that have learned nothing
    overconfident: list[ReplicateKey]  # the replicates whose probabilities are worse than those of guessing

    @property
    def accuracy(self) -> float:
        """Return the accuracy, the mean over the seeds."""
        return float(self.right.mean())


class Perturbed(NamedTuple):
    """The contenders compared on perturbed clips, or on the same clips as they are."""

    condition: Condition
    found: list[tuple[Comparison, float | None]]
    """Of each two contenders, with a p-value: that one is better, as networks and trained again, adjusted for the
    number of all p-values. None: there are too few groups to show anything."""


class Findings(NamedTuple):
    """All that a comparison finds."""

    predictions: Predictions
    models: dict[str, Model]
    pairs: list[Pair]  # each contender with each other
    controls: list[Pair]  # the most accurate contender with each control
    perturbed: list[Perturbed]  # the first one: the clips that are perturbed, as they are
    audit: list[Finding]
    champion: Path | None  # the model file
    reason: str  # why it is the champion, or why there is none
    verdict: list[str]  # a sentence per pair, and one on the controls
    notes: list[str]  # what else to say, which may name files of the user's

    @property
    def contenders(self) -> tuple[str, ...]:
        """Return the names of the contenders."""
        return contenders_among(self.models)


def find(
    predictions: Predictions, trained: Mapping[str, Training], costs: Mapping[str, Cost],
    searches: Mapping[str, Search | None], source: SourceRecord, gate: GateParams,
) -> Findings:  # fmt: skip
    """Compare the models that `predictions` has.

    Args:
        trained: by model.
        costs: by model.
        searches: by contender, where its parameters come from.
        source: of the clips.

    Raises:
        UserError: if a table of the clips, which the audit needs, is missing or damaged.
    """
    models = {
        name: _describe_model(predictions, name, trained[name], costs[name], searches.get(name))
        for name in predictions.models
    }
    contenders, groups = contenders_among(models), predictions.groups
    right = {name: model.right for name, model in models.items()}
    pairs = compare_pairs({name: right[name] for name in contenders}, groups, gate.margin)
    controls = compare_with_controls(right, contenders, CONTROLS, groups, gate.margin)
    findings = audit(controls, right, source)
    champion, reason = _choose(models, pairs, gate, source)
    hint = source.source == "synthetic" and not all(left_behind(pair) for pair in controls)
    return Findings(
        predictions, models, pairs, controls, _compare_perturbed(predictions, contenders), findings, champion, reason,
        verdict=[
            *(describe_pair(pair) for pair in pairs),
            describe_controls(controls) + (MOTION_HINT if hint else ""),
        ],
        notes=[
            *(note for name, model in models.items() for note in _describe_learning(name, model)),
            *([summarise_audit(findings)] if findings else []),
            *search_notes(searches, source.folds),
            *clip_notes(source, predictions),
        ],
    )  # fmt: skip


def _describe_model(
    predictions: Predictions, name: str, training: Training, cost: Cost, search: Search | None
) -> Model:
    unchanged, labels, groups = predictions.unchanged, predictions.labels, predictions.groups
    right, predicted, probabilities = (
        unchanged.right(name), unchanged.predicted(name), unchanged.probabilities[name].astype(float),
    )  # fmt: skip
    classes = len(predictions.class_names)
    folds: Sequence[int | None] = [None] if predictions.folds is None else np.unique(predictions.folds).tolist()
    guessing: list[ReplicateKey] = []
    overconfident: list[ReplicateKey] = []
    for fold in folds:
        of_fold = np.full(len(labels), True) if fold is None else predictions.folds == fold
        found = calibrate(probabilities[:, of_fold], labels[of_fold])
        keys = [ReplicateKey(seed, fold) for seed in predictions.seeds]
        guessing += compress(keys, found.guesses)
        overconfident += compress(keys, found.overconfident)
    return Model(
        training, cost, search, right, accuracy_interval(right, groups),
        confusion=np.array(
            [np.bincount(labels * classes + each, minlength=classes**2).reshape(classes, classes) for each in predicted]
        ),
        calibration=calibrate(probabilities, labels), guessing=guessing, overconfident=overconfident,
    )  # fmt: skip


def _describe_learning(name: str, model: Model) -> list[str]:
    guessing, overconfident = (", ".join(map(str, keys)) for keys in (model.guessing, model.overconfident))
    return [
        *([f"{name} has learned nothing that shows ({guessing}): {NOTHING_SHOWS}."] if guessing else []),
        *(
            [f"{name} is overconfident ({overconfident}): sure where it is wrong, so that its loss is above guessing."]
            if overconfident
            else []
        ),
    ]


def _choose(
    models: Mapping[str, Model], pairs: Sequence[Pair], gate: GateParams, source: SourceRecord
) -> tuple[Path | None, str]:
    contenders = {
        name: Contender(models[name].accuracy, models[name].interval[0], models[name].cost.latency_milliseconds)
        for name in contenders_among(models)
    }
    name, reason = choose_champion(contenders, pairs, gate.minimum_accuracy, gate.maximum_latency)
    if name is None:
        return None, reason
    best = models[name].training.best
    of_fold = f" of fold {best.fold}: those of other folds are of other clips" if source.folds else ""
    why = f"The replicate is {best}, which has the lowest validation loss{of_fold}."
    return replicate_path(MODELS / name, best), f"{reason} {why}"


def _compare_perturbed(predictions: Predictions, contenders: Sequence[str]) -> list[Perturbed]:
    if not predictions.perturbed:
        return []
    conditions = [predictions.unchanged.only(predictions.perturbed[0].clips), *predictions.perturbed]
    found = [
        [
            compare(condition.right(first), condition.right(second), _of(predictions.groups, condition))
            for number, first in enumerate(contenders)
            for second in contenders[number + 1 :]
        ]
        for condition in conditions
    ]
    # "Better" needs both answers, so the larger p-value counts.
    larger = [
        max(each.networks.p_value, each.recipes.p_value if each.recipes else 0.0)
        for row in found
        for each in row
        if each.testable
    ]
    adjusted = iter(adjust_false_discoveries(larger))
    return [
        Perturbed(condition, [(each, next(adjusted) if each.testable else None) for each in row])
        for condition, row in zip(conditions, found, strict=True)
    ]


def adjust_false_discoveries(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for the number of tests, to control the false discovery rate.

    The procedure is that of Benjamini and Hochberg (1995).
    """
    order, number = np.argsort(p_values)[::-1], len(p_values)
    stepped = np.asarray(p_values)[order] * number / np.arange(number, 0, -1)
    adjusted = np.empty(number)
    adjusted[order] = np.minimum.accumulate(np.minimum(stepped, 1))
    return [float(p_value) for p_value in adjusted]


def _of(groups: NDArray[np.object_] | None, condition: Condition) -> NDArray[np.object_] | None:
    return None if groups is None else groups[condition.clips]
