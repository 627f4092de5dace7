import numpy as np
import pytest
from numpy.typing import NDArray

from motionbench.evaluation.statistics import (
    adjust_false_discoveries,
    adjust_holm,
    compare,
    mcnemar,
    proportion_interval,
)


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


def test_false_discoveries_agree_with_their_authors_example() -> None:
    # Section 4.1 of Benjamini and Hochberg, "Controlling the false discovery rate" (1995): of 15 tests at 5 %, four are
    # shown, one more than by Bonferroni's method.
    p_values = [
        0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590,
        1.0,
    ]  # fmt: skip
    adjusted = adjust_false_discoveries(p_values)
    assert sum(p_value < 0.05 for p_value in adjusted) == 4
    assert adjusted[3:5] == pytest.approx([0.0095 * 15 / 4, 0.0201 * 15 / 5])
    assert adjust_false_discoveries([]) == []


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([], []),
        ([0.04], [0.04]),
        # The smallest times 3, the next times 2, the largest as it is; in the order given.
        ([0.03, 0.01, 0.9], [0.06, 0.03, 0.9]),
        # Never below a smaller p-value's: 2 x 0.02 is below 3 x 0.015, and 1 x 0.03 below both.
        ([0.03, 0.015, 0.02], [0.045, 0.045, 0.045]),
        # At most 1.
        ([0.6, 0.5], [1.0, 1.0]),
        # Equal ones are adjusted alike.
        ([0.02, 0.02, 0.001, 0.02], [0.06, 0.06, 0.004, 0.06]),
    ],
)
def test_holms_adjustment_is_that_worked_out_by_hand(p_values: list[float], adjusted: list[float]) -> None:
    assert adjust_holm(p_values) == pytest.approx(adjusted)


def test_with_one_replicate_each_pairs_of_answers_are_compared() -> None:
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


def test_perfect_models_differ_by_nothing() -> None:
    perfect = np.ones((3, 80), dtype=bool)
    found = compare(perfect, perfect)
    assert (found.difference, found.p_value) == (0.0, 1.0)
    assert found.interval == pytest.approx((0.0, 0.0))
    assert not found.significant
    # Five clips on one side give p = 0.0625, six 0.03125.
    assert found.detectable == 6 / 80
    five, six = perfect.copy(), perfect.copy()
    five[:, :5], six[:, :6] = False, False
    assert not compare(perfect, five).significant
    assert compare(perfect, six).significant


def test_with_more_tests_only_larger_differences_are_detectable() -> None:
    perfect = np.ones((3, 80), dtype=bool)
    # 3 x 2 x 0.5^6 is above 0.05, and 3 x 2 x 0.5^7 is not; the p-value is not yet adjusted.
    assert compare(perfect, perfect, tests=3).detectable == 7 / 80
    six = perfect.copy()
    six[:, :6] = False
    assert compare(perfect, six, tests=3).p_value == mcnemar(6, 0)


def test_models_alike_rarely_seem_to_differ() -> None:
    random = np.random.default_rng(0)
    shown = sum(compare(answers(0.8, 3, 80, random), answers(0.8, 3, 80, random)).significant for _ in range(100))
    assert shown <= 5


def test_a_planted_difference_is_found() -> None:
    random = np.random.default_rng(1)
    shown = [compare(answers(0.95, 3, 80, random), answers(0.6, 3, 80, random)) for _ in range(20)]
    assert all(found.significant and found.difference > 0 for found in shown)


def test_one_bad_replicate_is_no_difference_of_models() -> None:
    # Two of three replicates are perfect and one is at chance: over other seeds that could as well be the other model.
    ours, theirs = np.ones((3, 80), dtype=bool), np.ones((3, 80), dtype=bool)
    theirs[0, 20:] = False
    found = compare(ours, theirs)
    assert found.p_value < 1e-9
    assert found.interval[0] <= 0 <= found.interval[1]
    assert not found.significant
