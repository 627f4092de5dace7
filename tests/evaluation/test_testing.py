import numpy as np
import pytest

from motionbench.data.splits import Split, join
from motionbench.evaluation.results import Answers, Perturbed
from motionbench.evaluation.testing import score

NAMES = ("still", "up", "down")


def part(*labels: int) -> Split:
    return Split(np.zeros((len(labels), 2, 4, 4, 1), np.uint8), np.array(labels), NAMES)


def answers(*predicted: int, right: list[bool]) -> Answers:
    noisy = Perturbed(perturbation="pixel_noise", level=0.1, predicted=[0] * len(right), right=right)
    return Answers(predicted=list(predicted), perturbed=[noisy])


def test_scores_are_those_worked_out_by_hand() -> None:
    scores = score([answers(0, 0, 1, 1, right=[True])], part(0, 1, 1, 0))
    assert (scores["correct"], scores["clips"], scores["accuracy"]) == (2, 4, 0.5)
    assert scores["confusion"] == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert scores["classes"]["up"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert scores["classes"]["down"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0}


def test_answers_to_the_parts_of_folds_are_joined() -> None:
    test = join([part(0, 1), part(2), part(1, 1)])
    parts = [answers(0, 1, right=[True, False]), answers(0, right=[False]), answers(1, 2, right=[True])]
    scores = score(parts, test)
    assert scores["predicted"] == [0, 1, 0, 1, 2]
    assert (scores["correct"], scores["clips"]) == (3, 5)
    assert scores["classes"]["up"]["recall"] == pytest.approx(2 / 3)
    assert scores["perturbed"][0]["right"] == [True, False, False, True]
