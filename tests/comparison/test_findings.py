"""What a comparison finds: figures of models, sentences, the champion, and what perturbed clips show."""

from itertools import combinations

import numpy as np
import pytest

from motionbench.comparison.findings import NOTHING_SHOWS, compare_models
from motionbench.comparison.intervals import accuracy_interval
from motionbench.comparison.pairs import compare
from motionbench.core.paths import MODELS, ReplicateKey
from motionbench.models.registry import CONTROLS
from tests.comparison.made_up import (
    FIVE,
    GATE,
    GROUPS,
    THREE,
    compared,
    describe,
    models,
    predictions,
    register,
    result,
)
from tests.conftest import DRAWN_DATASET

PERFECT, GOOD, BAD = result(80, 80), result(79, 80), result(40, 44)


def test_a_models_figures_are_those_of_its_seeds_together() -> None:
    found = compared(models(result(80, 60), PERFECT)).models["cnn_lstm"]
    assert found.accuracy == 0.875
    assert found.right.sum(axis=1).tolist() == [80, 60]
    assert found.confusion.tolist() == [[[60, 0], [0, 20]], [[40, 20], [0, 20]]]
    assert found.interval == accuracy_interval(found.right)
    grouped = compared(models(result(80, 60), PERFECT), groups=GROUPS).models["cnn_lstm"]
    assert grouped.interval == accuracy_interval(found.right, GROUPS)
    assert found.calibration.log_loss == pytest.approx(-(140 * np.log(0.9) + 20 * np.log(0.1)) / 160)


def test_contenders_are_compared_with_each_other_and_the_best_with_the_controls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register(monkeypatch, FIVE)
    found = compared(models(BAD, PERFECT, GOOD, BAD, BAD, controls=(20, 79)))
    assert [pair[:2] for pair in found.pairs] == list(combinations(FIVE, 2))
    assert len(found.verdict) == 11
    assert found.verdict[0].startswith("convlstm is better than cnn_lstm: ")
    assert found.verdict[4].startswith("Between convlstm and cnn3d no difference is shown, nor that they are equal")
    controls = [name for name in CONTROLS if name in found.models]
    assert [pair[:2] for pair in found.controls] == [("convlstm", control) for control in controls]
    assert found.verdict[-1].startswith(
        "convlstm is not shown to be better than bag_of_frames, which cannot see motion"
    )


def test_each_contender_is_compared_with_the_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, THREE)
    found = compared(models(PERFECT, result(50, 50), result(20, 24), baseline=result(50, 50)))
    assert [pair[:2] for pair in found.baselines] == [(name, "frame_differences") for name in THREE]
    alone = compare(found.models["cnn_lstm"].right, found.models["frame_differences"].right, tests=3)
    assert found.baselines[0].networks.p_value == 3 * alone.networks.p_value, "adjusted for three pairs"
    *pairs, baseline, _ = found.verdict
    assert len(pairs) == 3
    assert baseline.startswith(
        "Compared with the baseline frame_differences, which sees grey differences of frames on a grid, in order: "
        "cnn_lstm is better (accuracy +0.375, 95 % interval "
    )
    assert "; convlstm is not shown to be better (accuracy +0.000, 95 % interval -0." in baseline
    assert "; cnn3d is worse (accuracy -0.350, 95 % interval -0." in baseline
    one_seed = compared(models(result(80), result(80), baseline=result(50))).verdict[-2]
    assert one_seed.endswith(". These are the trained networks: one seed says nothing of others.")
    assert compared(models(PERFECT, PERFECT)).baselines == []


@pytest.mark.parametrize(("right", "lead"), [(40, "is better"), (79, "is not shown to be better")])
def test_the_champions_sentence_says_whether_it_is_better_than_the_baseline(right: int, lead: str) -> None:
    gate = GATE.model_copy(update={"minimum_accuracy": 0.5})
    found = compared(models(PERFECT, PERFECT, baseline=result(right, right)), gate=gate)
    assert found.champion == MODELS / "cnn_lstm/seed-0.keras", "no margin over the baseline is needed"
    assert f"). It {lead} than the baseline frame_differences. The replicate is seed 0" in found.reason
    none = compared(models(BAD, BAD, baseline=PERFECT))
    assert "baseline" not in none.reason


def test_the_margin_decides_what_is_practically_equal() -> None:
    def verdict(margin: float) -> str:
        gate = GATE.model_copy(update={"margin": margin})
        return compared(models(PERFECT, GOOD), gate=gate).verdict[0]

    assert verdict(0.2).startswith("cnn_lstm and convlstm are practically equal: ")
    assert verdict(0.02).startswith("Between cnn_lstm and convlstm no difference is shown, nor that they are equal")


def test_of_drawn_clips_that_do_not_ask_for_motion_another_variant_is_named() -> None:
    hint = " To draw clips that need motion, set synthetic.variant: motion."
    assert compared(models(PERFECT, PERFECT)).verdict[-1].endswith(hint)
    assert hint not in compared(models(PERFECT, PERFECT, controls=(20, 20))).verdict[-1]


def test_a_replicate_that_has_learned_nothing_is_named() -> None:
    found = compared(models(PERFECT, PERFECT))
    assert not any("has learned nothing" in note for note in found.notes)
    made = models(PERFECT, PERFECT)
    table = predictions(made)
    labels, probabilities = np.repeat([0, 1], 40), np.full((2, 80, 2), 0.5, np.float32)
    unsure = {**table.unchanged.probabilities, "convlstm": probabilities}
    table = table._replace(unchanged=table.unchanged._replace(labels=labels, probabilities=unsure), perturbed=[])
    told = f"convlstm has learned nothing that shows (seed 0, seed 1): {NOTHING_SHOWS}."
    assert told in describe(table, made).notes
    # With folds: where it did not learn.
    probabilities[1] = np.eye(2)[labels]
    probabilities[0, labels == 1] = [0.1, 0.9]
    parts = np.tile([0, 1], 40)
    probabilities[0, parts == 1] = [0.5, 0.5]
    found = describe(table._replace(folds=parts), made)
    assert found.models["convlstm"].guessing == [ReplicateKey(0, 1)]
    assert f"convlstm has learned nothing that shows (fold 1 seed 0): {NOTHING_SHOWS}." in found.notes


def test_one_group_makes_no_guesser_of_a_perfect_model() -> None:
    made = models(PERFECT, PERFECT)
    table = predictions(made, groups=np.zeros(80, object))
    labels = np.repeat([0, 1], 40)
    right = np.where(np.eye(2)[labels] == 1, 0.51, 0.49).astype(np.float32)
    probabilities = {
        **table.unchanged.probabilities,
        "convlstm": np.stack([right, 1 - np.eye(2, dtype=np.float32)[labels]]),
    }
    table = table._replace(unchanged=table.unchanged._replace(labels=labels, probabilities=probabilities), perturbed=[])
    found = describe(table, made)
    assert found.models["convlstm"].guessing == []
    told = "convlstm is overconfident (seed 1): sure where it is wrong, so that its loss is above guessing."
    assert told in found.notes


def test_the_champion_is_the_most_accurate_that_passes_the_gate() -> None:
    better_but_slow, fast = result(80, 80, latency=200.0), result(79, 78, latency=5.0)
    found = compared(models(better_but_slow, fast), gate=GATE.model_copy(update={"minimum_accuracy": 0.5}))
    assert found.champion == MODELS / "convlstm/seed-0.keras"
    assert found.reason.startswith("Champion: convlstm, the only one to pass the gate")
    assert found.reason.endswith(" The replicate is seed 0, which has the lowest validation loss.")
    none = compared(models(BAD, BAD))
    assert none.champion is None
    assert none.reason.startswith("No model becomes champion, since none passes the gate (cnn_lstm: accuracy may be ")


def test_no_difference_shown_makes_no_faster_model_the_champion() -> None:
    slow_and_better, fast = result(80, 80, 79, latency=50.0), result(79, 77, 78, latency=5.0)
    found = compared(models(slow_and_better, fast), gate=GATE.model_copy(update={"minimum_accuracy": 0.5}))
    assert not found.pairs[0].better
    assert found.champion == MODELS / "cnn_lstm/seed-0.keras"


def test_with_folds_the_replicate_is_said_to_be_that_of_a_fold() -> None:
    made, source = models(PERFECT, PERFECT), DRAWN_DATASET.model_copy(update={"folds": 3})
    before = describe(predictions(made), made)
    trained = {
        name: model.training._replace(best_replicate=ReplicateKey(1, 0)) for name, model in before.models.items()
    }
    costs = {name: model.cost for name, model in before.models.items()}
    gate = GATE.model_copy(update={"minimum_accuracy": 0.5})
    found = compare_models(before.predictions, trained, costs, dict.fromkeys(before.contenders), source, gate)
    assert found.champion == MODELS / "cnn_lstm/fold-0-seed-1.keras"
    assert found.reason.endswith(
        "The replicate is fold 0 seed 1, which has the lowest validation loss of fold 0: those of other folds are of "
        "other clips."
    )


def test_perturbed_clips_are_compared_with_the_same_clips_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, THREE)
    speeds = {0.5: (80, 80), 2.0: (40, 44)}
    made = models(result(80, 78, at_speed=speeds), result(80, 78, at_speed=speeds), result(80, 70, at_speed=speeds))
    table = predictions(made, groups=GROUPS)
    few = np.arange(60, 80)
    found = describe(table._replace(perturbed=[each.only(few) for each in table.perturbed]), made).perturbed
    assert [each.condition[:2] for each in found] == [("unchanged", 0.0), ("speed", 0.5), ("speed", 2.0)]
    assert all(each.condition.clips.tolist() == few.tolist() for each in found)
    assert [each.condition.right("cnn_lstm").mean() for each in found] == [38 / 40, 1.0, 0.0]
    assert all(len(each.found) == 3 for each in found)
    first, third = (found[0].condition.right(name) for name in ("cnn_lstm", "cnn3d"))
    assert found[0].found[1] == (compare(first, third, GROUPS[few]), None), "three groups are too few for a p-value"
    assert compared(models(result(80, at_speed={}), result(80, at_speed={}))).perturbed == []


def test_a_difference_on_perturbed_clips_needs_both_questions() -> None:
    found = compared(models(result(80, 80, at_speed={2.0: (80, 80)}), result(80, 80, at_speed={2.0: (80, 40)})))
    _, fast = found.perturbed
    alone = compare(fast.condition.right("cnn_lstm"), fast.condition.right("convlstm"))
    assert alone.recipes is not None
    assert fast.found == [(alone, 2 * max(alone.networks.p_value, alone.recipes.p_value))]
    assert alone.networks.p_value < 1e-9
    assert alone.recipes.p_value > 0.1


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("clips", [1, 2, 5])
@pytest.mark.parametrize("groups", [None, 1, 2])
@pytest.mark.parametrize("right", [0, 1])
def test_the_smallest_comparisons_end_in_sentences(seeds: int, clips: int, groups: int | None, right: int) -> None:
    each = result(*[clips * right] * seeds)
    names = None if groups is None else np.array([f"g{number % groups}" for number in range(clips)], object)
    found = compared(models(each, each, controls=(0, 0)), clips=clips, groups=names)
    for sentence in [*found.verdict, *found.notes, found.reason]:
        assert sentence.endswith(".")
        assert "nan" not in sentence
    assert any("One seed shows nothing of how much seeds differ" in note for note in found.notes) == (seeds == 1)
