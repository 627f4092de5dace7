import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, precision_recall_fscore_support

from motionbench.comparison.intervals import accuracy_interval
from motionbench.comparison.pairs import Estimate
from motionbench.comparison.tables import (
    accuracies_when_perturbed,
    balanced_accuracy,
    class_scores,
    conclusions,
    macro_f1,
    missed_clips,
    replicate_accuracies,
    write_comparison,
)
from motionbench.core.files import read_json
from motionbench.core.paths import MODELS, ReplicateKey, replicate_path
from motionbench.evaluation.predictions import Condition
from tests.comparison.made_up import (
    CLASS_NAMES,
    FILES,
    GROUPS,
    HOSTILE,
    THREE,
    compared,
    describe,
    models,
    predictions,
    register,
    result,
)

PERFECT, GOOD, BAD = result(80, 80), result(79, 80), result(40, 44)


def test_scores_of_classes_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    labels, predicted = random.integers(0, 4, 50), random.integers(0, 3, 50)  # class 3 is never named
    confusion = np.zeros((5, 5), np.int64)  # there is no clip of class 4
    np.add.at(confusion, (labels, predicted), 1)
    expected = precision_recall_fscore_support(labels, predicted, labels=np.arange(5), zero_division=0)[:3]
    assert pytest.approx(np.array(expected)) == class_scores(confusion).to_numpy().T
    assert macro_f1(confusion[np.newaxis]) == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert macro_f1(np.diag([5, 0])[np.newaxis]) == 1, "seen: 0.5, of a class without clips"
    assert balanced_accuracy(confusion[np.newaxis]) == pytest.approx(balanced_accuracy_score(labels, predicted))


def test_curves_start_at_the_same_clips_as_they_are() -> None:
    # Of clips 60 to 79 the first seed has all right, the second none; of all clips it has 60 of 80.
    made = models(result(80, 60, at_speed={2.0: (70, 0)}), result(80, 80))
    table = predictions(made)
    few = np.arange(60, 80)
    found = describe(table._replace(perturbed=[each.only(few) for each in table.perturbed]), made)
    rows = accuracies_when_perturbed(found)
    assert rows[rows["model"] == "cnn_lstm"].to_dict("list") == {
        "model": ["cnn_lstm"] * 4,
        "seed": [0, 1, 0, 1],
        "perturbation": ["speed"] * 4,
        "level": [1.0, 1.0, 2.0, 2.0],
        "accuracy": [1.0, 0.0, 0.5, 0.0],
    }


def test_the_files_of_a_comparison_name_every_model_and_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, THREE)
    made = models(GOOD, PERFECT, result(20, 22), baseline=result(20, 22))
    found = compared(made)
    timing = tmp_path / "timing.json"
    write_comparison(tmp_path, timing, found)
    summary = read_json(tmp_path / "summary.json")
    assert list(summary) == [*made, "best", "difference", "conclusions"]
    assert summary["best"] == {"model": "convlstm", "accuracy": 1.0}
    differences = summary["difference"]
    assert {name: (each["verdict"], each["better"]) for name, each in differences.items()} == {
        "cnn_lstm_vs_convlstm": ("not shown", "none"),
        "cnn_lstm_vs_cnn3d": ("better", "cnn_lstm"),
        "convlstm_vs_cnn3d": ("better", "convlstm"),
        "cnn_lstm_vs_frame_differences": ("better", "cnn_lstm"),
        "convlstm_vs_frame_differences": ("better", "convlstm"),
        "cnn3d_vs_frame_differences": ("not shown", "none"),
    }
    again = found.pairs[1].recipes
    assert again is not None
    assert differences["cnn_lstm_vs_cnn3d"]["trained_again"] == {
        "low": again.interval[0], "high": again.interval[1], "p_value": again.p_value,
    }  # fmt: skip # what belongs together on one line
    low, high = found.models["cnn_lstm"].interval
    assert list(summary["cnn_lstm"].items())[:3] == [("accuracy", 159 / 160), ("low", low), ("high", high)]
    assert [each["correct"] for each in read_json(tmp_path / "scores.json")["cnn3d"]] == [20, 22]
    assert (tmp_path / "verdict.txt").read_text(encoding="utf-8").splitlines() == found.verdict
    perturbed = pd.read_csv(tmp_path / "perturbations.csv")
    assert perturbed["model"].unique().tolist() == list(made)
    measured = json.loads(timing.read_text(encoding="utf-8"))
    assert measured["champion"] == "models/convlstm/seed-0.keras"
    assert measured["reason"] == found.reason
    assert measured["challenger"] == "models/cnn_lstm/seed-0.keras"
    assert measured["challenger_fault"] is None
    assert measured["latency_milliseconds"] == dict.fromkeys(made, 1.0)
    replicates = pd.read_csv(tmp_path / "replicates.csv")
    assert list(replicates) == ["model", "seed", "clips", "accuracy", "low", "high", "md5"]
    last = replicates.iloc[5]
    assert last[["model", "seed", "clips", "accuracy", "md5"]].tolist() == ["cnn3d", 1, 80, 22 / 80, "cnn3d 1"]
    assert (last["low"], last["high"]) == pytest.approx(accuracy_interval(found.models["cnn3d"].right[1:]))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "perturbations.csv", "replicates.csv", "scores.json", "summary.json", "timing.json", "verdict.txt",
    ]  # fmt: skip # what belongs together on one line


def test_with_folds_a_replicate_is_judged_on_the_clips_of_its_fold() -> None:
    made = models(result(70), result(80))
    folds = np.arange(80) // 40
    keys = [(name, ReplicateKey(0, fold)) for fold in (0, 1) for name in made]
    md5s = {replicate_path(MODELS / name, key).as_posix(): f"{name} {key}" for name, key in keys}
    found = describe(predictions(made), made)
    table = replicate_accuracies(found._replace(predictions=found.predictions._replace(folds=folds, md5s=md5s)))
    assert table[["fold", "clips", "accuracy"]].to_numpy().tolist()[::4] == [[0, 40, 1.0], [1, 40, 0.75]]
    assert table["md5"].tolist() == [f"{name} {key}" for name, key in keys]


def test_a_reversed_verdict_of_one_seed_is_another_conclusion() -> None:
    def said(*correct: int) -> dict[str, str]:
        made = models(*(result(each) for each in correct), controls=(80, 30), baseline=result(79))
        return conclusions(compared(made))

    assert said(80, 40) == {
        "cnn_lstm_vs_convlstm, better recipe": "none",
        "cnn_lstm_vs_convlstm, better networks": "cnn_lstm",
        "cnn_lstm_vs_convlstm, practically equal": "not shown",
        "cnn_lstm, better than baseline frame_differences": "not shown",
        "convlstm, better than baseline frame_differences": "worse",
        "control single_frame": "not left behind",
        "control bag_of_frames": "left behind",
    }
    assert said(40, 80) == said(80, 40) | {
        "cnn_lstm_vs_convlstm, better networks": "convlstm",
        "cnn_lstm, better than baseline frame_differences": "worse",
        "convlstm, better than baseline frame_differences": "not shown",
    }
    found = compared(models(GOOD, GOOD, baseline=GOOD))
    equal = found._replace(baselines=[found.baselines[0]._replace(recipes=Estimate((-0.01, 0.01), 1.0))])
    assert conclusions(equal)["cnn_lstm, better than baseline frame_differences"] == "practically equal"


def test_what_is_written_twice_is_the_same(tmp_path: Path) -> None:
    texts = []
    for latency in (1.0, 2.0):
        write_comparison(tmp_path, tmp_path / "timing.json", compared(models(GOOD, result(70, 71, latency=latency))))
        texts.append({path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name != "timing.json"})
    assert texts[0] == texts[1]


def test_the_scores_of_many_classes_have_no_zeros(tmp_path: Path) -> None:
    made = models(result(80), result(80), controls=(80, 80))
    names = [f"class {number}" for number in range(100)]
    sizes = []
    for classes in (20, 21, 100):
        probabilities = dict.fromkeys(made, np.eye(classes, dtype=np.float32)[np.newaxis, [1, 2, 2]])
        unchanged = Condition("unchanged", 0.0, np.arange(3), np.array([0, 1, 2]), probabilities)
        table = predictions(made, clips=3)
        table = table._replace(class_names=tuple(names[:classes]), unchanged=unchanged, perturbed=[])
        write_comparison(tmp_path, tmp_path / "timing.json", describe(table, made))
        sizes.append((tmp_path / "scores.json").stat().st_size / classes)
        [scores] = read_json(tmp_path / "scores.json")["cnn_lstm"]
        if classes == 20:
            assert np.sum(scores["confusion"], axis=0).tolist() == [0, 1, 2] + [0] * 17
        else:
            found = {"class 0": {"class 1": 1}, "class 1": {"class 2": 1}, "class 2": {"class 2": 1}}
            assert scores["confusion"] == {name: {} for name in names[:classes]} | found
    assert max(sizes[1:]) < sizes[0], "grows as the number of classes, not as its square"


def test_with_one_seed_and_too_few_groups_what_is_not_known_is_null(tmp_path: Path) -> None:
    few = np.array([f"person {number // 16}" for number in range(80)], object)
    write_comparison(tmp_path, tmp_path / "timing.json", compared(models(result(80), result(40)), groups=few))
    difference = read_json(tmp_path / "summary.json")["difference"]["cnn_lstm_vs_convlstm"]
    assert difference["verdict"] == "not shown"
    assert [difference[key] for key in ("trained_again", "probability", "findable")] == [None, None, None]
    assert difference["these_networks"]["p_value"] is None


def test_missed_clips_are_those_that_most_seeds_of_all_contenders_get_wrong() -> None:
    said = {
        # Of five seeds of the first: wrong twice; three times, though right as often as anything; always; always.
        "cnn_lstm": [[1, 0, 0, 0], [1, 0, 0, 1], [0, 2, 0, 0], [0, 1, 2, 0], [0, 2, 0, 0]],
        "convlstm": [[1, 2, 2, 2], [1, 2, 2, 2], [1, 2, 0, 2], [1, 2, 1, 2], [1, 2, 2, 2]],
    }
    made = models(*[result(4, 4, 4, 4, 4)] * 2, controls=(4, 4))
    probabilities = {name: np.eye(3, dtype=np.float32)[said.get(name, said["cnn_lstm"])] for name in made}
    unchanged = Condition("unchanged", 0.0, np.arange(4), np.array([0, 0, 1, 2]), probabilities)
    table = predictions(made, clips=4)._replace(class_names=("a", "b", "c"), unchanged=unchanged, perturbed=[])
    assert missed_clips(describe(table, made)).to_dict("records") == [
        {"clip": 1, "class": "a", "cnn_lstm": "c", "convlstm": "c"},
        {"clip": 2, "class": "b", "cnn_lstm": "a", "convlstm": "c"},
    ]
    named = table._replace(files=np.array(["w.mp4", "x.mp4", "y.mp4", "z.mp4"], object))
    assert missed_clips(describe(named, made))["clip"].tolist() == ["x.mp4", "y.mp4"]
    assert missed_clips(compared(models(PERFECT, BAD))).empty


def test_the_files_of_a_comparison_name_groups_and_missed_clips(tmp_path: Path) -> None:
    write_comparison(tmp_path, tmp_path / "t.json", compared(models(GOOD, GOOD), files=FILES))
    assert not (tmp_path / "groups.csv").exists(), "of clips without groups"
    write_comparison(tmp_path, tmp_path / "t.json", compared(models(GOOD, result(78, 78)), files=FILES, groups=GROUPS))
    groups = pd.read_csv(tmp_path / "groups.csv")
    assert groups["convlstm"].tolist() == [1.0] * 9 + [0.75]
    assert pd.read_csv(tmp_path / "missed.csv").empty
    assert read_json(tmp_path / "audit.json") == []
    write_comparison(tmp_path, tmp_path / "t.json", compared(models(BAD, BAD), files=FILES, groups=GROUPS))
    missed = pd.read_csv(tmp_path / "missed.csv")
    assert missed["clip"].tolist() == [f"wave/{HOSTILE}{number}.mp4" for number in range(44, 80)]
    assert missed.drop(columns="clip").iloc[0].tolist() == [CLASS_NAMES[0], CLASS_NAMES[1], CLASS_NAMES[1]]
