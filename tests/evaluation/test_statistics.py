from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import permutation_test

from motionbench.evaluation.statistics import (
    accuracy_interval,
    adjust_false_discoveries,
    adjust_holm,
    compare,
    mcnemar,
    paired_permutation,
    proportion_interval,
    units_needed,
)


def answers(accuracy: float, replicates: int, clips: int, random: np.random.Generator) -> NDArray[np.bool_]:
    """Answers of a model whose replicates share what is hard: each clip has a chance of its own to be right."""
    spread = 5.0
    chances = random.beta(spread * accuracy, spread * (1 - accuracy), size=clips)
    return random.random((replicates, clips)) < chances


def clustered_answers(accuracy: float, groups: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.bool_]:
    """Answers of a model with three replicates that each group suits more or less: it has a chance of its own."""
    spread = 3.0
    chances = random.beta(spread * accuracy, spread * (1 - accuracy), size=groups.max() + 1)
    right: NDArray[np.bool_] = random.random((3, len(groups))) < chances[groups]
    return right


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_models_alike_on_clips_in_groups_rarely_seem_to_differ() -> None:
    random, groups = np.random.default_rng(0), np.arange(12).repeat(12)
    shown_of_groups = shown_of_clips = 0
    for _ in range(100):
        ours, theirs = (clustered_answers(0.75, groups, random) for _ in range(2))
        shown_of_groups += compare(ours, theirs, groups=groups).significant
        shown_of_clips += compare(ours, theirs).significant
    print(f"of 100 data sets without a difference, shown: {shown_of_groups} by groups, {shown_of_clips} by clips")
    assert shown_of_groups <= 5
    assert shown_of_clips > 15


def test_a_difference_planted_in_all_groups_is_found() -> None:
    random, groups = np.random.default_rng(1), np.arange(12).repeat(12)
    for _ in range(10):
        ours, theirs = (clustered_answers(accuracy, groups, random) for accuracy in (0.95, 0.5))
        found = compare(ours, theirs, groups=groups)
        assert found.significant
        assert found.difference > 0


def test_intervals_of_clips_in_groups_hold_the_truth_about_as_often_as_they_say() -> None:
    random, groups = np.random.default_rng(0), np.arange(20).repeat(15)
    by_groups = by_clips = difference = 0
    for _ in range(100):
        ours, theirs = (clustered_answers(accuracy, groups, random)[:1] for accuracy in (0.75, 0.6))
        low, high = accuracy_interval(ours, groups)
        by_groups += low <= 0.75 <= high
        low, high = accuracy_interval(ours)
        by_clips += low <= 0.75 <= high
        low, high = compare(ours, theirs, groups=groups).interval
        difference += low <= 0.15 <= high
    print(f"of 100 intervals, with the true accuracy: {by_groups} over groups, {by_clips} over clips")
    assert by_groups >= 90
    assert difference >= 90
    assert by_clips < 75


whole_numbers = st.lists(st.integers(-9, 9), min_size=1, max_size=8).map(np.array)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(whole_numbers)
def test_the_paired_permutation_counts_all_ways_to_swap(differences: NDArray[np.int64]) -> None:
    totals = [abs(sum(signs * differences)) for signs in product((-1, 1), repeat=len(differences))]
    expected = np.mean([total >= abs(differences.sum()) for total in totals])
    assert paired_permutation(differences) == pytest.approx(expected, abs=1e-12)


def test_the_paired_permutation_is_that_of_scipy() -> None:
    ours, theirs = np.array([12, 9, 11, 12, 7, 10, 6, 8]), np.array([9, 9, 12, 5, 4, 9, 5, 2])
    expected = permutation_test(
        (ours, theirs), lambda x, y: x.sum() - y.sum(), permutation_type="samples", n_resamples=np.inf
    )
    assert 0.01 < expected.pvalue < 0.1
    assert paired_permutation(ours - theirs) == pytest.approx(expected.pvalue, abs=1e-12)


def test_the_paired_permutation_of_equal_differences_is_mcnemars_test() -> None:
    # Also of more groups than have ways to swap that could be counted one by one.
    assert paired_permutation(np.repeat([4, -4, 0], [70, 40, 9])) == pytest.approx(mcnemar(70, 40), rel=1e-9)


def test_the_paired_permutation_agrees_with_published_tests_of_clustered_pairs() -> None:
    # Opinions of 29 psychiatrists and of their 135 patients: of each psychiatrist, the patients, and the pairs of which
    # only the patient, and only the psychiatrist, named a treatment as relevant (Donner and Petryshen, 1989; Eliasziw
    # and Donner, 1991).
    patients = np.array(
        [7, 6, 7, 6, 4, 6, 5, 8, 4, 7, 3, 6, 7, 6, 5, 4, 6, 5, 4, 3, 5, 4, 4, 2, 3, 2, 2, 3, 1]
    )  # fmt: skip
    first = np.array([0, 1, 1, 1, 0, 3, 3, 3, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3, 1, 1, 2, 0, 0, 0, 0, 0, 0, 0])
    second = np.array([4, 2, 3, 2, 1, 3, 0, 2, 2, 4, 2, 4, 3, 2, 1, 3, 1, 2, 0, 0, 0, 2, 1, 2, 2, 0, 0, 1, 1])
    groups = np.arange(29).repeat(patients)
    rows = [
        ([True] * a + [False] * b + [True] * (n - a - b), [False] * a + [True] * b + [True] * (n - a - b))
        for a, b, n in zip(first, second, patients, strict=True)
    ]
    ours, theirs = (np.array([[answer for row in rows for answer in row[side]]]) for side in (0, 1))
    # The table is theirs: chi-squared is 11.845 by McNemar's test and 7.542 by Durkalski and others' (2003).
    a, b = first.sum(), second.sum()
    assert (a - b) ** 2 / (a + b) == pytest.approx(11.845, abs=5e-4)
    each = (first - second) / patients
    assert each.sum() ** 2 / (each**2).sum() == pytest.approx(7.542, abs=5e-4)
    # Published tests that respect the groups give chi-squared 8.43 (Yang and others, 2010), 7.54 (Durkalski and others)
    # and 7.19 (Obuchowski, 1998): p from 0.0037 to 0.0073. McNemar's, which does not, gives 0.0006.
    found = compare(ours, theirs, groups=groups)
    assert found.difference == pytest.approx(-29 / 135)
    assert 0.0037 < found.p_value < 0.0073
    assert found.p_value == pytest.approx(0.00644, abs=1e-5)
    assert compare(ours, theirs).p_value == mcnemar(a, b) < 0.001
    # Their difference of the two proportions, less and plus 1.96 of their standard errors that respect the groups.
    error = np.sqrt(((first - second - patients * found.difference) ** 2).sum()) / 135
    assert found.interval == pytest.approx((-29 / 135 - 1.96 * error, -29 / 135 + 1.96 * error), abs=0.02)


@st.composite
def pairs_of_answers(draw: st.DrawFn) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    clips = draw(st.integers(1, 30))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    ours, theirs = (random.random((draw(st.integers(1, 3)), clips)) < draw(st.floats(0, 1)) for _ in range(2))
    return ours, theirs


@settings(max_examples=50, deadline=None, derandomize=True)
@given(pairs_of_answers(), st.randoms(use_true_random=False))
def test_clips_that_are_groups_of_their_own_are_as_clips_without_groups(
    pair: tuple[NDArray[np.bool_], NDArray[np.bool_]], random: Any
) -> None:
    ours, theirs = pair
    names = np.array([f"person {number}" for number in range(ours.shape[1])])
    random.shuffle(names)
    assert compare(ours, theirs, groups=names) == compare(ours, theirs)
    assert accuracy_interval(ours, names) == accuracy_interval(ours)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(pairs_of_answers(), st.integers(1, 10))
def test_swapped_models_have_the_opposite_difference(
    pair: tuple[NDArray[np.bool_], NDArray[np.bool_]], group_size: int
) -> None:
    ours, theirs = pair
    groups = np.arange(ours.shape[1]) // group_size
    found, swapped = compare(ours, theirs, groups=groups), compare(theirs, ours, groups=groups)
    assert swapped.difference == pytest.approx(-found.difference)
    assert swapped.p_value == found.p_value
    # Replicates are drawn in another order.
    assert swapped.interval == pytest.approx((-found.interval[1], -found.interval[0]), abs=0.1)
    assert found.interval[0] - 1e-9 <= found.difference <= found.interval[1] + 1e-9


def test_the_names_and_the_order_of_groups_change_nothing() -> None:
    random, groups = np.random.default_rng(2), np.array([0, 0, 1, 1, 1, 2, 3, 3])
    ours, theirs = random.random((2, 8)) < 0.8, random.random((3, 8)) < 0.4
    found = compare(ours, theirs, groups=groups)
    assert compare(ours, theirs, groups=np.array(["d", "d", "", "", "", "b", "a", "a"])) == found
    order = [7, 1, 0, 5, 6, 2, 4, 3]
    again = compare(ours[:, order], theirs[:, order], groups=groups[order])
    assert (again.p_value, again.detectable) == (found.p_value, found.detectable)


def test_of_a_single_group_nothing_is_known_about_others() -> None:
    perfect, bad = np.ones((2, 30), dtype=bool), np.zeros((2, 30), dtype=bool)
    one = np.zeros(30, dtype=int)
    found = compare(perfect, bad, groups=one)
    assert found == (1.0, (-1.0, 1.0), 1.0, None)
    assert accuracy_interval(perfect, one) == proportion_interval(1, 1)
    bad[0, :15] = True
    assert accuracy_interval(bad, one) == proportion_interval(0.25, 1)


@pytest.mark.parametrize(("tests", "needed"), [(1, 6), (2, 7), (3, 7), (10, 9)])
def test_with_too_few_groups_no_difference_is_detectable(tests: int, needed: int) -> None:
    assert units_needed(tests) == needed
    perfect, bad = np.ones((2, 40), dtype=bool), np.zeros((2, 40), dtype=bool)
    few, enough = (np.arange(40) % number for number in (needed - 1, needed))
    assert compare(perfect, bad, tests, few).detectable is None
    assert tests * compare(perfect, bad, tests, few).p_value > 0.05
    assert compare(perfect, bad, tests, enough).detectable == needed / 40
    assert tests * compare(perfect, bad, tests, enough).p_value < 0.05
    # One clip in each of as many groups is enough.
    bad = perfect.copy()
    bad[:, :needed] = False
    assert compare(perfect, bad, tests, enough).difference == pytest.approx(needed / 40)
    assert tests * compare(perfect, bad, tests, enough).p_value < 0.05


def test_the_interval_of_an_accuracy_without_groups_is_that_of_its_replicates() -> None:
    right = np.ones((2, 20), dtype=bool)
    right[1, :10] = False
    assert accuracy_interval(right) == (proportion_interval(10, 20)[0], proportion_interval(20, 20)[1])


def test_the_interval_of_an_accuracy_resamples_groups_and_replicates() -> None:
    # Groups of unequal size: the share of all clips counts, not the mean of the groups' shares.
    groups = np.array([0] * 30 + [1] * 5 + [2] * 5)
    right = (groups == 0)[np.newaxis]
    low, high = accuracy_interval(right, groups)
    # Of 27 equally likely draws of three groups, 8 are without the first and 1 is it alone.
    assert (low, high) == (0.0, 1.0)
    assert compare(right, np.zeros((1, 40), bool), groups=groups).interval == (0.0, 1.0)
    # Equal groups, unequal replicates: only the replicates are resampled.
    even = np.arange(40) % 4
    replicates = np.stack([np.ones(40, bool), np.arange(40) < 20])
    assert accuracy_interval(replicates, even) == (0.5, 1.0)


def test_groups_that_are_all_alike_count_as_one_trial_each() -> None:
    groups = np.arange(40) % 8
    perfect = np.ones((3, 40), dtype=bool)
    assert accuracy_interval(perfect, groups) == proportion_interval(8, 8)
    half = perfect.copy()
    half[:, :20] = False
    assert np.bincount(groups, weights=half[0]).tolist() == [2, 2, 2, 2, 3, 3, 3, 3]
    assert accuracy_interval(half[:, 4:36], groups[4:36]) == proportion_interval(4, 8)


def test_the_interval_of_a_proportion_need_not_be_of_whole_numbers() -> None:
    assert proportion_interval(0.0, 5) == pytest.approx((0, 1 - 0.025 ** (1 / 5)))
    between = [proportion_interval(successes, 5) for successes in (2, 2.4, 3)]
    assert [low for low, _ in between] == sorted(low for low, _ in between)
    assert [high for _, high in between] == sorted(high for _, high in between)
