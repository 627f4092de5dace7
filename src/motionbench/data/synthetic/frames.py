"""Trajectories drawn as frames."""

import numpy as np
from numpy.typing import NDArray

from motionbench.data.splits import Clips

PointSize = int | NDArray[np.int64]


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
