"""Which frames and places of a clip decide what a model says of it."""

from collections.abc import Callable, Iterator
from itertools import islice, pairwise, product
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from motionbench.data.splits import Clips
from motionbench.reporting.figures import TITLE_COLUMNS, new_figure, short_name

GRID = 6  # places in each direction
CLIPS_AT_ONCE = 8
MOST_FRAMES = 8  # in the picture
SMALLEST_SCALE = 0.01  # so that rounding errors get no colour


class Losses(NamedTuple):
    """How much of the probability of a model's answer is lost where parts of the clip are covered; below 0: gained."""

    answer: str
    probability: float  # of the clip as it is
    frames: NDArray[np.float64]  # by the frame that is covered, shape (frames,)
    places: NDArray[np.float64]  # by the place that is covered in all frames, shape (GRID, GRID), from the top left


def occlude(clip: NDArray[np.uint8], predict: Callable[[Clips], pd.DataFrame]) -> Losses:
    """Cover each frame, and each place in all frames, by the clip's mean over time, in which nothing moves.

    Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (2014), cover places of pictures so.

    Args:
        clip: shape (frames, height, width, channels).
        predict: returns the probability of each class, a column each, of clips.
    """
    unchanged = predict(clip[np.newaxis]).iloc[0]
    answer = str(unchanged.idxmax())
    covered, found = _covered(clip), []
    while clips := list(islice(covered, CLIPS_AT_ONCE)):
        found.append(predict(np.stack(clips))[answer].to_numpy())
    lost = float(unchanged[answer]) - np.concatenate(found).astype(float)
    return Losses(answer, float(unchanged[answer]), lost[: len(clip)], lost[len(clip) :].reshape(GRID, GRID))


def _covered(clip: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Yield the clip with each frame covered, then with each place."""
    mean = np.rint(clip.mean(axis=0)).astype(np.uint8)
    for frame in range(len(clip)):
        covered = clip.copy()
        covered[frame] = mean
        yield covered
    for (top, bottom), (left, right) in product(*(pairwise(_edges(size)) for size in mean.shape[:2])):
        covered = clip.copy()
        covered[:, top:bottom, left:right] = mean[top:bottom, left:right]
        yield covered


def _edges(size: int) -> NDArray[np.int64]:
    """Return where the places begin and end along so many pixels, shape (GRID + 1,)."""
    return np.linspace(0, size, GRID + 1).round().astype(int)


def draw_losses(clip: NDArray[np.uint8], losses: Losses, title: str) -> Figure:
    """Draw what is lost: by place as colours on some of the frames, by frame as bars."""
    figure = new_figure(10, 4.5)
    shown = np.linspace(0, len(clip) - 1, min(len(clip), MOST_FRAMES)).round().astype(int)
    layout = figure.add_gridspec(2, len(shown))
    sizes = [np.diff(_edges(size)) for size in clip.shape[1:3]]
    places = losses.places.repeat(sizes[0], axis=0).repeat(sizes[1], axis=1)  # of each pixel
    scale = max(SMALLEST_SCALE, float(np.abs(places).max()))
    axes = [figure.add_subplot(layout[0, column]) for column in range(len(shown))]
    for axis, frame in zip(axes, shown, strict=True):
        axis.imshow(clip[frame].repeat(3 // clip.shape[-1], axis=-1))
        colours = axis.imshow(places, cmap="coolwarm", vmin=-scale, vmax=scale, alpha=0.7 * np.abs(places) / scale)
        axis.set(xticks=[], yticks=[])
        axis.set_title(f"frame {frame + 1}", fontsize=8)
    figure.colorbar(colours, ax=axes, label="probability lost\nwithout this place", alpha=0.7)
    axis = figure.add_subplot(layout[1, :])
    axis.bar(np.arange(1, len(clip) + 1), losses.frames, color=np.where(losses.frames > 0, "#b40426", "#3b4cc0"))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set(xlabel="frame", ylabel="probability lost\nwithout this frame")
    limit = max(SMALLEST_SCALE, float(np.abs(losses.frames).max()))
    axis.set_ylim(min(-limit / 10, 1.1 * losses.frames.min()), max(limit, 1.1 * losses.frames.max()))
    text = f"{short_name(title, TITLE_COLUMNS)}\n{short_name(losses.answer)} ({losses.probability:.2f})"
    figure.suptitle(text, parse_math=False)
    return figure
