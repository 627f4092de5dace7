import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from motionbench.core.files import read_json
from motionbench.evaluation.comparison import (
    accuracies_when_perturbed,
    compare_pairs,
    group_accuracies,
    missed_clips,
    unbeaten_models,
    write_comparison,
)
from motionbench.evaluation.results import ModelResult
from tests.evaluation.made_up import CLASS_NAMES, CLIPS, FIVE, GROUPED, HOSTILE, THREE, models, register, result

PERFECT, GOOD, BAD = result(80, 80), result(79, 80), result(40, 44)


def better(compared: dict[str, ModelResult]) -> dict[tuple[str, str], str | None]:
    return {(pair.first, pair.second): pair.better for pair in compare_pairs(compared, CLIPS)}


def unbeaten(compared: dict[str, ModelResult]) -> list[str]:
    return unbeaten_models(compared, compare_pairs(compared, CLIPS))


def test_two_contenders_are_one_pair_whose_p_value_stays() -> None:
    [pair] = compare_pairs(models(PERFECT, BAD), CLIPS)
    assert (pair.first, pair.second, pair.better) == ("cnn_lstm", "convlstm", "cnn_lstm")
    assert pair.found.difference == pytest.approx(38 / 80)
    # The second is right less often on 40 clips: the exact sign test.
    assert pair.found.p_value == pytest.approx(2 * 0.5**40)
    assert pair.found.detectable == 6 / 80
    assert better(models(BAD, PERFECT)) == {("cnn_lstm", "convlstm"): "convlstm"}
    assert better(models(GOOD, PERFECT)) == {("cnn_lstm", "convlstm"): None}


def test_three_contenders_are_three_pairs_adjusted_by_holm(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, THREE)
    pairs = compare_pairs(models(PERFECT, result(70, 70), BAD), CLIPS)
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
    ("contenders", "expected"),
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
    contenders: tuple[ModelResult, ...], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, THREE)
    assert unbeaten(models(*contenders)) == expected


def test_five_contenders_are_ten_pairs_adjusted_by_holm(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, FIVE)
    compared = models(PERFECT, result(72, 72), result(60, 60), PERFECT, result(30, 30))
    pairs = compare_pairs(compared, CLIPS)
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
    assert unbeaten_models(compared, pairs) == ["cnn_lstm", "gru"]


def test_the_better_of_two_is_the_only_unbeaten_one() -> None:
    assert unbeaten(models(PERFECT, GOOD)) == ["cnn_lstm", "convlstm"]
    assert unbeaten(models(BAD, GOOD)) == ["convlstm"]


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
    write_comparison(tmp_path, timing, compared, CLIPS, Path("models/convlstm/seed-0.keras"))
    summary = read_json(tmp_path / "summary.json")
    assert list(summary) == [*compared, "best", "difference"]
    assert summary["best"] == {"model": "convlstm", "accuracy": 1.0}
    assert {name: each["better"] for name, each in summary["difference"].items()} == {
        "cnn_lstm_vs_convlstm": "no difference shown",
        "cnn_lstm_vs_cnn3d": "cnn_lstm",
        "convlstm_vs_cnn3d": "convlstm",
    }
    assert [len(replicates) for replicates in read_json(tmp_path / "scores.json").values()] == [2] * 5
    perturbed = pd.read_csv(tmp_path / "perturbations.csv")
    assert perturbed["model"].unique().tolist() == list(compared)
    measured = json.loads(timing.read_text(encoding="utf-8"))
    assert list(measured) == ["champion", "environment"]
    assert measured["champion"] == "models/convlstm/seed-0.keras"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "perturbations.csv", "scores.json", "summary.json", "timing.json",
    ]  # fmt: skip
    assert list(summary["cnn_lstm"]) == ["accuracy", "f1"]


def test_contenders_are_compared_by_groups() -> None:
    # The second is wrong on ten clips: all eight of one group, and two of another.
    compared = models(PERFECT, result(70, 70))
    [by_clips], [by_groups] = compare_pairs(compared, CLIPS), compare_pairs(compared, GROUPED)
    assert (by_clips.better, by_groups.better) == ("cnn_lstm", None)
    assert by_groups.found.p_value == 0.5
    assert by_groups.found.difference == by_clips.found.difference
    # In six groups it is wrong.
    assert compare_pairs(models(PERFECT, result(39, 39)), GROUPED)[0].better == "cnn_lstm"


def test_each_group_has_the_accuracy_of_each_model() -> None:
    assert GROUPED.groups is not None
    table = group_accuracies(models(PERFECT, result(70, 68)), GROUPED.labels, GROUPED.groups)
    assert list(table) == ["group", "clips", "cnn_lstm", "convlstm", "single_frame", "bag_of_frames"]
    assert table["group"].tolist() == [f"person {number}" for number in range(10)]
    assert table["clips"].tolist() == [8] * 10
    assert table["cnn_lstm"].tolist() == [1.0] * 10
    assert table["convlstm"].tolist() == [1.0] * 8 + [5 / 8, 0.0]


def test_missed_clips_are_those_that_most_replicates_of_all_contenders_get_wrong() -> None:
    names = ("a", "b", "c")
    clips = CLIPS._replace(labels=np.array([0, 0, 1, 2]), class_names=names)
    compared = models(*[result(4, 4, 4, 4, 4, clips=4, held_out=clips) for _ in range(2)])
    said = {
        # Of five replicates of the first: wrong twice; three times, though right as often as anything; always; always.
        "cnn_lstm": [[1, 0, 0, 0], [1, 0, 0, 1], [0, 2, 0, 0], [0, 1, 2, 0], [0, 2, 0, 0]],
        "convlstm": [[1, 2, 2, 2], [1, 2, 2, 2], [1, 2, 0, 2], [1, 2, 1, 2], [1, 2, 2, 2]],
    }
    for name, predicted in said.items():
        for replicate, answers in zip(compared[name]["replicates"], predicted, strict=True):
            replicate["predicted"] = answers
    missed = missed_clips(compared, clips)
    assert missed.to_dict("records") == [
        {"clip": 1, "class": "a", "cnn_lstm": "c", "convlstm": "c"},
        {"clip": 2, "class": "b", "cnn_lstm": "a", "convlstm": "c"},
    ]
    named = missed_clips(compared, clips._replace(files=["w.mp4", "x.mp4", "y.mp4", "z.mp4"]))
    assert named["clip"].tolist() == ["x.mp4", "y.mp4"]
    assert missed_clips(models(PERFECT, BAD), CLIPS).empty


def test_the_files_of_a_comparison_name_groups_and_missed_clips(tmp_path: Path) -> None:
    compared = models(GOOD, result(78, 78))
    compared["convlstm"]["replicates"][0]["classes"]["$x_{"]["recall"] = 0.5
    write_comparison(tmp_path, tmp_path / "timing.json", compared, GROUPED, None)
    summary = read_json(tmp_path / "summary.json")
    assert list(summary["cnn_lstm"]) == ["accuracy", "f1", "balanced_accuracy"]
    assert summary["convlstm"]["balanced_accuracy"] == 0.5
    groups = pd.read_csv(tmp_path / "groups.csv")
    assert groups["convlstm"].tolist() == [1.0] * 9 + [0.75]
    assert pd.read_csv(tmp_path / "missed.csv").empty
    write_comparison(tmp_path, tmp_path / "timing.json", models(BAD, BAD), GROUPED, None)
    missed = pd.read_csv(tmp_path / "missed.csv")
    assert missed["clip"].tolist() == [f"wave/{HOSTILE}{number}.mp4" for number in range(44, 80)]
    assert missed.drop(columns="clip").iloc[0].tolist() == [CLASS_NAMES[0], CLASS_NAMES[1], CLASS_NAMES[1]]


def test_files_without_groups_have_no_table_of_groups(tmp_path: Path) -> None:
    write_comparison(tmp_path, tmp_path / "timing.json", models(GOOD, GOOD), GROUPED._replace(groups=None), None)
    assert (tmp_path / "missed.csv").exists()
    assert not (tmp_path / "groups.csv").exists()


def test_with_too_few_groups_what_is_detectable_is_null(tmp_path: Path) -> None:
    few = GROUPED._replace(groups=np.repeat(["a", "b", "c", "d", "e"], 16))
    write_comparison(tmp_path, tmp_path / "timing.json", models(PERFECT, BAD), few, None)
    difference = read_json(tmp_path / "summary.json")["difference"]["cnn_lstm_vs_convlstm"]
    assert (difference["better"], difference["detectable"]) == ("no difference shown", None)
