"""The four patterns that the point follows, as trajectories.

A pattern is a function (data, clips, random) -> trajectories, shape (clips, frames, 2): row and column of the point's
centre in pixels, rows growing downward. A fifth pattern is one function here and its name in `PATTERNS`; the variants
notebook and motion have those of their own mappings.

The reference notebook (the course chapter's section 5.9) moves the point 6 columns per frame, and 2 rows per frame or
along a sine, in frames of 50x130 pixels. `PATTERNS` draws what its text says, scaled to the frame; at its frame size
the numbers are the same. `NOTEBOOK_PATTERNS` draws what its code does.

In both, the point's position in the first frame already shows the class. In `MOTION_PATTERNS` only its motion does:
start, speed, sideways direction and size vary, and opposite edges of the frame are joined, so that in every frame of
every class each position is equally likely. The best possible accuracy there is

- 1/4 from any single frame: chance;
- 3/4 at most from all frames in no order: played backward, an ascending clip is a descending one and as likely, so
  only order distinguishes these two. A constant clip can be recognised without order, a sine in most clips;
- 1 from all frames in order, at the sizes and the jitter of params.yaml.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from motionbench.core.errors import UserError
from motionbench.data.synthetic.params import Drawing

LABEL_MAPS = {
    "reversed": {"ascending": "descending", "descending": "ascending"},
    "flipped": {"ascending": "descending", "descending": "ascending"},
    "mirrored": {},  # A class is named after what the point does up and down.
}
"""What the labels become of clips that are played backwards, or whose top and bottom, or left and right, swap.

With the variant motion, a clip so changed is one that its new class draws as often. The other variants draw clips from
left to right alone, and a sine crest first."""

Trajectories = NDArray[np.float64]
Pattern = Callable[[Drawing, int, np.random.Generator], Trajectories]


def constant(data: Drawing, clips: int, random: np.random.Generator) -> Trajectories:
    """The point stays at the centre of the frame."""
    jitter = data.jitter * random.standard_normal((clips, data.frames, 2))
    return np.array([data.height / 2, data.width / 2]) + jitter


def ascending(data: Drawing, clips: int, random: np.random.Generator) -> Trajectories:
    """From the bottom left corner up to the right."""
    heights = _margin(data) + _step(data, data.height) * np.arange(data.frames)
    return _left_to_right(data, clips, random, heights)


def descending(data: Drawing, clips: int, random: np.random.Generator) -> Trajectories:
    """From the left down to the bottom right corner: `ascending` with its heights in reverse order."""
    heights = _margin(data) + _step(data, data.height) * np.arange(data.frames)[::-1]
    return _left_to_right(data, clips, random, heights)


def sine(data: Drawing, clips: int, random: np.random.Generator) -> Trajectories:
    """Along one period of a sine, crest first."""
    angles = np.linspace(2 * np.pi / data.frames, 2 * np.pi, data.frames)
    amplitude = data.height / 2 - _margin(data)
    return _left_to_right(data, clips, random, data.height / 2 + amplitude * np.sin(angles))


def _left_to_right(
    data: Drawing, clips: int, random: np.random.Generator, heights: NDArray[np.float64 | np.int64]
) -> Trajectories:
    """Trajectories through `heights`, pixels above the bottom edge, shape (frames,)."""
    rows = data.height - heights + data.jitter * random.standard_normal((clips, data.frames))
    columns = _step(data, data.width) * np.arange(1, data.frames + 1)
    return np.stack([rows, np.broadcast_to(columns, rows.shape)], axis=-1)


def _margin(data: Drawing) -> int:
    return data.point_size // 2 + 1


def _step(data: Drawing, extent: int) -> int:
    """Whole pixels per frame that keep frames + 1 steps within `extent`; 6 and 2 at the reference notebook's size."""
    return extent // (data.frames + 1)


PATTERNS: Mapping[str, Pattern] = {each.__name__: each for each in (constant, ascending, descending, sine)}


def _notebook_constant(_data: Drawing, clips: int, random: np.random.Generator) -> Trajectories:
    # Row 65 of 50: the notebook swaps row and column, so all frames of this class are black.
    return np.array([65.0, 25.0]) + random.standard_normal((clips, 20, 2))


def _notebook_ascending(_data: Drawing, clips: int, random: np.random.Generator) -> Trajectories:
    # The row grows, so the point goes down on the screen.
    return _notebook_left_to_right(2 * np.arange(1, 21) + 2 + random.standard_normal((clips, 20)))


def _notebook_descending(_data: Drawing, clips: int, random: np.random.Generator) -> Trajectories:
    return _notebook_left_to_right(2 * np.arange(20, 0, -1) + 2 + random.standard_normal((clips, 20)))


def _notebook_sine(_data: Drawing, clips: int, random: np.random.Generator) -> Trajectories:
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


def _motion_constant(data: Drawing, clips: int, random: np.random.Generator) -> Trajectories:
    """The point stays where it starts."""
    return _from_anywhere(data, random, np.zeros((clips, data.frames, 2)))


def _motion_ascending(data: Drawing, clips: int, random: np.random.Generator) -> Trajectories:
    """Up, between half and one and a half times as fast as in `ascending`."""
    return _sideways(data, random, -_climb(data, clips, random))


def _motion_descending(data: Drawing, clips: int, random: np.random.Generator) -> Trajectories:
    """Down, as fast as `_motion_ascending` goes up."""
    return _sideways(data, random, _climb(data, clips, random))


def _motion_sine(data: Drawing, clips: int, random: np.random.Generator) -> Trajectories:
    """Along one period of a sine from any angle on, 12 to 24 % of the height to either side."""
    amplitude = data.height * _uniform(random, 0.12, 0.24, clips)
    angles = _uniform(random, 0, 2 * np.pi, clips) + 2 * np.pi / data.frames * np.arange(data.frames)
    return _sideways(data, random, amplitude * np.sin(angles))


def _climb(data: Drawing, clips: int, random: np.random.Generator) -> NDArray[np.float64]:
    return _step(data, data.height) * _uniform(random, 0.5, 1.5, clips) * np.arange(data.frames)


def _sideways(data: Drawing, random: np.random.Generator, rows: NDArray[np.float64]) -> Trajectories:
    """Trajectories through `rows`, shape (clips, frames), going left as often and as fast as right."""
    speed = _step(data, data.width) * _uniform(random, -1.5, 1.5, len(rows))
    return _from_anywhere(data, random, np.stack([rows, speed * np.arange(data.frames)], axis=-1))


def _from_anywhere(data: Drawing, random: np.random.Generator, path: Trajectories) -> Trajectories:
    """Give each path, shape (clips, frames, 2), its own start; what leaves at one edge enters at the opposite one."""
    extent = (data.height, data.width)
    start = random.spawn(1)[0].uniform(0, extent, (len(path), 1, 2))
    jitter = data.jitter * random.standard_normal(path.shape)
    trajectories: Trajectories = (start + path + jitter) % extent
    return trajectories


def _uniform(random: np.random.Generator, low: float, high: float, clips: int) -> NDArray[np.float64]:
    """Draw one number per clip, shape (clips, 1), from a separate stream: more clips do not change the first ones."""
    return random.spawn(1)[0].uniform(low, high, (clips, 1))


MOTION_PATTERNS: Mapping[str, Pattern] = {
    "constant": _motion_constant,
    "ascending": _motion_ascending,
    "descending": _motion_descending,
    "sine": _motion_sine,
}


def point_sizes(data: Drawing, clips: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Return the side of each clip's square in pixels, shape (clips, 1, 1); they differ only with variant motion."""
    if data.variant != "motion":
        return np.full((clips, 1, 1), data.point_size)
    return data.point_size + random.spawn(1)[0].choice([-2, 0, 2], (clips, 1, 1))


def check_paths(data: Drawing) -> None:
    """Refuse parameters with which a pattern's path, jitter aside, would leave the frame or stand still.

    Raises:
        UserError: naming the pattern and the parameter to change.
    """
    if data.variant == "notebook":
        return
    steady = data._replace(jitter=0.0)
    if _step(data, min(data.height, data.width)) < 1:
        raise UserError(
            f"params.yaml: data.frames: {data.frames} is not allowed: a point cannot move a pixel per frame through "
            f"{data.height}x{data.width} pixels; must be at most {min(data.height, data.width) - 1}"
        )
    if data.variant == "motion":
        return  # What leaves the frame enters at the opposite edge.
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
