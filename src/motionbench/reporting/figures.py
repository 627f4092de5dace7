"""Pictures of clips, learning curves and confusions."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image
from rich.cells import cell_len, set_cell_size

from motionbench.core.errors import printable
from motionbench.data.folds import AnySplit
from motionbench.data.splits import Clips

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Of models, also for colour-blind readers: Okabe and Ito (2008), without the yellow."""
MARKERS = "o^sDv"  # 5 markers and 7 colours: 35 models look different
GIF_SCALE = 3
GIF_MILLISECONDS = 100
GAP = 4  # pixels between frames
MOST_CLASSES = 20  # in a picture: more can neither be read nor be drawn in seconds
NAME_COLUMNS = 24  # of a class name in a picture, so that a long one leaves room
TITLE_COLUMNS = 60  # of a file's name above a picture
OTHER_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Source Han Sans SC", "WenQuanYi Zen Hei"),
    *("PingFang SC", "Hiragino Sans GB", "Arial Unicode MS", "Microsoft YaHei", "Malgun Gothic"),
)
"""For letters that DejaVu Sans does not have: those of these that are installed."""


def save_gif(clip: np.ndarray, path: Path) -> None:
    """Write a clip, uint8, shape (frames, height, width, 1 or 3), as an endless animation at three times its size."""
    enlarged = clip.repeat(GIF_SCALE, axis=1).repeat(GIF_SCALE, axis=2)
    enlarged = enlarged[..., 0] if clip.shape[-1] == 1 else enlarged
    first, *others = [Image.fromarray(frame) for frame in enlarged]
    first.save(path, save_all=True, append_images=others, duration=GIF_MILLISECONDS, loop=0)


def model_styles(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return a colour and a marker for each model."""
    return dict(zip(names, zip(cycle(COLOURS), cycle(MARKERS), strict=False), strict=False))  # the cycles are endless


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, in inches. A matplotlibrc of the user changes nothing in it."""
    mpl.rcdefaults()
    installed = font_manager.get_font_names()
    mpl.rcParams["font.family"] = ["DejaVu Sans", *(font for font in OTHER_FONTS if font in installed)]
    # One for each letter in each picture; a reader sees boxes.
    warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
    return Figure(figsize=(width, height), layout="constrained")


def short_name(name: str, columns: int = NAME_COLUMNS) -> str:
    """Return a name on one line, as wide as so many Latin letters at most; letters such as the Chinese count twice."""
    name = printable(name)
    return name if cell_len(name) <= columns else f"{set_cell_size(name, columns - 1).rstrip()}…"


def first_clips(split: AnySplit) -> dict[str, Clips]:
    """Return the first clip of each class that there is, shape (frames, height, width, 1 or 3), by class."""
    _, numbers = np.unique(split.labels, return_index=True)
    return {split.class_names[split.labels[number]]: split.clips[number : number + 1][0] for number in numbers}


def contact_sheet(split: AnySplit) -> Figure:
    """Show the first clip of each class, of the first 20 classes at most."""
    clips = [(short_name(name), clip) for name, clip in first_clips(split).items()]
    figure = film_strips(clips[:MOST_CLASSES])
    if len(clips) > MOST_CLASSES:
        figure.suptitle(f"the first {MOST_CLASSES} of {len(clips)} classes")
    return figure


def film_strips(clips: Sequence[tuple[str, Clips]]) -> Figure:
    """Show five frames of each clip, and all its frames in one, early dark to late bright.

    Args:
        clips: text to show beside a clip, and the clip, shape (frames, height, width, 1 or 3).
    """
    frames, height, width, channels = clips[0][1].shape
    moments = np.unique(np.linspace(0, frames - 1, 5).round().astype(int))
    titles = [*(f"frame {moment + 1}" for moment in moments), "all frames"]
    gap, step = np.full((height, GAP, channels), np.nan if channels == 1 else 1.0), width + GAP
    figure = new_figure(2.2 * len(titles), 1.1 * len(clips))
    axes = figure.subplots(len(clips), squeeze=False)[:, 0]
    ages = np.arange(1, frames + 1)[:, np.newaxis, np.newaxis, np.newaxis] / frames
    for axis, (text, clip) in zip(axes, clips, strict=True):
        bright = clip / 255
        pictures = [*bright[moments], (bright * ages).max(axis=0)]
        # One picture for all frames: an axis for each would take ten times as long to draw.
        strip = np.concatenate([part for picture in pictures for part in (gap, picture)][1:], axis=1)
        axis.imshow(strip, vmin=0, vmax=1, cmap="magma")
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
        axis.set_ylabel(text, rotation="horizontal", ha="right", va="center", parse_math=False)
    axes[0].xaxis.tick_top()
    axes[0].set_xticks(width / 2 + step * np.arange(len(titles)), titles)
    axes[0].tick_params(length=0)
    return figure


def learning_curves(histories: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw validation loss and accuracy of every replicate of every model on one chart.

    Args:
        histories: per model, rows with seed, epoch, validation_loss and validation_accuracy.
    """
    figure = new_figure(9, 3.4)
    axes = figure.subplots(1, 2)
    styles = model_styles(histories)
    for model, history in histories.items():
        colour, _ = styles[model]
        columns = [column for column in ("seed", "fold") if column in history]
        for number, (_, replicate) in enumerate(history.groupby(columns)):
            style = {"color": colour, "marker": ".", "alpha": 0.8, "label": model if number == 0 else None}
            for axis, column in zip(axes, ("validation_loss", "validation_accuracy"), strict=True):
                axis.plot(replicate["epoch"], replicate[column], **style)
    for axis in axes:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].set(xlabel="epoch", ylabel="validation loss (nats)", yscale="log")
    axes[1].set(xlabel="epoch", ylabel="validation accuracy", ylim=(0, 1.03))
    axes[1].legend(title="one line per replicate", loc="lower right")
    return figure


def perturbation_curves(accuracies: pd.DataFrame, chance: float) -> Figure:
    """Draw accuracy against the level of each perturbation: a line at the mean of the replicates, a band over them all.

    Args:
        accuracies: rows of model, perturbation, level and accuracy, one or more per replicate.
        chance: accuracy of guessing.
    """
    names = list(accuracies["perturbation"].unique())
    styles = model_styles(accuracies["model"].unique())
    columns = min(5, max(1, len(names)))
    rows = max(1, -(-len(names) // columns))
    figure = new_figure(2.2 * columns, 2.2 * rows + 0.4)
    axes = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
    for axis, name in zip(axes, names, strict=False):
        for model, curve in accuracies[accuracies["perturbation"] == name].groupby("model", sort=False):
            colour, _ = styles[str(model)]
            levels = curve.groupby("level")["accuracy"].agg(["mean", "min", "max"])
            axis.plot(levels.index, levels["mean"], color=colour, marker=".", label=model)
            axis.fill_between(levels.index, levels["min"], levels["max"], color=colour, alpha=0.2)
        axis.axhline(chance, color="grey", linewidth=0.8, linestyle=":")
        axis.set(title=name.replace("_", " "), ylim=(0, 1.05))
    for axis in axes[len(names) :]:
        axis.set_axis_off()
    for row in figure.axes[::columns]:
        row.set_ylabel("accuracy")
    if names:
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def confusions(matrices: Mapping[str, Sequence[Sequence[int]]], class_names: Sequence[str]) -> Figure:
    """Draw a confusion matrix per model, true classes in rows, the counts of all its replicates together.

    Of more than 20 classes those are shown that all models together confuse most.
    """
    many, longest = len(class_names) > 6, max(cell_len(short_name(name)) for name in class_names)
    # 0.28 inches for a count, and 0.1 for each letter of names that stand upright.
    side, room = max(3.6, 0.28 * min(len(class_names), MOST_CLASSES)), many * 0.1 * longest
    figure = new_figure((side + 0.6) * len(matrices) + room, side + room)
    axes = figure.subplots(1, len(matrices), squeeze=False, sharey=True)[0]
    total = np.sum([*matrices.values()], axis=0)
    confused = total.sum(axis=0) + total.sum(axis=1) - 2 * total.diagonal()
    shown = np.sort(np.argsort(-confused, kind="stable")[:MOST_CLASSES])
    if len(shown) < len(class_names):
        figure.suptitle(f"the {len(shown)} of {len(class_names)} classes that are confused most, with one another")
    ticks, class_names = range(len(shown)), [short_name(class_names[number]) for number in shown]
    for axis, (model, matrix) in zip(axes, matrices.items(), strict=True):
        counts = np.asarray(matrix)[np.ix_(shown, shown)]
        axis.imshow(counts, cmap="Blues", vmin=0)
        axis.set(title=model, xlabel="predicted", ylabel="true", xticks=ticks, yticks=ticks)
        # Class names come from the user: a $ is not TeX.
        rotation, alignment = (90, "center") if many else (30, "right")
        axis.set_xticklabels(class_names, rotation=rotation, ha=alignment, parse_math=False)
        axis.set_yticklabels(class_names, parse_math=False)
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if count > counts.max() / 2 else "black"
            axis.text(column, row, str(count), ha="center", va="center", color=colour)
    return figure
