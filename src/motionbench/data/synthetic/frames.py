"""Trajectories drawn as frames, and splits of them."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from motionbench.data.splits import SPLITS, Clips, DatasetInfo, NewDataset, NewSplit
from motionbench.data.synthetic.params import Drawing
from motionbench.data.synthetic.patterns import (
    MOTION_PATTERNS,
    NOTEBOOK_PATTERNS,
    PATTERNS,
    Pattern,
    check_paths,
    point_sizes,
)

PointSize = int | NDArray[np.int64]
FRAME_SECONDS = 0.1  # as the samples are shown
CLIPS_AT_ONCE = 8  # 1 MB of the default clips, which fits the processor's cache: memory stays bounded


def draw_clamped(trajectories: NDArray[np.float64], height: int, width: int, point_size: PointSize) -> Clips:
    """Draw the point as a square that is moved back into the frame where it would cross an edge.

    Args:
        trajectories: row and column of the centre in pixels, shape (clips, frames, 2).
        point_size: side of the square in pixels, one for all clips or shape (clips, 1, 1).

    Returns:
        Clips of 0 and 255, shape (clips, frames, height, width, 1).
    """
    start = np.round(trajectories).astype(np.int64) - point_size // 2
    start = np.clip(start, 0, np.array([height, width]) - point_size)
    return _draw(start, start + point_size, height, width)


def draw_wrapped(trajectories: NDArray[np.float64], height: int, width: int, point_size: PointSize) -> Clips:
    """Draw the point as a square whose part beyond an edge enters at the opposite one.

    Arguments and result as for `draw_clamped`.
    """
    start = np.round(trajectories).astype(np.int64) - point_size // 2
    rows, columns = (
        ((np.arange(extent) - start[..., axis, np.newaxis]) % extent < point_size).astype(np.uint8)
        for axis, extent in enumerate((height, width))
    )
    return _cross(rows, columns)


def draw_sliced(trajectories: NDArray[np.float64], height: int, width: int, point_size: PointSize) -> Clips:
    """Draw as the reference notebook does, by `frame[row - 3:row + 3, column - 3:column + 3] = 255`.

    A slice that starts at a negative index counts from the far edge, so a square that crosses the top edge is not
    drawn; one below the bottom edge is not either. Arguments and result as for `draw_clamped`.
    """
    centre = np.round(trajectories).astype(np.int64)
    extent = np.array([height, width])
    start, stop = (
        np.where(index < 0, index + extent, index) for index in (centre - point_size // 2, centre + point_size // 2)
    )
    return _draw(start, stop, height, width)


def _draw(start: NDArray[np.int64], stop: NDArray[np.int64], height: int, width: int) -> Clips:
    return _cross(_within(start[..., 0], stop[..., 0], height), _within(start[..., 1], stop[..., 1], width))


def _within(start: NDArray[np.int64], stop: NDArray[np.int64], extent: int) -> NDArray[np.uint8]:
    pixels = np.arange(extent)
    return ((start[..., np.newaxis] <= pixels) & (pixels < stop[..., np.newaxis])).astype(np.uint8)


def _cross(rows: NDArray[np.uint8], columns: NDArray[np.uint8]) -> Clips:
    """Light the pixels whose row and column are both marked with 1, shape (clips, frames, height or width)."""
    return rows[..., :, np.newaxis, np.newaxis] * (np.uint8(255) * columns[..., np.newaxis, :, np.newaxis])


def draw_dataset(drawing: Drawing) -> NewDataset:
    """Return the data set of the three splits, to be written.

    Raises:
        UserError: if a pattern's path would leave the frame.
    """
    check_paths(drawing)
    info = DatasetInfo(source="synthetic", resize="pad", seconds=drawing.frames * FRAME_SECONDS)
    return NewDataset(info, {name: draw_split(name, drawing) for name in SPLITS})


def draw_split(name: str, drawing: Drawing) -> NewSplit:
    """Return one split, class after class, to be written."""
    patterns, draw = {
        "corrected": (PATTERNS, draw_clamped),
        "notebook": (NOTEBOOK_PATTERNS, draw_sliced),
        "motion": (MOTION_PATTERNS, draw_wrapped),
    }[drawing.variant]
    labels = np.repeat(np.arange(len(patterns)), drawing.clips_per_class)
    return NewSplit(list(patterns), labels, _draw_batches(name, drawing, patterns, draw))


def _draw_batches(
    name: str, drawing: Drawing, patterns: Mapping[str, Pattern], draw: Callable[..., Clips]
) -> Iterator[Clips]:
    for label, pattern in enumerate(patterns.values()):
        # A separate stream per split and class: more clips of one do not change those of another.
        random = np.random.default_rng([drawing.seed, SPLITS.index(name), label])
        trajectories = pattern(drawing, drawing.clips_per_class, random)
        sizes = point_sizes(drawing, drawing.clips_per_class, random)
        for first in range(0, drawing.clips_per_class, CLIPS_AT_ONCE):
            some = slice(first, first + CLIPS_AT_ONCE)
            yield draw(trajectories[some], drawing.height, drawing.width, sizes[some])
