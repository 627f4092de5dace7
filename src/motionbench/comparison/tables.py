"""What a comparison finds as tables and files."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from motionbench.comparison.findings import Findings
from motionbench.comparison.intervals import accuracy_interval
from motionbench.comparison.pairs import Estimate
from motionbench.core.files import write_json
from motionbench.core.paths import MODELS, ReplicateKey, replicate_path
from motionbench.core.processes import describe_environment
from motionbench.data.perturbations import unchanged_level

MATRIX_CLASSES = 20  # whose confusions are written as a matrix


def class_scores(confusion: NDArray[np.int64]) -> pd.DataFrame:
    """Return precision, recall and F1 of each class; 0 where a class is never predicted.

    Args:
        confusion: clips by true and predicted class, shape (classes, classes).
    """
    right, true, predicted = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    return pd.DataFrame(
        {
            "precision": right / np.maximum(predicted, 1),
            "recall": right / np.maximum(true, 1),
            "f1": 2 * right / np.maximum(true + predicted, 1),
        }
    )


def balanced_accuracy(confusion: NDArray[np.int64]) -> float:
    """Return the mean recall of the classes that the clips have, each of which counts the same.

    Args:
        confusion: clips by true and predicted class, shape (seeds, classes, classes).
    """
    return float(np.mean([class_scores(each)["recall"][each.sum(axis=1) > 0].mean() for each in confusion]))


def macro_f1(confusion: NDArray[np.int64]) -> float:
    """Return the mean F1 of the classes that the clips have or a model predicts, as scikit-learn's f1_score does.

    Args:
        confusion: clips by true and predicted class, shape (seeds, classes, classes).
    """
    return float(np.mean([class_scores(each)["f1"][(each + each.T).any(axis=1)].mean() for each in confusion]))


def accuracies_when_perturbed(findings: Findings) -> pd.DataFrame:
    """Return each seed's accuracy for each perturbation, at each level and, on the same clips, as they are.

    Returns:
        Rows of model, seed, perturbation, level and accuracy.
    """
    conditions = [each.condition for each in findings.perturbed]
    steps = []
    for before, condition in pairwise(conditions):
        if condition.name != before.name:
            level = unchanged_level(condition.name, findings.predictions.frames)
            steps.append((condition.name, level, conditions[0]))
        steps.append((condition.name, condition.level, condition))
    rows = [
        (name, seed, perturbation, level, accuracy)
        for name in findings.models
        for perturbation, level, condition in steps
        for seed, accuracy in zip(findings.predictions.seeds, condition.right(name).mean(axis=1).tolist(), strict=True)
    ]
    return pd.DataFrame(rows, columns=["model", "seed", "perturbation", "level", "accuracy"])


def replicate_accuracies(findings: Findings) -> pd.DataFrame:
    """Return the accuracy of each replicate on the held-out clips, as they are, with the interval of a single seed.

    Returns:
        Rows of model, seed, with folds fold, clips, accuracy, low, high, and the md5 of the replicate's archive.
    """
    predictions, rows = findings.predictions, []
    folds = [None] if predictions.folds is None else np.unique(predictions.folds).tolist()
    for fold in folds:
        tested = slice(None) if fold is None else predictions.folds == fold
        groups = None if predictions.groups is None else predictions.groups[tested]
        for name, model in findings.models.items():
            for seed, right in zip(predictions.seeds, model.right[:, tested], strict=True):
                key = ReplicateKey(seed, fold)
                low, high = accuracy_interval(right[np.newaxis], groups)
                md5 = predictions.md5s[replicate_path(MODELS / name, key).as_posix()]
                found = {"clips": len(right), "accuracy": right.mean(), "low": low, "high": high, "md5": md5}
                rows.append({"model": name, **key._asdict(), **found})
    return pd.DataFrame(rows).dropna(axis="columns")


def group_accuracies(findings: Findings) -> pd.DataFrame:
    """Return the accuracy of each model on each group, the mean over the seeds.

    Returns:
        Rows of group, clips, and a column per model.
    """
    right = {name: model.right.mean(axis=0) for name, model in findings.models.items()}
    by_group = pd.DataFrame(right).groupby(pd.Series(findings.predictions.groups, name="group"))
    return by_group.mean().assign(clips=by_group.size())[["clips", *findings.models]].reset_index()


def missed_clips(findings: Findings) -> pd.DataFrame:
    """Return the clips that more than half of the seeds of each contender get wrong.

    Returns:
        Rows of clip (its file if it has one, else its number), class, and each contender's most frequent error.
    """
    predictions = findings.predictions
    shares = [findings.models[name].right.mean(axis=0) for name in findings.contenders]
    missed = np.flatnonzero(np.max(shares, axis=0) < 0.5)
    names = np.array(predictions.class_names, object)
    table = {"clip": missed if predictions.files is None else predictions.files[missed]}
    table["class"] = names[predictions.labels[missed]]
    for name in findings.contenders:
        votes = count_votes(predictions.unchanged.predicted(name)[:, missed], len(names))
        votes[np.arange(len(missed)), predictions.labels[missed]] = 0
        table[name] = names[votes.argmax(axis=1)]
    return pd.DataFrame(table)


def count_votes(predicted: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Return how many seeds predict each class, shape (clips, classes).

    Args:
        predicted: the class that each seed predicts, shape (seeds, clips).
    """
    return np.asarray((predicted[..., np.newaxis] == np.arange(classes)).sum(axis=0))


def write_comparison(folder: Path, timing: Path, findings: Findings) -> None:
    """Write summary.json, scores.json, verdict.txt and tables to `folder`; to `timing` the champion and what chose it.

    replicates.csv is as `replicate_accuracies` returns it. perturbations.csv has a row per seed, perturbation and
    level. Of clips made from files there are also missed.csv, as `missed_clips` returns it, and audit.json; with groups
    groups.csv, as `group_accuracies` returns it.
    """
    predictions = findings.predictions
    summary: dict[str, Any] = {}
    for name, model in findings.models.items():
        summary[name] = {
            "accuracy": model.accuracy,
            "low": model.interval[0],
            "high": model.interval[1],
            "f1": macro_f1(model.confusion),
            "balanced_accuracy": balanced_accuracy(model.confusion),
            "log_loss": model.calibration.log_loss,
            "brier_score": model.calibration.brier_score,
            "calibration_error": model.calibration.calibration_error,
        }
    best = max(findings.contenders, key=lambda name: findings.models[name].accuracy)
    summary["best"] = {"model": best, "accuracy": findings.models[best].accuracy}
    summary["difference"] = {
        f"{pair.first}_vs_{pair.second}": {
            "verdict": "better" if pair.better else "equal" if pair.equal else "not shown",
            "better": pair.better or "none",
            "accuracy": pair.difference,
            "these_networks": _with_p_value(pair.networks, pair.testable),
            "trained_again": pair.recipes and _with_p_value(pair.recipes, pair.testable),
            "probability": pair.probability,
            "findable": pair.findable,
        }
        for pair in [*findings.pairs, *findings.baselines]
    }
    summary["conclusions"] = conclusions(findings)
    write_json(folder / "summary.json", summary)
    scores = {
        name: [
            {
                "seed": seed,
                "correct": int(right.sum()),
                "clips": len(right),
                "accuracy": float(right.mean()),
                "classes": dict(zip(predictions.class_names, class_scores(confusion).to_dict("records"), strict=True)),
                "confusion": _confusion(confusion, predictions.class_names),
            }
            for seed, right, confusion in zip(predictions.seeds, model.right, model.confusion, strict=True)
        ]
        for name, model in findings.models.items()
    }
    write_json(folder / "scores.json", scores)
    (folder / "verdict.txt").write_text("\n".join([*findings.verdict, ""]), encoding="utf-8")
    replicate_accuracies(findings).to_csv(folder / "replicates.csv", index=False)
    accuracies_when_perturbed(findings).to_csv(folder / "perturbations.csv", index=False)
    if predictions.files is not None:
        missed_clips(findings).to_csv(folder / "missed.csv", index=False)
        audit = [
            finding._asdict() | {"pairs": [[each.name for each in pair] for pair in finding.pairs]}
            for finding in findings.audit
        ]
        write_json(folder / "audit.json", audit)
    if predictions.groups is not None:
        group_accuracies(findings).to_csv(folder / "groups.csv", index=False)
    choice = {
        "champion": findings.champion and findings.champion.as_posix(),
        "reason": findings.reason,
        "challenger": findings.challenger and findings.challenger.as_posix(),
        "challenger_fault": findings.challenger_fault,
        "latency_milliseconds": {name: model.cost.latency_milliseconds for name, model in findings.models.items()},
        "environment": describe_environment(),
    }
    write_json(timing, choice)


def _confusion(confusion: NDArray[np.int64], class_names: Sequence[str]) -> list[list[int]] | dict[str, dict[str, int]]:
    """Return a matrix; of many classes, since git keeps it, the counts above zero by true and predicted class."""
    if len(class_names) <= MATRIX_CLASSES:
        matrix: list[list[int]] = confusion.tolist()
        return matrix
    return {
        name: {said: int(count) for said, count in zip(class_names, row, strict=True) if count}
        for name, row in zip(class_names, confusion, strict=True)
    }


def conclusions(findings: Findings) -> dict[str, str]:
    """Return all that a comparison concludes but the champion, for which times count: what on another machine stays.

    Which contender is the most accurate is no conclusion, so that its name is not said of the controls.
    """
    found = {}
    for pair in findings.pairs:
        name = f"{pair.first}_vs_{pair.second}"
        found[f"{name}, better recipe"] = pair.better or "none"
        found[f"{name}, better networks"] = pair.better_network or "none"
        found[f"{name}, practically equal"] = "yes" if pair.equal else "not shown"
    for pair in findings.baselines:
        equal = "practically equal" if pair.equal else "not shown"
        better = "yes" if pair.first_leads else "worse" if pair.leader else equal
        found[f"{pair.first}, better than baseline {pair.second}"] = better
    for pair in findings.controls:
        found[f"control {pair.second}"] = "left behind" if pair.first_leads else "not left behind"
    return found | {f"audit, {each.check}": "fires" if each.fires else "does not fire" for each in findings.audit}


def _with_p_value(found: Estimate, testable: bool) -> dict[str, float | None]:
    return {"low": found.interval[0], "high": found.interval[1], "p_value": found.p_value if testable else None}
