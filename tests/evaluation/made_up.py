"""Results of models that were never trained, and contenders that the registry does not have."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from motionbench.core.paths import ReplicateKey
from motionbench.data.splits import Split
from motionbench.evaluation.costs import Cost
from motionbench.evaluation.held_out import HeldOutClips
from motionbench.evaluation.results import ModelResult, join_results
from motionbench.training.results import Training

HOSTILE = "<b>![x](http://127.0.0.1/y)|`"
CLASS_NAMES = (HOSTILE, "$x_{")
SPLIT = Split(np.zeros((80, 3, 4, 4, 1), dtype=np.uint8), np.zeros(80, dtype=np.int64), CLASS_NAMES)
CLIPS = HeldOutClips(SPLIT.labels, CLASS_NAMES, frames=3, perturbed=np.arange(80), files=None, groups=None)
GROUPED = CLIPS._replace(
    files=[f"wave/{HOSTILE}{number}.mp4" for number in range(80)],
    groups=np.array([f"person {number // 8}" for number in range(80)], object),
)
"""Ten groups of eight clips each, the first of which are wrong last."""
FIVE = ("cnn_lstm", "convlstm", "cnn3d", "gru", "tcn")
THREE = FIVE[:3]


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
        best_epochs=[1] * len(losses),
        history=history,
        best=ReplicateKey(0),
        seconds=1.0,
        peak_megabytes=500.0,
        section={"epochs": 40},
        machines={ReplicateKey(seed): "machine" for seed in range(len(losses))},
    )


def result(
    *correct: int, clips: int = 80, latency: float = 1.0, at_speed: Mapping[float, Sequence[int]] | None = None,
    held_out: HeldOutClips = CLIPS,
) -> ModelResult:  # fmt: skip
    """A model whose replicates have the first so many clips right.

    Args:
        at_speed: the same for clips played at another speed, by default 2, with as many right as unperturbed.
    """
    perfect = {"precision": 1.0, "recall": 1.0, "f1": 1.0}

    def predicted(number: int) -> list[int]:
        return [0] * number + [1] * (clips - number)

    scores: Any = [
        {
            "correct": number,
            "clips": clips,
            "accuracy": number / clips,
            "classes": dict.fromkeys(CLASS_NAMES, perfect),
            "confusion": [[number, clips - number], [0, 0]],
            "predicted": predicted(number),
            "perturbed": [
                {
                    "perturbation": "speed",
                    "level": level,
                    "predicted": predicted(numbers[replicate]),
                    "right": [answer == 0 for answer in predicted(numbers[replicate])],
                }
                for level, numbers in (at_speed or {2.0: correct}).items()
            ],
        }
        for replicate, number in enumerate(correct)
    ]
    cost = Cost(1_000_000, latency, (0.9 * latency, 1.1 * latency), 2.0, (1.9, 2.1))
    judged_by = held_out._replace(labels=held_out.labels[:clips])
    return join_results(training(*[[0.1]] * len(correct)), scores, cost, judged_by)


def models(*contenders: ModelResult, controls: tuple[int, int] = (80, 80)) -> dict[str, ModelResult]:
    """One to five contenders and the controls, of which so many answers are right."""
    blind, unordered = (result(*[control] * 2) for control in controls)
    named = dict(zip(FIVE, contenders, strict=False))
    return {**named, "single_frame": blind, "bag_of_frames": unordered}


def register(monkeypatch: pytest.MonkeyPatch, contenders: Sequence[str]) -> None:
    """Have these contenders compared instead of those of the registry."""
    monkeypatch.setattr("motionbench.models.registry.CONTENDERS", tuple(contenders))
