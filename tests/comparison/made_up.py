"""Findings about models that were never trained, and contenders that the registry does not have."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from motionbench.comparison.findings import Findings, compare_models
from motionbench.core.paths import MODELS, ReplicateKey, replicate_path
from motionbench.data.splits import DatasetInfo, Split
from motionbench.evaluation.costs import Cost
from motionbench.evaluation.predictions import UNCHANGED, Condition, Predictions
from motionbench.models.registry import contenders_among
from motionbench.params.schema import GateParams
from motionbench.training.results import Training
from tests.conftest import DRAWN_DATASET

HOSTILE = "<b>![x](http://127.0.0.1/y)|`"
CLASS_NAMES = (HOSTILE, "$x_{")
SPLIT = Split(np.zeros((80, 3, 4, 4, 1), dtype=np.uint8), np.repeat([1, 0], [20, 60]), CLASS_NAMES)
FILES = np.array([f"wave/{HOSTILE}{number}.mp4" for number in range(80)], object)
GROUPS = np.array([f"person {number // 8}" for number in range(80)], object)
"""Ten groups of eight clips each, the first of which are wrong last."""
FIVE = ("cnn_lstm", "convlstm", "cnn3d", "gru", "tcn")
THREE = FIVE[:3]
GATE = GateParams(minimum_accuracy=0.9, maximum_latency=100.0, margin=0.02)


class Made(NamedTuple):
    """A model whose seeds have the first so many clips right."""

    correct: tuple[int, ...]
    latency: float  # milliseconds
    at_speed: Mapping[float, Sequence[int]]  # the same for clips played at another speed


def result(*correct: int, latency: float = 1.0, at_speed: Mapping[float, Sequence[int]] | None = None) -> Made:
    """A model; by default clips at twice the speed are perturbed, with as many right as they are."""
    return Made(correct, latency, {2.0: correct} if at_speed is None else at_speed)


def training(*losses: Sequence[float]) -> Training:
    """A training with these validation losses per replicate and epoch."""
    history = pd.DataFrame(
        [
            {"seed": seed, "epoch": epoch, "validation_loss": loss, "validation_accuracy": 1 - loss}
            for seed, replicate in enumerate(losses)
            for epoch, loss in enumerate(replicate, start=1)
        ]
    )
    return Training(
        parameters=13_039,
        replicates=pd.DataFrame({"epoch": [1] * len(losses)}),
        replicate_seconds=[1.0] * len(losses),
        history=history,
        best_replicate=ReplicateKey(0),
        seconds=1.0,
        peak_megabytes=500.0,
        section={"epochs": 40},
        machines={ReplicateKey(seed): "machine" for seed in range(len(losses))},
    )


def probabilities(correct: Sequence[int], labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Predictions of clips with these labels, of two classes, of which the first so many are right."""
    right = np.arange(len(labels)) < np.array(correct)[:, np.newaxis]
    return np.where((right == (labels == 0))[..., np.newaxis], [0.9, 0.1], [0.1, 0.9]).astype(np.float32)


def predictions(
    made: Mapping[str, Made], clips: int = 80, files: NDArray[Any] | None = None, groups: NDArray[Any] | None = None
) -> Predictions:
    """The predictions of these models of clips, the first quarter of class 1, all of which are perturbed too."""
    numbers = np.arange(clips)
    labels = (numbers < clips // 4).astype(np.int64)
    first = next(iter(made.values()))
    return Predictions(
        class_names=CLASS_NAMES, frames=3, seeds=tuple(range(len(first.correct))), perturbation_seed=7, folds=None,
        files=files, groups=groups,
        unchanged=Condition(
            UNCHANGED, 0.0, numbers, labels, {name: probabilities(each.correct, labels) for name, each in made.items()}
        ),
        perturbed=[
            Condition(
                "speed", level, numbers, labels,
                {name: probabilities(each.at_speed[level], labels) for name, each in made.items()},
            )
            for level in first.at_speed
        ],
        md5s={
            replicate_path(MODELS / name, ReplicateKey(seed)).as_posix(): f"{name} {seed}"
            for name, each in made.items()
            for seed in range(len(each.correct))
        },
    )  # fmt: skip # what belongs together on one line


def models(*contenders: Made, controls: tuple[int, int] = (80, 80), baseline: Made | None = None) -> dict[str, Made]:
    """One to five contenders, a baseline or none, and the controls, of which so many predictions are right."""
    seeds, levels = len(contenders[0].correct), contenders[0].at_speed
    blind, unordered = (
        result(*[number] * seeds, at_speed={level: [number] * seeds for level in levels}) for number in controls
    )
    trivial = {"frame_differences": baseline} if baseline else {}
    return {**dict(zip(FIVE, contenders, strict=False)), **trivial, "single_frame": blind, "bag_of_frames": unordered}


def compared(
    made: Mapping[str, Made], clips: int = 80, files: NDArray[Any] | None = None, groups: NDArray[Any] | None = None,
    source: DatasetInfo = DRAWN_DATASET, gate: GateParams = GATE,
) -> Findings:  # fmt: skip # what belongs together on one line
    """What is found about these models."""
    return describe(predictions(made, clips, files, groups), made, source, gate)


def describe(
    table: Predictions, made: Mapping[str, Made], source: DatasetInfo = DRAWN_DATASET, gate: GateParams = GATE
) -> Findings:
    """What is found in a table about these models."""
    trained = {name: training(*[[0.1]] * len(each.correct)) for name, each in made.items()}
    costs = {
        name: Cost(
            1_000_000, each.latency, (0.9 * each.latency, 1.1 * each.latency), 2.0, (1.9, 2.1), "ONNX Runtime", 1.0
        )
        for name, each in made.items()
    }
    return compare_models(table, trained, costs, dict.fromkeys(contenders_among(made)), source, gate)


def change(findings: Findings, name: str, **values: Any) -> Findings:
    """Findings with other values of one model."""
    return findings._replace(models={**findings.models, name: findings.models[name]._replace(**values)})


def register(monkeypatch: pytest.MonkeyPatch, contenders: Sequence[str]) -> None:
    """Have these contenders compared instead of those of the registry."""
    monkeypatch.setattr("motionbench.models.registry.CONTENDERS", tuple(contenders))
