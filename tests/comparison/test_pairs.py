import tracemalloc
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest, permutation_test, t

from motionbench.comparison.intervals import accuracy_interval
from motionbench.comparison.pairs import (
    Comparison,
    adjust_holm,
    compare,
    compare_pairs,
    paired_permutation,
    units_needed,
)

# Whether each of five radiologists, in turn, recognised each of 45 dissections of the aorta (a rating of 3 or more), by
# spin-echo and by cine MRI: Van Dyke and others (1993), the example of Obuchowski and Rockette (1995).
SPIN_ECHO = (
    "111111111111111011111111011111111111001111110",
    "111111110111110001111111011111110101001111110",
    "111111111111110111111111010011110111001111110",
    "111111111111111011111111111111111111001111111",
    "101011110111110011111111011100010101001111110",
)
CINE = (
    "111111111111111111111111111111111111111111110",
    "111111110111111011111111010111110101101111110",
    "101111111111111011111111011111111111111111110",
    "111111111111111111111111111111111111111111111",
    "101111111111111111111111010110110111111111111",
)


def right_of(rows: tuple[str, ...]) -> NDArray[np.bool_]:
    return np.array([[answer == "1" for answer in row] for row in rows])


def first_wrong(*wrong: int, clips: int = 80) -> NDArray[np.bool_]:
    """Answers of replicates, each of which has its first so many clips wrong."""
    return np.arange(clips) >= np.array(wrong)[:, np.newaxis]


def verdict(ours: NDArray[np.bool_], theirs: NDArray[np.bool_], groups: Any = None, margin: float = 0.02) -> Comparison:
    [pair] = compare_pairs({"ours": ours, "theirs": theirs}, groups, margin)
    return pair


def recipes_error(found: Comparison, freedom: float) -> float:
    """The standard error behind an interval on the side of 0."""
    assert found.recipes is not None
    low, high = found.recipes.interval
    half = min(found.difference - low, high - found.difference)
    return float(half / t.ppf(0.975, freedom))


def test_the_parts_of_the_variance_are_those_of_a_published_example() -> None:
    # From the article on MRMCaov (Smith, Hillis and Pesce), sensitivity of binary ratings, jackknife: standard errors
    # of the two modalities' sensitivities, and covariances of the same and of different readers.
    spin_echo, cine, same_reader, other_reader = 0.05893747, 0.03741657, 0.0009943883, 0.0006604938
    # In that study the same readers used both; here replicates are other ones, and the cases are the same.
    variance = spin_echo**2 + cine**2 - 2 * (same_reader + 4 * other_reader) / 5
    # Satterthwaite's degrees of freedom, from the published mean squares of readers and our variance of cases.
    ours, theirs = right_of(SPIN_ECHO), right_of(CINE)
    found = compare(ours, theirs)
    assert found.difference == pytest.approx(-0.09777778)
    of_cases = float((ours.mean(axis=0) - theirs.mean(axis=0)).var(ddof=1)) / 45
    added = 45**-2
    freedom = (variance + added) ** 2 / (
        (of_cases + added) ** 2 / 44 + ((0.009135802 / 5) ** 2 + (0.005086420 / 5) ** 2) / 4
    )
    assert recipes_error(found, freedom) ** 2 - added == pytest.approx(variance, rel=1e-5)


def test_the_variance_is_that_of_gallas_unbiased_for_binary_data() -> None:
    # Gallas, Pennello and Myers (2007): the variance from products of scores of pairs of readers and pairs of cases.
    random = np.random.default_rng(3)
    hard = random.random(30)
    ours, theirs = (random.random((number, 30)) < 0.4 + 0.5 * hard for number in (3, 4))
    seeds = random.random((7, 1)) < 0.2  # some seeds are worse, so that their variance counts
    ours, theirs = ours & ~(seeds[:3] & (random.random(ours.shape) < 0.5)), theirs & ~(seeds[3:] & (hard < 0.5))

    def variance(right: NDArray[np.bool_]) -> float:
        replicates, clips = right.shape
        same_clip = np.mean([right[i] & right[j] for i in range(replicates) for j in range(replicates) if i != j])
        same_seed = np.mean([right[:, k] & right[:, m] for k in range(clips) for m in range(clips) if k != m])
        both = right.mean()
        neither = np.mean(
            [
                right[i, k] & right[j, m]
                for i, j in product(range(replicates), repeat=2)
                for k, m in product(range(clips), repeat=2)
                if i != j and k != m
            ]
        )
        total = both + (clips - 1) * same_seed + (replicates - 1) * (same_clip + (clips - 1) * neither)
        return float(total / (replicates * clips) - neither)

    covariance = np.cov(ours.mean(axis=0), theirs.mean(axis=0))[0, 1] / 30
    expected = variance(ours) + variance(theirs) - 2 * covariance
    found = compare(ours, theirs)
    assert found.recipes is not None
    assert found.probability is not None
    # Of interval and probability of one t distribution, both its width and its degrees of freedom follow.
    freedoms = np.geomspace(1, 200, 200_000)
    errors = np.abs(t.cdf(found.difference / recipes_errors(found, freedoms), freedoms) - found.probability)
    error = recipes_errors(found, freedoms)[errors.argmin()]
    assert error**2 - 30**-2 == pytest.approx(expected, rel=1e-3)


def recipes_errors(found: Comparison, freedoms: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array(recipes_error(found, 1) * t.ppf(0.975, 1) / t.ppf(0.975, freedoms))


def test_six_clips_are_needed_and_enough_for_networks() -> None:
    assert verdict(first_wrong(0), first_wrong(5)).better_network is None
    assert verdict(first_wrong(0), first_wrong(6)).better_network == "ours"
    assert verdict(first_wrong(6), first_wrong(0)).better_network == "theirs"


def test_one_seed_tells_of_these_networks_alone() -> None:
    pair = verdict(first_wrong(0), first_wrong(40))
    assert pair.networks.p_value == pytest.approx(2 * 0.5**40)
    assert pair.networks.interval[0] > 0.3
    assert pair.recipes is None
    assert pair.probability is None
    assert (pair.better_network, pair.better, pair.equal) == ("ours", None, False)
    # One of them is not enough.
    assert compare(first_wrong(0, 1), first_wrong(40)).recipes is None


def test_one_bad_seed_makes_no_worse_recipe() -> None:
    # Two of three replicates are perfect: over other seeds it could as well be the other recipe.
    pair = verdict(first_wrong(0, 0, 0), first_wrong(0, 0, 60))
    assert pair.networks.p_value < 1e-9
    assert pair.recipes is not None
    assert pair.recipes.p_value > 0.3
    assert pair.better is None
    assert pair.better_network == "ours"


def test_few_seeds_that_agree_by_chance_do_not_narrow_the_interval() -> None:
    found = compare(first_wrong(0, 0), first_wrong(20, 20))
    assert found.recipes is not None
    variance = 0.25 * 0.75 / 79 + 80**-2
    # Two seeds each have two degrees of freedom, of which no more than three times as many are used.
    assert found.recipes.interval[0] == pytest.approx(0.25 - t.ppf(0.975, 6) * variance**0.5)
    assert found.networks.interval[0] == pytest.approx(0.25 - t.ppf(0.975, 79) * variance**0.5)


def test_identical_recipes_whose_seeds_differ_are_not_called_different() -> None:
    # Seen: "better" in 24 of 100 with 2 seeds, 300 clips and seeds that deviate by 6 points.
    random = np.random.default_rng(0)
    shown = 0
    for _ in range(200):
        ours, theirs = (random.random((2, 300)) < random.normal(0.85, 0.06, (2, 1)) for _ in range(2))
        shown += verdict(ours, theirs).better is not None
    assert shown <= 12


def test_a_planted_difference_is_found() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        ours, theirs = (random.random((3, 80)) < accuracy for accuracy in (0.95, 0.5))
        pair = verdict(ours, theirs)
        assert pair.better == "ours"
        assert pair.probability is not None
        assert pair.probability > 0.975


def test_all_right_is_not_shown_to_be_equal_on_few_clips() -> None:
    pair = verdict(first_wrong(0, 0, 0), first_wrong(0, 0, 0))
    assert pair.difference == 0
    assert pair.networks.p_value == 1
    assert (pair.better, pair.equal) == (None, False)
    assert pair.probability == pytest.approx(0.5)
    assert verdict(first_wrong(0, 0, 0, clips=200), first_wrong(0, 0, 0, clips=200)).equal
    assert verdict(first_wrong(0, 0, 0), first_wrong(0, 0, 0), margin=0.05).equal


def test_a_shown_difference_below_the_margin_is_both() -> None:
    ours, theirs = first_wrong(0, 0, 0, clips=5000), first_wrong(50, 50, 50, clips=5000)
    pair = verdict(ours, theirs)
    assert (pair.better, pair.equal) == ("ours", True)
    assert not verdict(ours, theirs, margin=0.01).equal


def test_what_can_be_found_is_no_limit_of_what_is_shown() -> None:
    # Seen: a difference of 0.0375, p = 0.004, and in the same verdict that none below 0.075 could be shown.
    ours, theirs = first_wrong(0, 0, 0), first_wrong(9, 0, 0)
    found = compare(ours, theirs)
    assert found.networks.p_value == pytest.approx(0.004, abs=1e-4)
    assert found.recipes is not None
    assert found.recipes.p_value > 0.3
    # With such seeds only a much larger difference is found in 80 of 100 repetitions.
    assert found.findable is not None
    assert found.findable > 4 * found.difference
    # Even if all seeds agree: of so few clips on which the models differ there are at times too few.
    assert compare(ours, ours).findable == pytest.approx(8.3 / 80, abs=0.002)


@pytest.mark.slow
@pytest.mark.parametrize(("groups", "seeds"), [(None, 3), (None, 10), (12, 3), (30, 5)])
def test_what_can_be_found_is_found_in_80_of_100_repetitions(groups: int | None, seeds: int) -> None:
    random = np.random.default_rng(0)
    names = None if groups is None else np.arange(600) % groups

    def predicted(accuracy: float) -> NDArray[np.bool_]:
        chances = accuracy + random.normal(0, 0.02, (seeds, 1))
        if groups is not None:
            chances = chances + random.normal(0, 0.05, groups)[names]
        return random.random((seeds, 600)) < chances

    findable = float(np.mean([compare(predicted(0.75), predicted(0.75), names).findable or 1 for _ in range(100)]))
    pairs = [verdict(predicted(0.75 + findable / 2), predicted(0.75 - findable / 2), names) for _ in range(200)]
    found = np.mean([pair.better == "ours" for pair in pairs])
    print(f"{findable:.3f} is found in {found:.2f}")
    assert 0.7 <= found <= 0.92


def test_with_more_tests_only_larger_differences_can_be_found() -> None:
    random = np.random.default_rng(0)
    ours, theirs = (random.random((3, 300)) < 0.8 for _ in range(2))
    one, many = compare(ours, theirs).findable, compare(ours, theirs, tests=10).findable
    assert one is not None
    assert many is not None
    assert one < many


@pytest.mark.parametrize(("tests", "needed"), [(1, 6), (2, 7), (3, 7), (10, 9)])
def test_with_too_few_groups_no_difference_can_be_found(tests: int, needed: int) -> None:
    assert units_needed(tests) == needed
    assert tests * 2 * 0.5**needed < 0.05 <= tests * 2 * 0.5 ** (needed - 1)
    for groups, possible in ((needed - 1, False), (needed, True)):
        found = compare(first_wrong(0, 0), first_wrong(80, 80), np.arange(80) % groups, tests=tests)
        assert found.testable == (found.findable is not None) == (found.probability is not None) == possible
        assert (tests * found.networks.p_value < 0.05) == possible


def test_of_a_single_group_or_clip_nothing_is_known_about_others() -> None:
    pair = verdict(first_wrong(0, 0), first_wrong(80, 80), ["one"] * 80)
    assert pair.difference == 1
    assert pair.networks == pair.recipes == ((-1, 1), 1)
    assert (pair.findable, pair.better, pair.equal) == (None, None, False)
    assert verdict(first_wrong(0, clips=1), first_wrong(1, clips=1)).better_network is None


def test_p_values_are_adjusted_for_the_number_of_pairs() -> None:
    right = {"a": first_wrong(0, 0, 0), "b": first_wrong(6, 6, 6), "c": first_wrong(12, 12, 12)}
    pairs = compare_pairs(right, None, 0.02)
    assert [(pair.first, pair.second) for pair in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [pair.networks.p_value for pair in pairs] == [2 * 2 * 0.5**6, 3 * 2 * 0.5**12, 2 * 2 * 0.5**6]
    alone = [compare(right[pair.first], right[pair.second]) for pair in pairs]
    assert [pair.recipes for pair in pairs] != [found.recipes for found in alone]
    # The smallest difference is shown alone, and not as one of three.
    assert compare_pairs({"a": right["a"], "b": right["b"]}, None, 0.02)[0].better_network == "a"
    assert [pair.better_network for pair in pairs] == [None, "a", None]
    # A pair of which one model has one seed takes no part in the questions that it cannot answer.
    mixed = compare_pairs({"a": right["a"], "b": right["b"], "c": right["c"][:1]}, None, 0.02)
    assert [pair.recipes is None for pair in mixed] == [False, True, True]
    assert mixed[0].recipes == compare(right["a"], right["b"]).recipes


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


def test_networks_of_equal_accuracy_whose_seeds_err_on_other_clips_are_not_called_different() -> None:
    # Seen: "the trained networks are better" in half of such worlds, as one model is more often wrong, but by less.
    random = np.random.default_rng(0)
    shown = 0
    for _ in range(100):
        alike, apart = np.repeat(random.random((1, 400)) < 0.9, 3, axis=0), random.random((3, 400)) < 0.9
        shown += verdict(alike, apart).better_network is not None
    assert shown <= 10
    ours, theirs = first_wrong(9, 9, 9, clips=400), np.ones((3, 400), dtype=bool)
    theirs[np.arange(30) % 3, np.arange(20, 50)] = False
    assert compare(ours, theirs).networks.p_value > 0.5


def test_no_p_value_is_0() -> None:
    found = compare(first_wrong(0, 0, 0, clips=3000), first_wrong(2500, 2500, 2501, clips=3000))
    assert found.recipes is not None
    assert 0 < found.networks.p_value < 1e-15
    assert found.recipes.p_value > 0
    wide = compare(first_wrong(*[0] * 10, clips=3000), first_wrong(*[2900] * 10, clips=3000))
    assert wide.recipes is not None
    assert 0 < wide.recipes.p_value < 1e-15


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.integers(-9, 9), min_size=1, max_size=8).map(np.array))
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


def test_the_paired_permutation_of_equal_differences_is_the_sign_test_and_of_single_predictions_mcnemars() -> None:
    # Airway hyper-responsiveness before and after a transplantation, 1 and 7 discordant pairs: exact conditional
    # p = 0.070 in Fagerland, Lydersen and Laake, "The McNemar test for binary matched-pairs data" (2013).
    assert paired_permutation(np.array([1] + [-1] * 7)) == pytest.approx(0.070, abs=5e-4)
    assert paired_permutation(np.array([0, 0])) == 1
    differences = np.repeat([4, -4, 0], [70, 40, 9])
    assert paired_permutation(differences) == pytest.approx(binomtest(40, 110).pvalue, rel=1e-9)
    # Sums that are left out change nothing.
    many = np.concatenate([np.repeat([1, -1], [20_300, 19_700]), [2, -2]])
    assert paired_permutation(many) == pytest.approx(binomtest(20_301, 40_002).pvalue, rel=1e-2)


def test_the_paired_permutation_agrees_with_published_tests_of_clustered_pairs() -> None:
    # Opinions of 29 psychiatrists and of their 135 patients: of each psychiatrist, the patients, and the pairs of which
    # only the patient, and only the psychiatrist, named a treatment as relevant (Donner and Petryshen, 1989; Eliasziw
    # and Donner, 1991).
    patients = np.array(
        [7, 6, 7, 6, 4, 6, 5, 8, 4, 7, 3, 6, 7, 6, 5, 4, 6, 5, 4, 3, 5, 4, 4, 2, 3, 2, 2, 3, 1]
    )  # fmt: skip # what belongs together on one line
    first = np.array([0, 1, 1, 1, 0, 3, 3, 3, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3, 1, 1, 2, 0, 0, 0, 0, 0, 0, 0])
    second = np.array([4, 2, 3, 2, 1, 3, 0, 2, 2, 4, 2, 4, 3, 2, 1, 3, 1, 2, 0, 0, 0, 2, 1, 2, 2, 0, 0, 1, 1])
    groups = np.arange(29).repeat(patients)
    rows = [
        ([True] * a + [False] * b + [True] * (n - a - b), [False] * a + [True] * b + [True] * (n - a - b))
        for a, b, n in zip(first, second, patients, strict=True)
    ]
    ours, theirs = (np.array([[answer for row in rows for answer in row[side]]]) for side in (0, 1))
    # Published tests that respect the groups give chi-squared 8.43 (Yang and others, 2010), 7.54 (Durkalski and others)
    # and 7.19 (Obuchowski, 1998): p from 0.0037 to 0.0073. McNemar's, which does not, gives 0.0006.
    found = compare(ours, theirs, groups)
    assert found.difference == pytest.approx(-29 / 135)
    assert found.networks.p_value == pytest.approx(0.00644, abs=1e-5)
    assert compare(ours, theirs).networks.p_value < 0.001
    # Their standard error that respects the groups; 2.048 is Student's quantile with 28 degrees of freedom.
    error = np.sqrt(((first - second - patients * found.difference) ** 2).sum()) / 135
    assert found.networks.interval == pytest.approx((-29 / 135 - 2.048 * error, -29 / 135 + 2.048 * error), abs=0.01)


@st.composite
def pairs_of_predictions(draw: st.DrawFn) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    clips = draw(st.integers(1, 30))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    ours, theirs = (random.random((draw(st.integers(1, 3)), clips)) < draw(st.floats(0, 1)) for _ in range(2))
    return ours, theirs


@settings(max_examples=100, deadline=None, derandomize=True)
@given(pairs_of_predictions(), st.integers(1, 10))
def test_swapped_models_have_the_opposite_difference(
    pair: tuple[NDArray[np.bool_], NDArray[np.bool_]], group_size: int
) -> None:
    ours, theirs = pair
    groups = np.arange(ours.shape[1]) // group_size
    found, swapped = compare(ours, theirs, groups), compare(theirs, ours, groups)
    assert swapped.difference == -found.difference
    assert swapped.networks.p_value == found.networks.p_value
    assert swapped.networks.interval == pytest.approx([-end for end in reversed(found.networks.interval)])
    assert (swapped.recipes is None) == (found.recipes is None)
    if found.recipes and swapped.recipes and found.probability is not None:
        assert swapped.recipes.interval == pytest.approx([-end for end in reversed(found.recipes.interval)])
        assert swapped.recipes.p_value == pytest.approx(found.recipes.p_value)
        assert swapped.probability == pytest.approx(1 - found.probability)
        low, high = found.recipes.interval
        assert low <= found.difference <= high
        # Interval and p-value say the same.
        assert (found.recipes.p_value < 0.05) == (low > 0 or high < 0)
    assert swapped.findable == pytest.approx(found.findable)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(pairs_of_predictions(), st.integers(1, 10), st.randoms(use_true_random=False))
def test_the_names_and_the_order_of_groups_change_nothing(
    pair: tuple[NDArray[np.bool_], NDArray[np.bool_]], group_size: int, random: Any
) -> None:
    ours, theirs = pair
    groups = np.arange(ours.shape[1]) // group_size
    names = np.array(random.sample([f"person {number}" for number in range(30)], 30))[groups]
    found = compare(ours, theirs, names)
    assert found == compare(ours, theirs, None if group_size == 1 else groups), "a clip without group is one of its own"
    order = random.sample(range(len(groups)), len(groups))
    again = compare(ours[:, order], theirs[:, order], names[order])
    assert again.networks.p_value == found.networks.p_value
    assert again.probability == pytest.approx(found.probability)


@pytest.mark.parametrize("sizes", [[150, *[30] * 5], [400, *[10] * 20], [200, 100, 50, 25, 12, 6, 3]])
def test_intervals_hold_the_truth_where_one_group_dominates(sizes: list[int]) -> None:
    # Seen: in 70 to 80 of 100.
    random, names = np.random.default_rng(0), np.arange(len(sizes)).repeat(sizes)
    held = 0
    for _ in range(200):
        ours, theirs = (
            random.random((3, len(names))) < np.clip(random.normal(0.7, 0.2, len(sizes)), 0, 1)[names] for _ in range(2)
        )
        low, high = compare(ours, theirs, names).networks.interval
        held += low <= 0 <= high
    assert held >= 186


@pytest.mark.parametrize("size", [1, 2, 50])
def test_a_hundred_thousand_clips_need_little_memory(size: int) -> None:
    # Seen: 64 kB a clip, so 6.4 GB.
    random = np.random.default_rng(0)
    right = {name: random.random((3, 100_000)) < 0.9 for name in "ab"}
    groups = np.arange(100_000) // size
    tracemalloc.start()
    [pair] = compare_pairs(right, groups, 0.02)
    accuracy_interval(right["a"], groups)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60e6
    assert pair.equal
