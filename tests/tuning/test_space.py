import sys
from typing import Any

import pytest

from motionbench.core.errors import UserError
from motionbench.models.registry import SEARCHABLE
from motionbench.params.loading import load_params
from motionbench.tuning.space import check_search_space, model_values
from pipeline import tune
from tests.conftest import ROOT
from tests.tuning.studies import Load


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"tuning.convlstm.space.kernel_sizes": {"low": 2, "high": 13}},
            "tuning.convlstm.space.kernel_sizes: {low: 2, high: 13} is not allowed: must be at most 12 at layer 3, "
            "whose frames have 12x32 pixels",
        ),
        (
            {"tuning.convlstm.space.kernel_sizes": {"choices": [4, 8, 60]}},
            "must be at most 50 at layer 1, whose frames have 50x130 pixels",
        ),
        ({"tuning.convlstm.space.filtres": {"low": 2, "high": 9}}, "tuning.convlstm.space.filtres: unknown key; known"),
        ({"tuning.convlstm.space.filters": {"low": 0, "high": 9}}, "tuning.convlstm.space.filters: 0 is not allowed"),
        ({"tuning.convlstm.space.filters": {"low": 6, "high": 9}}, "wide enough to hold today's convlstm.filters: 5"),
        ({"tuning.convlstm.space.activation": {"choices": ["tanh", "elu"]}}, "space.activation: 'elu' is not allowed"),
        ({"tuning.convlstm.space.enabled": {"choices": [True]}}, "tuning.convlstm.space.enabled: unknown key; known"),
        (
            {"tuning.convlstm.space.batch_normalization": {"low": 0, "high": 1}},
            "space.batch_normalization: 0 is not al",
        ),
        ({"tuning.convlstm.space.batch_normalization": {"choices": [True]}}, "convlstm.batch_normalization: False"),
        ({"tuning.convlstm.space.dropout": {"low": 0.0, "high": 1.0}}, "space.dropout: 1.0 is not allowed: input shou"),
        (
            {"tuning.convlstm.space.weight_decay": {"low": 0.001, "high": 0.1, "log": True}},
            "wide enough to hold today's convlstm.weight_decay: 0.0",
        ),
    ],
)
def test_space_that_cannot_work_is_refused(changes: dict[str, Any], message: str, params_with: Load) -> None:
    with pytest.raises(UserError) as refused:
        check_search_space(params_with(changes), "convlstm")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_model_without_a_section_is_searched_as_default_says(params_with: Load) -> None:
    params = params_with({"tuning.convlstm": None, "tuning.default.space.filters": {"low": 6, "high": 9}})
    with pytest.raises(UserError, match=r"tuning\.default\.space\.filters: .*today's convlstm\.filters: 5"):
        check_search_space(params, "convlstm")


def test_shipped_spaces_can_work() -> None:
    params = load_params(ROOT / "params.yaml")
    for name in SEARCHABLE:
        check_search_space(params, name)


def test_drawn_values_become_lists_and_rounded_numbers() -> None:
    drawn = {"filters.1": 3, "filters.2": 5, "learning_rate": 0.00312345678}
    assert model_values(drawn) == {"filters": [3, 5], "learning_rate": 0.003123}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "cnn"], "MODEL: invalid choice: 'cnn'"),
        (["--model", "cnn3d"], "MODEL: cnn3d is switched off; set cnn3d.enabled: true in params.yaml"),
        (["--trials", "0"], "TRIALS: 0 is not allowed: must be a whole number, at least 1"),
        (["--workers", "0"], "WORKERS: 0 is not allowed: must be a whole number, at least 1"),
        (["--trials", "many"], "TRIALS: many is not allowed: must be a whole number, at least 1"),
    ],
)
def test_bad_arguments_are_refused(arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["pipeline.tune", *arguments])
    with pytest.raises(UserError) as refused:
        tune.main()
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)
