import numpy as np
import pytest
from numpy.typing import NDArray

from motionbench.evaluation.statistics import adjust, compare, mcnemar, proportion_interval


def answers(accuracy: float, replicates: int, clips: int, random: np.random.Generator) -> NDArray[np.bool_]:
    """Answers of a model whose replicates share what is hard: each clip has a chance of its own to be right."""
    spread = 5.0
    chances = random.beta(spread * accuracy, spread * (1 - accuracy), size=clips)
    return random.random((replicates, clips)) < chances


def test_the_interval_of_a_proportion_is_clopper_and_pearsons() -> None:
    # With no failure in n trials the lower end is (alpha / 2) ** (1 / n), by their definition.
    assert proportion_interval(80, 80) == pytest.approx((0.025 ** (1 / 80), 1.0))
    # 10 of 20, a common worked example: 27.20 % to 72.80 %.
    assert proportion_interval(10, 20) == pytest.approx((0.2720, 0.7280), abs=5e-5)


def test_mcnemars_test_agrees_with_a_published_example() -> None:
    # Airway hyper-responsiveness before and after a transplantation, 1 and 7 discordant pairs: exact conditional
    # p = 0.070 in Fagerland, Lydersen and Laake, "The McNemar test for binary matched-pairs data" (2013).
    assert mcnemar(1, 7) == pytest.approx(0.070, abs=5e-4)
    assert mcnemar(7, 1) == mcnemar(1, 7)
    assert mcnemar(0, 0) == 1.0


def test_the_adjustment_agrees_with_the_example_of_its_authors() -> None:
    # Section 4.1 of Benjamini and Hochberg, "Controlling the false discovery rate" (1995): of 15 tests at 5 %, four are
    # shown, one more than by Bonferroni's method.
    p_values = [
        0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590,
        1.0,
    ]  # fmt: skip
    adjusted = adjust(p_values)
    assert sum(p_value < 0.05 for p_value in adjusted) == 4
    assert adjusted[3:5] == pytest.approx([0.0095 * 15 / 4, 0.0201 * 15 / 5])
    assert adjust([]) == []


def test_with_one_replicate_each_the_comparison_is_of_pairs_of_answers() -> None:
    ours, theirs = np.ones((1, 21), dtype=bool), np.ones((1, 21), dtype=bool)
    theirs[0, :7] = False
    ours[0, 20] = False
    found = compare(ours, theirs)
    assert found.difference == pytest.approx(6 / 21)
    assert found.p_value == mcnemar(7, 1)
    # Of one replicate there is nothing to resample: what is left is the paired bootstrap over clips.
    differences = ours[0].astype(float) - theirs[0]
    half = 1.96 * differences.std() / np.sqrt(21)
    assert found.interval == pytest.approx((6 / 21 - half, 6 / 21 + half), abs=0.05)


def test_perfect_models_differ_by_nothing_and_say_what_could_have_been_shown() -> None:
    perfect = np.ones((3, 80), dtype=bool)
    found = compare(perfect, perfect)
    assert (found.difference, found.p_value) == (0.0, 1.0)
    assert found.interval == pytest.approx((0.0, 0.0))
    assert not found.shown
    # Five clips on one side give p = 0.0625, six 0.03125.
    assert found.detectable == 6 / 80
    five, six = perfect.copy(), perfect.copy()
    five[:, :5], six[:, :6] = False, False
    assert not compare(perfect, five).shown
    assert compare(perfect, six).shown


def test_models_alike_are_told_apart_in_at_most_five_of_a_hundred_resamplings() -> None:
    random = np.random.default_rng(0)
    shown = sum(compare(answers(0.8, 3, 80, random), answers(0.8, 3, 80, random)).shown for _ in range(100))
    assert shown <= 5


def test_a_planted_difference_is_found() -> None:
    random = np.random.default_rng(1)
    shown = [compare(answers(0.95, 3, 80, random), answers(0.6, 3, 80, random)) for _ in range(20)]
    assert all(found.shown and found.difference > 0 for found in shown)


def test_a_difference_of_one_replicate_alone_is_not_one_of_the_models() -> None:
    # Two of three replicates are perfect and one is at chance: over other seeds that could as well be the other model.
    ours, theirs = np.ones((3, 80), dtype=bool), np.ones((3, 80), dtype=bool)
    theirs[0, 20:] = False
    found = compare(ours, theirs)
    assert found.p_value < 1e-9
    assert found.interval[0] <= 0 <= found.interval[1]
    assert not found.shown
