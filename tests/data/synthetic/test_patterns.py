"""The patterns. Of the variant `motion`: what can be told without time, and what with it."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, kstest
from sklearn.ensemble import RandomForestClassifier

from motionbench.core.errors import UserError
from motionbench.data.splits import Clips, read_split, write_split
from motionbench.data.synthetic.frames import draw_split
from motionbench.data.synthetic.params import Drawing
from motionbench.data.synthetic.patterns import (
    LABEL_MAPS,
    MOTION_PATTERNS,
    NOTEBOOK_PATTERNS,
    PATTERNS,
    Trajectories,
    check_paths,
    point_sizes,
)
from motionbench.params.schema import Params
from tests.conftest import drawing

Load = Callable[[dict[str, Any]], Params]

CLIPS = 1000  # of each class
DIRECTIONS = ("ascending", "descending")


@pytest.fixture
def data(params_with: Load) -> Drawing:
    return drawing(params_with({"synthetic.variant": "motion"}))


def follow(data: Drawing, name: str, seed: int = 0, clips: int = CLIPS) -> tuple[Trajectories, NDArray[np.int64]]:
    """Trajectories and sizes of clips of one class."""
    patterns = MOTION_PATTERNS if data.variant == "motion" else PATTERNS
    random = np.random.default_rng([seed, list(patterns).index(name)])
    return patterns[name](data, clips, random), point_sizes(data, clips, random)[:, 0]


def steps_of(positions: Trajectories, data: Drawing) -> Trajectories:
    """Ways from frame to frame, the shorter way around, shape (clips, frames - 1, 2)."""
    extent = np.array([data.height, data.width])
    ways: Trajectories = (np.diff(positions, axis=1) + extent / 2) % extent - extent / 2
    return ways


def right_of(classes: Collection[str], features_of: Callable[[str, int], NDArray[np.float64]]) -> int:
    """Of clips that a second seed makes, how many a forest assigns rightly that has learned those of a first one."""
    labels = np.repeat(np.arange(len(classes)), CLIPS)
    learned, judged = (np.concatenate([features_of(name, seed) for name in classes]) for seed in (0, 1))
    forest = RandomForestClassifier(50, min_samples_leaf=5, random_state=0).fit(learned, labels)
    return int((forest.predict(judged) == labels).sum())


def most_by_chance(classes: int) -> float:
    """How many right answers guessing exceeds in one of 10,000 cases."""
    return float(binom.isf(1e-4, classes * CLIPS, 1 / classes))


@pytest.mark.parametrize("frame", [0, 7, 19])
def test_no_single_frame_tells_the_class(frame: int, data: Drawing) -> None:
    def features_of(name: str, seed: int) -> NDArray[np.float64]:
        trajectories, sizes = follow(data, name, seed)
        return np.concatenate([trajectories[:, frame], sizes], axis=-1)

    assert right_of(MOTION_PATTERNS, features_of) < most_by_chance(4)


def test_first_frame_tells_the_class_in_corrected_variant(data: Drawing) -> None:
    corrected = data._replace(variant="corrected")
    assert right_of(PATTERNS, lambda name, seed: follow(corrected, name, seed)[0][:, 0]) / (4 * CLIPS) > 0.95


@pytest.mark.parametrize("name", MOTION_PATTERNS)
def test_the_point_is_anywhere_with_equal_chance(name: str, data: Drawing) -> None:
    trajectories, sizes = follow(data, name)
    assert sorted(set(sizes.flat)) == [4, 6, 8]
    for frame in (0, 7, 19):
        for axis, extent in enumerate((data.height, data.width)):
            assert kstest(trajectories[:, frame, axis], "uniform", (0, extent)).pvalue > 1e-3


def test_an_ascending_clip_played_backward_descends(data: Drawing) -> None:
    steady = data._replace(jitter=0.0)
    # Of the same random numbers, the two classes make the same start, speeds and sizes.
    (ascending, sizes), (descending, same_sizes) = (
        (MOTION_PATTERNS[name](steady, CLIPS, random := np.random.default_rng(0)), point_sizes(data, CLIPS, random))
        for name in DIRECTIONS
    )
    backward = steps_of(ascending[:, ::-1], steady)
    forward = steps_of(descending, steady)
    np.testing.assert_allclose(backward, forward * (1, -1), atol=1e-9)
    np.testing.assert_array_equal(sizes, same_sizes)
    # What is left to show: the mirrored speed sideways is as likely, and the other end is as likely a start (above).
    sideways = forward[:, 0, 1]
    assert kstest(sideways, "uniform", (-9, 18)).pvalue > 1e-3


def test_frames_in_no_order_do_not_tell_the_direction(data: Drawing) -> None:
    def in_order(name: str, seed: int) -> NDArray[np.float64]:
        return steps_of(follow(data, name, seed)[0], data).reshape(CLIPS, -1)

    def in_no_order(name: str, seed: int) -> NDArray[np.float64]:
        positions = follow(data, name, seed)[0]
        # Sorted by row and by column: what all orders of the same frames have in common.
        ways = [np.take_along_axis(positions, positions[..., [axis]].argsort(axis=1), axis=1) for axis in (0, 1)]
        return np.concatenate([steps_of(way, data).reshape(CLIPS, -1) for way in ways], axis=1)

    assert right_of(DIRECTIONS, in_no_order) < most_by_chance(2)
    assert right_of(DIRECTIONS, in_order) / (2 * CLIPS) > 0.99


def judge(positions: Trajectories, data: Drawing) -> NDArray[np.int64]:
    """Tell the class by rules: a line through the row, unwrapped, must fit closely; its slope is the vertical speed."""
    rows = np.cumsum(np.pad(steps_of(positions, data)[..., 0], [(0, 0), (1, 0)]), axis=1)
    times = np.arange(data.frames)
    slope, start = np.polyfit(times, rows.T, deg=1)
    deviation = (rows - slope[:, np.newaxis] * times - start[:, np.newaxis]).std(axis=1)
    # Pixels: jitter deviates by 1, the flattest sine, of amplitude 6, by 2.6 at least; the slowest climb is 1 a frame.
    conditions = [deviation > 1.9, np.abs(slope) < 0.5, slope < 0]
    return np.select(conditions, [3, 0, 1], default=2)


def test_positions_in_order_tell_the_class(data: Drawing) -> None:
    judged = [judge(follow(data, name, clips=100)[0], data) for name in MOTION_PATTERNS]
    assert np.array_equal(judged, np.repeat(np.arange(4), 100).reshape(4, 100))


@pytest.mark.parametrize(("change", "axis"), [(None, ()), ("reversed", 1), ("flipped", 2), ("mirrored", 3)])
def test_drawn_clips_are_of_the_class_that_their_label_or_the_label_map_says(
    change: str | None, axis: Any, data: Drawing, tmp_path: Path
) -> None:
    write_split(tmp_path, draw_split("test", data._replace(clips_per_class=100)))
    clips, labels, names = read_split(tmp_path)
    seen = np.stack([centre_along(rows_or_columns, np.flip(clips, axis)) for rows_or_columns in (2, 3)], axis=-1)
    changed = LABEL_MAPS[change] if change else {}
    expected = [names.index(changed.get(names[label], names[label])) for label in labels]
    assert judge(seen, data).tolist() == expected


def centre_along(axis: int, clips: Clips) -> NDArray[np.float64]:
    """Where along an axis, whose ends are joined, the middle of the lit pixels is, shape (clips, frames)."""
    lit = np.asarray(clips.any(axis=5 - axis))[..., 0]
    angles = 2 * np.pi * np.arange(clips.shape[axis]) / clips.shape[axis]
    centre: NDArray[np.float64] = np.angle(lit @ np.exp(1j * angles)) * clips.shape[axis] / (2 * np.pi)
    return centre


def test_variants_move_alike_where_the_source_has_no_flaw(params_with: Load) -> None:
    params = params_with({"synthetic.jitter": 1.0})
    random = np.random.default_rng(0)
    ours = PATTERNS["ascending"](drawing(params), 4000, random).mean(axis=0)
    source = NOTEBOOK_PATTERNS["descending"](drawing(params), 4000, random).mean(axis=0)
    # Ascending with up as up is the source's descending, four rows lower: it starts 4 rows from the edge too.
    np.testing.assert_allclose(ours - source, np.tile([4, 0], (20, 1)), atol=0.15)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.frames": 60}, "data.frames: 60 is not allowed: a point cannot move a pixel per frame"),
        (
            {"synthetic.variant": "motion", "data.frames": 60},
            "data.frames: 60 is not allowed: a point cannot move a pixel",
        ),
        ({"data.frames": 49}, "data.frames: 49 is not allowed: pattern ascending leaves the frame of 50x130 pixels"),
    ],
)
def test_patterns_that_leave_the_frame_are_refused(changes: dict[str, Any], message: str, params_with: Load) -> None:
    with pytest.raises(UserError) as refused:
        check_paths(drawing(params_with(changes)))
    assert message in str(refused.value)
