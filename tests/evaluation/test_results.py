import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motionbench.core.errors import UserError
from motionbench.core.files import write_json
from motionbench.core.paths import APPLIED_SEARCHES
from motionbench.evaluation.results import (
    balanced_accuracy,
    perturbation_settings,
    read_applied_search,
    right_answers,
    right_when_perturbed,
)
from tests.evaluation.made_up import GROUPED, models, result, training

APPLIED = {
    "study": "first",
    "trials": 40,
    "number": 7,
    "validation_loss": 0.05,
    "curve": [0.5, 0.9, 0.4, 0.1],
    "section": {"epochs": 40},
}


def test_a_models_results_are_those_of_its_replicates_together() -> None:
    joined = result(80, 60)
    assert joined["accuracy"] == 0.875
    assert joined["f1"] == 1.0
    # Of 80 of 80 and of 60 of 80, by Clopper and Pearson.
    assert joined["interval"] == pytest.approx((0.6406, 1.0), abs=5e-4)


def test_the_interval_of_clips_in_groups_is_wider() -> None:
    low, high = result(60, 60)["interval"]
    lower, higher = result(60, 60, held_out=GROUPED)["interval"]
    assert lower < low < high < higher
    # Of ten groups seven are right, one half, and two wrong.
    assert (lower, higher) == pytest.approx((0.5, 1.0), abs=0.05)


def test_balanced_accuracy_counts_each_class_the_same() -> None:
    model = result(80, 60)
    for replicate, recalls in zip(model["replicates"], [(1.0, 0.0), (0.5, 0.1)], strict=True):
        replicate["classes"] = {
            name: {"precision": 0.9, "recall": recall, "f1": 0.8} for name, recall in zip("ab", recalls, strict=True)
        }
    assert balanced_accuracy(model) == pytest.approx((1.0 + 0.0 + 0.5 + 0.1) / 4)


def test_right_answers_have_a_row_per_replicate() -> None:
    model = result(3, 1, clips=4, at_speed={0.5: (2, 0), 2.0: (4, 1)})
    assert right_answers(model["replicates"], np.array([0, 0, 1, 1])).tolist() == [
        [True, True, False, True],
        [True, False, True, True],
    ]
    slow, fast = right_when_perturbed(model)
    assert slow.tolist() == [[True, True, False, False], [False] * 4]
    assert fast.tolist() == [[True] * 4, [True, False, False, False]]
    assert perturbation_settings(models(model)) == [("speed", 0.5), ("speed", 2.0)]


@pytest.fixture
def applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the searches' file in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    APPLIED_SEARCHES.parent.mkdir(parents=True)
    return APPLIED_SEARCHES


def test_losses_of_a_search_are_compared_at_equal_epochs(applied: Path) -> None:
    write_json(applied, {"cnn_lstm": APPLIED})
    # The search trained for 4 epochs, the replicates for 3, 2 and 5.
    trained = training([0.5, 0.3, 0.4], [0.6, 0.2], [0.7, 0.6, 0.5, 0.45, 0.01])
    search = read_applied_search("cnn_lstm", trained)
    assert search == {
        "study": "first",
        "trials": 40,
        "number": 7,
        "validation_loss": 0.05,
        "search_loss": pytest.approx((0.4 + 0.5 + 0.1) / 3),
        "retrained_loss": pytest.approx((0.3 + 0.2 + 0.45) / 3),
    }


def test_each_fold_of_a_seed_is_compared_on_its_own(applied: Path) -> None:
    write_json(applied, {"cnn_lstm": APPLIED})
    trained = training([0.5, 0.3, 0.4], [0.6, 0.2])
    trained.history["fold"] = trained.history.pop("seed")
    trained.history["seed"] = 0
    search = read_applied_search("cnn_lstm", trained)
    assert search
    assert search["search_loss"] == pytest.approx((0.4 + 0.5) / 2)
    assert search["retrained_loss"] == pytest.approx((0.3 + 0.2) / 2)


@pytest.mark.parametrize("content", [{}, {"convlstm": APPLIED}, {"cnn_lstm": APPLIED | {"section": {"epochs": 41}}}])
def test_parameters_that_no_search_found_have_no_search(content: Any, applied: Path) -> None:
    write_json(applied, content)
    assert read_applied_search("cnn_lstm", training([0.1])) is None


@pytest.mark.parametrize(
    "content",
    [None, "", "{", "[]", '{"cnn_lstm": {}}', '{"cnn_lstm": 1}', json.dumps({"cnn_lstm": APPLIED | {"curve": []}})],
)
def test_a_damaged_file_of_searches_is_refused_in_one_line(content: str | None, applied: Path) -> None:
    if content is not None:
        applied.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match="write it again: make tune-apply MODEL=cnn_lstm") as refused:
        read_applied_search("cnn_lstm", training([0.1]))
    assert str(refused.value).startswith(str(applied))
    assert str(refused.value).isprintable()
