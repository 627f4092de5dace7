import numpy as np
import pandas as pd
import pytest

from benchmarks.calibration import (
    NOT_COVERED,
    OldRule,
    World,
    as_markdown,
    describe_not_covered,
    draw,
    simulate_all,
    some_worlds,
)


@pytest.mark.parametrize("accuracy", [0.7, 0.97])
def test_worlds_are_as_they_say(accuracy: float) -> None:
    world = World(clips=60, groups=6, correlation=0.3, seeds=3, deviation=0.03, accuracy=accuracy, difference=0.05)
    groups = np.arange(60) % 6
    for right, expected in zip(draw(world, groups, 3000, np.random.default_rng(0)), (0, 0.05), strict=True):
        mean = accuracy - expected
        assert right.shape == (3000, 3, 60)
        assert right.mean() == pytest.approx(mean, abs=0.006)
        # Of two clips, both right: 9 others are in the same group, 50 in other ones.
        by_group = right.reshape(3000, 3, 10, 6).sum(axis=2).astype(float)
        both_in_group = ((by_group**2).sum(axis=2) - by_group.sum(axis=2)).mean() / (60 * 9)
        both_in_others = (by_group.sum(axis=2) ** 2 - (by_group**2).sum(axis=2)).mean() / (60 * 50)
        assert (both_in_group - both_in_others) / (mean * (1 - mean)) == pytest.approx(0.3, abs=0.05)
        assert both_in_others - mean**2 == pytest.approx(0.03**2, abs=0.006)


def test_all_corners_are_among_the_worlds() -> None:
    worlds = some_worlds()
    assert len(set(worlds)) == len(worlds)
    assert {World(80, 0, 0, 1, 0, 0.7, 0), World(1200, 30, 0.3, 10, 0.04, 0.97, 0.05)} <= set(worlds)
    assert {World(80, 6, 0.3, 10, 0.04, 0.97, 0), World(1200, 6, 0, 1, 0.04, 0.7, 0.05)} <= set(worlds)


# What the code before said of the first data set: the intervals of the difference and of the first accuracy.
@pytest.mark.parametrize(
    ("number", "difference", "accuracy"),
    [(0, (-0.133, 0.117), (0.640, 0.952)), (6, (-0.144, 0.033), (0.672, 0.833))],
)
def test_the_rule_before_is_the_one_before(
    number: int, difference: tuple[float, float], accuracy: tuple[float, float]
) -> None:
    world = World(clips=60, groups=number, correlation=0, seeds=3, deviation=0, accuracy=0.8, difference=0.05)
    groups = np.arange(60) % number if number else None
    old = OldRule(*draw(world, groups, 5, np.random.default_rng(0)), groups)
    assert old.differences[0] == pytest.approx(difference, abs=0.03)
    assert old.accuracies[0] == pytest.approx(accuracy, abs=0.03)


@pytest.mark.parametrize("world", NOT_COVERED[::4])
def test_worlds_that_are_not_covered_have_the_accuracy_that_they_say(world: World) -> None:
    groups = np.arange(world.clips) % world.groups if world.groups else None
    for right in draw(world._replace(seeds=1), groups, 2000, np.random.default_rng(0)):
        assert right.mean() == pytest.approx(world.accuracy, abs=0.01)
    table = pd.DataFrame([{**world._asdict(), "better": 0.2, "covered": 0.8, "accuracy covered": 0.9}])
    assert "| 20.0 " in "".join(describe_not_covered(table))


def test_the_page_has_a_row_per_number_of_seeds() -> None:
    worlds = [World(80, 6, 0.1, seeds, 0.04, 0.9, difference) for seeds in (1, 2, 3) for difference in (0, 0.02)]
    page = "\n\n".join(as_markdown(simulate_all(worlds, 3, stream=0), again=0))
    assert "In 6 made-up worlds" in page
    assert [page.count(f"\n| {seeds} ") for seeds in (1, 2, 3)] == [3, 3, 3]
