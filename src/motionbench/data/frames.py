"""Trajectories drawn as frames."""

import numpy as np
from numpy.typing import NDArray

Clips = NDArray[np.uint8]


def draw_whole(trajectories: NDArray[np.float64], height: int, width: int, point_size: int) -> Clips:
    """Draw the point as a square that is moved back into the frame where it would cross an edge.

    Args:
        trajectories: row and column of the centre in pixels, shape (clips, frames, 2).

    Returns:
        Clips of 0 and 255, shape (clips, frames, height, width, 1).
    """
    start = np.round(trajectories).astype(np.int64) - point_size // 2
    start = np.clip(start, 0, np.array([height, width]) - point_size)
    return _draw(start, start + point_size, height, width)


def draw_sliced(trajectories: NDArray[np.float64], height: int, width: int, point_size: int) -> Clips:
    """Draw as the source does, by `frame[row - 3:row + 3, column - 3:column + 3] = 255`.

    A slice that starts at a negative index counts from the far edge, so a square that crosses the top edge is not
    drawn; one below the bottom edge is not either. Arguments and result as for `draw_whole`.
    """
    centre = np.round(trajectories).astype(np.int64)
    extent = np.array([height, width])
    start, stop = (
        np.where(index < 0, index + extent, index) for index in (centre - point_size // 2, centre + point_size // 2)
    )
    return _draw(start, stop, height, width)


def _draw(start: NDArray[np.int64], stop: NDArray[np.int64], height: int, width: int) -> Clips:
    rows = _within(start[..., 0], stop[..., 0], height)[..., :, np.newaxis, np.newaxis]
    columns = _within(start[..., 1], stop[..., 1], width)[..., np.newaxis, :, np.newaxis]
    return rows * (np.uint8(255) * columns)


def _within(start: NDArray[np.int64], stop: NDArray[np.int64], extent: int) -> NDArray[np.uint8]:
    pixels = np.arange(extent)
    return ((start[..., np.newaxis] <= pixels) & (pixels < stop[..., np.newaxis])).astype(np.uint8)
