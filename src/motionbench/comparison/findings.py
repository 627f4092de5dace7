"""All that a comparison finds, computed once: files, report, terminal and MLflow show the same."""

from collections.abc import Mapping, Sequence
from itertools import combinations, compress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from motionbench.comparison.audit import AuditCheck, audit, summarise_audit
from motionbench.comparison.gate import Contender, choose_challenger, choose_winner
from motionbench.comparison.intervals import accuracy_interval
from motionbench.comparison.notes import Search, clip_notes, search_notes
from motionbench.comparison.pairs import Comparison, compare, compare_pairs
from motionbench.comparison.probabilities import Calibration, calibrate
from motionbench.comparison.sentences import (
    compare_with_baselines,
    compare_with_controls,
    describe_baselines,
    describe_controls,
    describe_lead,
    describe_pair,
)
from motionbench.core.paths import MODELS, ReplicateKey, replicate_path
from motionbench.data.splits import DatasetInfo
from motionbench.evaluation.costs import Cost
from motionbench.evaluation.predictions import Condition, Predictions
from motionbench.models.registry import contenders_among
from motionbench.params.schema import GateParams
from motionbench.training.results import Training

MOTION_HINT = " To draw clips that need motion, set synthetic.variant: motion."
NOTHING_SHOWS = "its loss is about that of guessing, and its accuracy is not shown to be above it"
OVERCONFIDENT = "sure where it is wrong, so that its loss is above guessing"


class Model(NamedTuple):
    """What is known of one model."""

    training: Training
    cost: Cost
    search: Search | None
    right: NDArray[np.bool_]  # whether each prediction of clips as they are is right, shape (seeds, clips)
    interval: tuple[float, float]  # 95 %, of the accuracy
    confusion: NDArray[np.int64]  # clips by true and predicted class, shape (seeds, classes, classes)
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
    pairs: list[Comparison]  # each contender with each other
    baselines: list[Comparison]  # each contender with each baseline
    controls: list[Comparison]  # the most accurate contender with each control
    perturbed: list[Perturbed]  # the first one: the clips that are perturbed, as they are
    audit: list[AuditCheck]
    champion: Path | None  # the model file
    reason: str  # why it is the champion, or why there is none
    challenger: Path | None  # the model file of the best contender that is not the champion
    challenger_fault: str | None  # what it fails the gate for
    verdict: list[str]  # a sentence per pair, one per baseline, and one on the controls
    notes: list[str]  # what else to say, which may name files of the user's

    @property
    def contenders(self) -> tuple[str, ...]:
        """Return the names of the contenders."""
        return contenders_among(self.models)


def compare_models(
    predictions: Predictions, trained: Mapping[str, Training], costs: Mapping[str, Cost],
    searches: Mapping[str, Search | None], dataset: DatasetInfo, gate: GateParams,
) -> Findings:  # fmt: skip # what belongs together on one line
    """Compare the models that `predictions` has.

    Args:
        trained: by model.
        costs: by model.
        searches: by contender, where its parameters come from.
        dataset: of the clips.

    Raises:
        UserError: if a table of the clips, which the audit needs, is missing or damaged.
    """
    unchanged, groups, contenders = predictions.unchanged, predictions.groups, contenders_among(predictions.models)
    right = {name: unchanged.right(name) for name in predictions.models}
    pairs = compare_pairs({name: right[name] for name in contenders}, groups, gate.margin)
    baselines = compare_with_baselines(right, groups, gate.margin)
    controls = compare_with_controls(right, groups, gate.margin)
    audited = audit(controls, right, dataset)
    hint = dataset.source == "synthetic" and not all(pair.first_leads for pair in controls)
    models, learning = {}, []
    for name in predictions.models:
        guessing, overconfident = _judge_learning(predictions, name)
        models[name] = Model(
            trained[name], costs[name], searches.get(name), right[name], accuracy_interval(right[name], groups),
            _confusion(unchanged.predicted(name), predictions.labels, len(predictions.class_names)),
            calibrate(unchanged.probabilities[name].astype(float), predictions.labels), guessing, overconfident,
        )  # fmt: skip # in the order of its fields
        if guessing:
            keys = ", ".join(map(str, guessing))
            learning.append(f"{name} has learned nothing that shows ({keys}): {NOTHING_SHOWS}.")
        if overconfident:
            keys = ", ".join(map(str, overconfident))
            learning.append(f"{name} is overconfident ({keys}): {OVERCONFIDENT}.")
    candidates = {
        name: Contender(models[name].accuracy, models[name].interval[0], costs[name].latency_milliseconds)
        for name in contenders
    }
    chosen, reason = choose_winner(candidates, pairs, gate.minimum_accuracy, gate.maximum_latency)
    challenger, fault = choose_challenger(candidates, chosen, gate.minimum_accuracy, gate.maximum_latency)
    if chosen:
        best = trained[chosen].best_replicate
        leads = [
            f"{describe_lead(each)} than the baseline {each.second}{' (practically equal)' if each.equal else ''}"
            for each in baselines
            if each.first == chosen
        ]
        reason += f" It {' and '.join(leads)}." if leads else ""
        of_fold = f" of fold {best.fold}: those of other folds are of other clips" if dataset.folds else ""
        reason += f" The replicate is {best}, which has the lowest validation loss{of_fold}."
    return Findings(
        predictions,
        models,
        pairs,
        baselines,
        controls,
        _compare_perturbed(predictions, contenders),
        audited,
        _best_archive(trained, chosen),
        reason,
        _best_archive(trained, challenger),
        fault,
        verdict=[
            *map(describe_pair, pairs),
            *describe_baselines(baselines),
            describe_controls(controls) + (MOTION_HINT if hint else ""),
        ],
        notes=[
            *learning,
            *([summarise_audit(audited)] if audited else []),
            *search_notes(searches, dataset.folds),
            *clip_notes(dataset, predictions),
        ],
    )


def _best_archive(trained: Mapping[str, Training], name: str | None) -> Path | None:
    return replicate_path(MODELS / name, trained[name].best_replicate) if name else None


def _confusion(predicted: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Return the number of clips by true and predicted class, shape (seeds, classes, classes)."""
    counts = np.zeros((len(predicted), classes, classes), np.int64)
    np.add.at(counts, (np.arange(len(predicted))[:, np.newaxis], labels, predicted), 1)
    return counts


def _judge_learning(predictions: Predictions, name: str) -> tuple[list[ReplicateKey], list[ReplicateKey]]:
    """Return the replicates of a model that have learned nothing, and those that are overconfident."""
    probabilities, labels = predictions.unchanged.probabilities[name].astype(float), predictions.labels
    folds: Sequence[int | None] = [None] if predictions.folds is None else np.unique(predictions.folds).tolist()
    guessing: list[ReplicateKey] = []
    overconfident: list[ReplicateKey] = []
    for fold in folds:
        of_fold = np.full(len(labels), True) if fold is None else predictions.folds == fold
        found = calibrate(probabilities[:, of_fold], labels[of_fold])
        keys = [ReplicateKey(seed, fold) for seed in predictions.seeds]
        guessing += compress(keys, found.guesses)
        overconfident += compress(keys, found.overconfident)
    return guessing, overconfident


def _compare_perturbed(predictions: Predictions, contenders: Sequence[str]) -> list[Perturbed]:
    if not predictions.perturbed:
        return []
    conditions = [predictions.unchanged.only(predictions.perturbed[0].clips), *predictions.perturbed]
    found = []
    for condition in conditions:
        groups = None if predictions.groups is None else predictions.groups[condition.clips]
        right = [condition.right(name) for name in contenders]
        found.append([compare(*pair, groups) for pair in combinations(right, 2)])
    # "Better" needs both questions, so the larger p-value counts.
    larger = [
        max(each.networks.p_value, each.recipes.p_value if each.recipes else 0.0)
        for row in found
        for each in row
        if each.testable
    ]
    adjusted = iter(false_discovery_control(larger).tolist())
    return [
        Perturbed(condition, [(each, next(adjusted) if each.testable else None) for each in row])
        for condition, row in zip(conditions, found, strict=True)
    ]
