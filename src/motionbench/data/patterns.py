"""The four patterns that the point follows, as trajectories.

A pattern is a function (data, clips, random) -> trajectories, shape (clips, frames, 2): row and column of
the point's centre in pixels, rows growing downward. A fifth one is one function here and one line in
`PATTERNS`.

The source (the chapter's section 5.9) moves the point 6 columns a frame, and 2 rows a frame or along
a sine, in frames of 50x130 pixels. `PATTERNS` draws what its text says, scaled to the frame; the same numbers
come out at the source's size. `NOTEBOOK_PATTERNS` draws what its code does.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from motionbench.errors import UserError
from motionbench.params import DataParams

Trajectories = NDArray[np.float64]
Pattern = Callable[[DataParams, int, np.random.Generator], Trajectories]


def constant(data: DataParams, clips: int, random: np.random.Generator) -> Trajectories:
    """The point stays at the centre of the frame."""
    jitter = data.jitter * random.standard_normal((clips, data.frames, 2))
    return np.array([data.height / 2, data.width / 2]) + jitter


def ascending(data: DataParams, clips: int, random: np.random.Generator) -> Trajectories:
    """From the bottom left corner up to the right."""
    heights = _margin(data) + _step(data, data.height) * np.arange(data.frames)
    return _left_to_right(data, clips, random, heights)


def descending(data: DataParams, clips: int, random: np.random.Generator) -> Trajectories:
    """From the left down to the bottom right corner: `ascending` with its heights in reverse order."""
    heights = _margin(data) + _step(data, data.height) * np.arange(data.frames)[::-1]
    return _left_to_right(data, clips, random, heights)


def sine(data: DataParams, clips: int, random: np.random.Generator) -> Trajectories:
    """Along one period of a sine, crest first."""
    angles = np.linspace(2 * np.pi / data.frames, 2 * np.pi, data.frames)
    amplitude = data.height / 2 - _margin(data)
    return _left_to_right(data, clips, random, data.height / 2 + amplitude * np.sin(angles))


def _left_to_right(
    data: DataParams, clips: int, random: np.random.Generator, heights: NDArray[np.float64 | np.int64]
) -> Trajectories:
    """Trajectories through `heights`, pixels above the bottom edge, shape (frames,)."""
    rows = data.height - heights + data.jitter * random.standard_normal((clips, data.frames))
    columns = _step(data, data.width) * np.arange(1, data.frames + 1)
    return np.stack([rows, np.broadcast_to(columns, rows.shape)], axis=-1)


def _margin(data: DataParams) -> int:
    return data.point_size // 2 + 1


def _step(data: DataParams, extent: int) -> int:
    """Whole pixels a frame that keep frames + 1 steps within `extent`; 6 and 2 at the source's size."""
    return extent // (data.frames + 1)


PATTERNS: Mapping[str, Pattern] = {
    "constant": constant,
    "ascending": ascending,
    "descending": descending,
    "sine": sine,
}


def _notebook_constant(_data: DataParams, clips: int, random: np.random.Generator) -> Trajectories:
    # Row 65 of 50: the source swapped row and column, so all frames of this class are black.
    return np.array([65.0, 25.0]) + random.standard_normal((clips, 20, 2))


def _notebook_ascending(_data: DataParams, clips: int, random: np.random.Generator) -> Trajectories:
    # The row grows, so the point goes down on the screen.
    return _notebook_left_to_right(2 * np.arange(1, 21) + 2 + random.standard_normal((clips, 20)))


def _notebook_descending(_data: DataParams, clips: int, random: np.random.Generator) -> Trajectories:
    return _notebook_left_to_right(2 * np.arange(20, 0, -1) + 2 + random.standard_normal((clips, 20)))


def _notebook_sine(_data: DataParams, clips: int, random: np.random.Generator) -> Trajectories:
    noisy = np.sin(np.linspace(np.pi / 10, 2 * np.pi, 20)) + 0.05 * random.standard_normal((clips, 20))
    return _notebook_left_to_right(23 * (noisy + 1) + 4)


def _notebook_left_to_right(rows: NDArray[np.float64]) -> Trajectories:
    return np.stack([rows, np.broadcast_to(6 * np.arange(1, 21), rows.shape)], axis=-1)


NOTEBOOK_PATTERNS: Mapping[str, Pattern] = {
    "constant": _notebook_constant,
    "ascending": _notebook_ascending,
    "descending": _notebook_descending,
    "sine": _notebook_sine,
}


def check_paths(data: DataParams) -> None:
    """Refuse parameters with which a pattern's path, jitter aside, would leave the frame or stand still.

    Raises:
        UserError: naming the pattern and the parameter to change.
    """
    if data.variant == "notebook":
        return
    steady = data.model_copy(update={"jitter": 0.0})
    if _step(data, min(data.height, data.width)) < 1:
        raise UserError(
            f"params.yaml: data.frames: {data.frames} is not allowed: a point cannot move a pixel a frame through "
            f"{data.height}x{data.width} pixels; must be at most {min(data.height, data.width) - 1}"
        )
    for name, pattern in PATTERNS.items():
        path = pattern(steady, 1, np.random.default_rng(0))[0]
        outside = np.flatnonzero(((path < 0) | (path > (data.height, data.width))).any(axis=-1))
        if outside.size:
            row, column = path[outside[0]]
            raise UserError(
                f"params.yaml: data.frames: {data.frames} is not allowed: pattern {name} leaves the frame of "
                f"{data.height}x{data.width} pixels in frame {outside[0]} (row {row:g}, column {column:g}); "
                "lower it or enlarge data.height"
            )
