import json
from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest

from motionbench.core.files import read_json
from motionbench.evaluation.comparison import (
    accuracies_when_perturbed,
    compare_pairs,
    unbeaten_models,
    write_comparison,
)
from motionbench.evaluation.results import ModelResult
from tests.evaluation.made_up import FIVE, SPLIT, THREE, models, register, result

PERFECT, GOOD, BAD = result(80, 80), result(79, 80), result(40, 44)


def better(compared: dict[str, ModelResult]) -> dict[tuple[str, str], str | None]:
    return {(pair.first, pair.second): pair.better for pair in compare_pairs(compared, SPLIT.labels)}


def test_two_contenders_are_one_pair_whose_p_value_stays() -> None:
    [pair] = compare_pairs(models(PERFECT, BAD), SPLIT.labels)
    assert (pair.first, pair.second, pair.better) == ("cnn_lstm", "convlstm", "cnn_lstm")
    assert pair.found.difference == pytest.approx(38 / 80)
    # The second is right less often on 40 clips: the exact sign test.
    assert pair.found.p_value == pytest.approx(2 * 0.5**40)
    assert pair.found.detectable == 6 / 80
    assert better(models(BAD, PERFECT)) == {("cnn_lstm", "convlstm"): "convlstm"}
    assert better(models(GOOD, PERFECT)) == {("cnn_lstm", "convlstm"): None}


def test_three_contenders_are_three_pairs_adjusted_by_holm(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, THREE)
    pairs = compare_pairs(models(PERFECT, result(70, 70), BAD), SPLIT.labels)
    assert [(pair.first, pair.second) for pair in pairs] == [
        ("cnn_lstm", "convlstm"),
        ("cnn_lstm", "cnn3d"),
        ("convlstm", "cnn3d"),
    ]
    # On 10, 40 and 30 clips one of the two is right more often. The largest p-value stays, the smallest is tripled.
    expected = [2 * 0.5**10, 3 * 2 * 0.5**40, 2 * 2 * 0.5**30]
    assert [pair.found.p_value for pair in pairs] == pytest.approx(expected)
    # 3 x 2 x 0.5^7 is below 0.05, and 3 x 2 x 0.5^6 is not.
    assert {pair.found.detectable for pair in pairs} == {7 / 80}


def test_the_adjustment_can_take_significance_away(monkeypatch: pytest.MonkeyPatch) -> None:
    # Six clips all on one side give p = 0.031, and 0.094 as one of three tests.
    six = result(74, 74)
    assert better(models(PERFECT, six)) == {("cnn_lstm", "convlstm"): "cnn_lstm"}
    register(monkeypatch, THREE)
    assert set(better(models(PERFECT, six, PERFECT)).values()) == {None}


@pytest.mark.parametrize(
    ("contenders", "unbeaten"),
    [
        ((PERFECT, PERFECT, PERFECT), ["cnn_lstm", "convlstm", "cnn3d"]),
        ((PERFECT, BAD, PERFECT), ["cnn_lstm", "cnn3d"]),
        ((BAD, BAD, PERFECT), ["cnn3d"]),
        ((BAD, PERFECT, result(60, 60)), ["convlstm"]),
        # The second is beaten by the first, the third by neither: two are left, and they are not the first two.
        ((PERFECT, result(72, 72), result(75, 75)), ["cnn_lstm", "cnn3d"]),
    ],
)
def test_a_contender_is_unbeaten_unless_another_is_better(
    contenders: tuple[ModelResult, ...], unbeaten: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, THREE)
    assert unbeaten_models(compare_pairs(models(*contenders), SPLIT.labels)) == unbeaten


def test_five_contenders_are_ten_pairs_adjusted_by_holm(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, FIVE)
    compared = models(PERFECT, result(72, 72), result(60, 60), PERFECT, result(30, 30))
    pairs = compare_pairs(compared, SPLIT.labels)
    assert [(pair.first, pair.second) for pair in pairs] == list(combinations(FIVE, 2))
    # On so many clips one of the two is right more often; the smallest p-value is multiplied by ten, the next by nine.
    # Equal ones have the larger factor of the two, and the two perfect models keep p = 1.
    factors = {50: 10, 42: 8, 30: 7, 20: 6, 12: 4, 8: 3, 0: 1}
    discordant = [8, 20, 0, 50, 12, 8, 42, 20, 30, 50]
    expected = [min(1.0, factors[number] * 2 * 0.5**number) for number in discordant]
    assert [pair.found.p_value for pair in pairs] == pytest.approx(expected)
    better_ones = [pair.better for pair in pairs]
    assert better_ones == [
        "cnn_lstm", "cnn_lstm", None, "cnn_lstm", "convlstm", "gru", "convlstm", "gru", "cnn3d", "gru",
    ]  # fmt: skip
    assert unbeaten_models(pairs) == ["cnn_lstm", "gru"]


def test_the_better_of_two_is_the_only_unbeaten_one() -> None:
    assert unbeaten_models(compare_pairs(models(PERFECT, GOOD), SPLIT.labels)) == ["cnn_lstm", "convlstm"]
    assert unbeaten_models(compare_pairs(models(BAD, GOOD), SPLIT.labels)) == ["convlstm"]


def test_curves_hold_every_level_and_the_one_of_no_change() -> None:
    rows = accuracies_when_perturbed({"cnn_lstm": result(80, 60)}, frames=20)
    assert rows.to_dict("list") == {
        "model": ["cnn_lstm"] * 4,
        "replicate": [1, 1, 2, 2],
        "perturbation": ["speed"] * 4,
        "level": [1.0, 2.0, 1.0, 2.0],
        "accuracy": [1.0, 1.0, 0.75, 0.75],
    }


def test_the_files_of_a_comparison_name_every_model_and_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, THREE)
    compared = models(GOOD, PERFECT, BAD)
    timing = tmp_path / "timing.json"
    write_comparison(tmp_path, timing, compared, SPLIT, Path("models/convlstm/seed-0.keras"))
    summary = read_json(tmp_path / "summary.json")
    assert list(summary) == [*compared, "best", "difference"]
    assert summary["best"] == {"model": "convlstm", "accuracy": 1.0}
    assert {name: each["better"] for name, each in summary["difference"].items()} == {
        "cnn_lstm_vs_convlstm": "no difference shown",
        "cnn_lstm_vs_cnn3d": "cnn_lstm",
        "convlstm_vs_cnn3d": "convlstm",
    }
    assert [len(replicates) for replicates in read_json(tmp_path / "scores.json").values()] == [2] * 5
    predictions = pd.read_csv(tmp_path / "predictions.csv", index_col="clip")
    assert list(predictions) == ["label", *(f"{name} {number}" for name in compared for number in (1, 2))]
    assert predictions["cnn3d 2"].tolist() == [0] * 44 + [1] * 36
    perturbed = pd.read_csv(tmp_path / "perturbations.csv")
    assert perturbed["model"].unique().tolist() == list(compared)
    measured = json.loads(timing.read_text(encoding="utf-8"))
    assert list(measured) == [*compared, "champion", "environment"]
    assert measured["champion"] == "models/convlstm/seed-0.keras"
