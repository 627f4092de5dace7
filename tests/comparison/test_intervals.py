from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import beta

from motionbench.comparison.intervals import (
    accuracy_interval,
    effective_clips,
    effective_groups,
    group_variance,
    sum_by_group,
)


def all_right(replicates: int, clips: int) -> NDArray[np.bool_]:
    return np.ones((replicates, clips), dtype=bool)


@st.composite
def predictions(draw: st.DrawFn) -> tuple[NDArray[np.bool_], NDArray[Any] | None]:
    replicates, clips = draw(st.integers(1, 4)), draw(st.integers(2, 24))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    right = random.random((replicates, clips)) < draw(st.sampled_from([0.1, 0.5, 0.8, 0.95, 1.0]))
    groups = draw(st.sampled_from([None, 2, 3, 6]))
    return right, None if groups is None else random.integers(groups, size=clips)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(predictions(), st.data())
def test_one_more_right_prediction_never_lowers_an_end(
    made_up: tuple[NDArray[np.bool_], NDArray[Any] | None], data: st.DataObject
) -> None:
    right, groups = made_up
    replicate, clip = (data.draw(st.integers(0, size - 1)) for size in right.shape)
    less, more = right.copy(), right.copy()
    less[replicate, clip], more[replicate, clip] = False, True
    low, high = accuracy_interval(less, groups)
    low_of_more, high_of_more = accuracy_interval(more, groups)
    assert low_of_more >= low - 1e-9
    assert high_of_more >= high - 1e-9


@settings(max_examples=100, deadline=None, derandomize=True)
@given(predictions())
def test_wrong_predictions_have_the_mirrored_interval(made_up: tuple[NDArray[np.bool_], NDArray[Any] | None]) -> None:
    right, groups = made_up
    low, high = accuracy_interval(right, groups)
    if groups is None:
        assert accuracy_interval(right, [f"person {number}" for number in range(right.shape[1])]) == (low, high)
    assert accuracy_interval(~right, groups) == pytest.approx((1 - high, 1 - low), abs=1e-7)
    assert low <= right.mean() <= high


@pytest.mark.parametrize("groups", [5, 6, 12, 30])
def test_a_perfect_model_is_not_refused_where_one_with_an_error_passes(groups: int) -> None:
    # Seen: 0.478 for the perfect one, 0.994 with one clip wrong.
    names = np.arange(groups).repeat(100)
    perfect = all_right(3, len(names))
    one_wrong = perfect.copy()
    one_wrong[:, 0] = False
    assert accuracy_interval(perfect, names)[0] > accuracy_interval(one_wrong, names)[0] > 0.9
    assert accuracy_interval(perfect, names)[1] == 1


def test_more_seeds_that_agree_never_widen_the_interval() -> None:
    # Seen: the union of the replicates' intervals widens with every seed.
    right = np.arange(100)[np.newaxis] >= 10
    widths = []
    for seeds in (1, 2, 3, 5, 10, 100):
        low, high = accuracy_interval(np.repeat(right, seeds, axis=0))
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)
    # What is left is the interval of Clopper and Pearson for 90 of 100: 0.8238 to 0.9510.
    assert (low, high) == pytest.approx((0.8238, 0.9510), abs=0.001)
    assert (low, high) == pytest.approx((beta.ppf(0.025, 90, 11), beta.ppf(0.975, 91, 10)), abs=0.001)


def test_seeds_that_differ_widen_the_interval() -> None:
    alike, different = all_right(3, 80), all_right(3, 80)
    alike[:, :8] = False
    different[0, :24] = False
    assert alike.mean() == different.mean()
    low, high = accuracy_interval(alike)
    wider_low, wider_high = accuracy_interval(different)
    assert wider_low < low - 0.05
    assert wider_high > high + 0.03


@pytest.mark.parametrize("seeds", [1, 3])
def test_seeds_that_agree_are_still_a_sample(seeds: int) -> None:
    low, high = accuracy_interval((np.arange(100_000) < 80_000)[np.newaxis].repeat(seeds, axis=0))
    # 1.96 of the deviation that is assumed, 3 points; that of the clips is a tenth of a point.
    assert (low, high) == pytest.approx((0.8 - 0.0588 / seeds**0.5, 0.8 + 0.0588 / seeds**0.5), abs=0.008)


def test_clips_that_are_alike_count_less() -> None:
    names = np.arange(240) // 20
    spread = np.arange(240)[np.newaxis].repeat(2, axis=0) % 12 > 0
    together = np.arange(240)[np.newaxis].repeat(2, axis=0) >= 20  # all errors in one group
    assert accuracy_interval(spread) == accuracy_interval(together)
    without = accuracy_interval(spread)[0]
    evenly, unevenly = (accuracy_interval(right, names)[0] for right in (spread, together))
    assert unevenly < evenly - 0.03 < without - 0.06


@pytest.mark.parametrize("right", [all_right(2, 30), ~all_right(2, 30)])
def test_of_a_single_group_or_clip_nothing_is_known_about_others(right: NDArray[np.bool_]) -> None:
    assert accuracy_interval(right, ["one"] * 30) == (0, 1)
    assert accuracy_interval(right[:, :1]) == (0, 1)


@pytest.mark.parametrize(
    ("survived", "born", "design_effect"),
    [
        (
            [13, 12, 9, 9, 8, 8, 12, 11, 9, 9, 8, 11, 4, 5, 7, 7],
            [13, 12, 9, 9, 8, 8, 13, 12, 10, 10, 9, 13, 5, 7, 10, 10],
            1.232495,
        ),
        (
            [12, 11, 10, 9, 10, 9, 9, 8, 8, 4, 7, 4, 5, 3, 3, 0],
            [12, 11, 10, 9, 11, 10, 10, 9, 9, 5, 9, 7, 10, 6, 10, 7],
            3.952861,
        ),
    ],
    ids=["control", "treated"],
)
def test_the_variance_over_groups_is_that_of_a_published_example(
    survived: list[float], born: list[float], design_effect: float
) -> None:
    # Litters of rats (Weil, 1970), table 1 of Rao and Scott, "A simple method for the analysis of clustered binary
    # data" (1992). The design effects are those that the documentation of the R package PF prints for them.
    proportion = sum(survived) / sum(born)
    variance = group_variance(np.array(survived, float), np.array(born, float))
    # The jackknife's is a little larger.
    assert 1 < variance / (proportion * (1 - proportion) / sum(born)) / design_effect < 1.05
    without = [(sum(survived) - s) / (sum(born) - n) for s, n in zip(survived, born, strict=True)]
    assert variance == pytest.approx(15 / 16 * sum((each - proportion) ** 2 for each in without))
    # Without the correction for the size of a group it is theirs.
    sizes = np.array(born)
    plain = np.array(survived) - proportion * sizes
    assert 16 / 15 * (plain**2).sum() / sum(born) / proportion / (1 - proportion) == pytest.approx(
        design_effect, abs=1e-6
    )


def test_groups_of_unequal_sizes_count_as_fewer() -> None:
    # Kish's: 10 groups of 20 clips: 200 / (1 + 19 * 0.1).
    assert effective_clips(np.full(10, 20.0)) == pytest.approx(200 / 2.9)
    assert effective_clips(np.ones(80)) == pytest.approx(80)
    assert effective_groups(np.full(6, 50.0)) == pytest.approx(6)
    assert effective_groups(np.array([400.0, *[10.0] * 20])) == pytest.approx(600**2 / 162_000)


def test_sums_are_by_the_names_of_groups() -> None:
    sums, sizes = sum_by_group(np.array([[True, True, False, True], [False, True, False, False]]), ["b", "a", "b", "a"])
    assert sums.tolist() == [[1, 2], [0, 1]]
    assert sizes.tolist() == [2, 2]


def test_more_seeds_that_differ_narrow_the_interval() -> None:
    # The union of the replicates' intervals would stay as wide.
    two = np.arange(100) >= np.array([[5], [15]])
    (low, high), (low_of_ten, high_of_ten) = (accuracy_interval(np.tile(two, (times, 1))) for times in (1, 5))
    assert high_of_ten - low_of_ten < high - low - 0.03
