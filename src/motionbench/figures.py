"""Pictures of clips, learning curves and confusions."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from motionbench.data.splits import Split

MODEL_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito (2008): told apart by everyone
GIF_SCALE = 3
GIF_MILLISECONDS = 100


def save_gif(clip: np.ndarray, path: Path) -> None:
    """Write a clip, uint8, shape (frames, height, width, 1), as an endless animation at three times its size."""
    enlarged = np.kron(clip[..., 0], np.ones((1, GIF_SCALE, GIF_SCALE), dtype=np.uint8))
    first, *others = [Image.fromarray(frame) for frame in enlarged]
    first.save(path, save_all=True, append_images=others, duration=GIF_MILLISECONDS, loop=0)


def contact_sheet(split: Split, shown: int = 5) -> Figure:
    """Show `shown` frames of the first clip of each class, and all its frames in one, early dark to late bright."""
    frames = split.clips.shape[1]
    moments = np.unique(np.linspace(0, frames - 1, shown).round().astype(int))
    figure = Figure(figsize=(2.2 * (len(moments) + 1), 1.1 * len(split.class_names)), layout="constrained")
    axes = figure.subplots(len(split.class_names), len(moments) + 1, squeeze=False)
    for label, name in enumerate(split.class_names):
        clip = split.clips[np.flatnonzero(split.labels == label)[0], ..., 0]
        ages = np.arange(1, frames + 1)[:, np.newaxis, np.newaxis] / frames
        pictures = [*clip[moments] / 255, (clip / 255 * ages).max(axis=0)]
        titles = [*(f"frame {moment + 1}" for moment in moments), "all frames"]
        for axis, picture, title in zip(axes[label], pictures, titles, strict=True):
            axis.imshow(picture, vmin=0, vmax=1, cmap="magma")
            axis.set(xticks=[], yticks=[], title=title if label == 0 else "")
        axes[label, 0].set_ylabel(name, parse_math=False)
    return figure


def learning_curves(histories: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw validation loss and accuracy of every replicate of every model on one chart.

    Args:
        histories: per model, rows with seed, epoch, validation_loss and validation_accuracy.
    """
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots(1, 2)
    for (model, history), colour in zip(histories.items(), MODEL_COLOURS, strict=False):
        for number, (_, replicate) in enumerate(history.groupby("seed")):
            for axis, column in zip(axes, ("validation_loss", "validation_accuracy"), strict=True):
                axis.plot(
                    replicate["epoch"], replicate[column], color=colour, marker=".", alpha=0.8,
                    label=model if number == 0 else None,
                )  # fmt: skip
    axes[0].set(xlabel="epoch", ylabel="validation loss (nats)", yscale="log")
    axes[1].set(xlabel="epoch", ylabel="validation accuracy", ylim=(0, 1.03))
    axes[1].legend(title="a line a replicate", loc="lower right")
    return figure


def confusions(matrices: Mapping[str, Sequence[Sequence[int]]], class_names: Sequence[str]) -> Figure:
    """Draw a confusion matrix a model, true classes in rows, the counts of all its replicates together."""
    figure = Figure(figsize=(4.2 * len(matrices), 3.6), layout="constrained")
    axes = figure.subplots(1, len(matrices), squeeze=False)[0]
    ticks = range(len(class_names))
    for axis, (model, matrix) in zip(axes, matrices.items(), strict=True):
        counts = np.asarray(matrix)
        axis.imshow(counts, cmap="Blues", vmin=0)
        axis.set(title=model, xlabel="predicted", ylabel="true", xticks=ticks, yticks=ticks)
        # Whoever gave the clips named the classes: a $ in a name is none of TeX's.
        axis.set_xticklabels(class_names, rotation=30, ha="right", parse_math=False)
        axis.set_yticklabels(class_names, parse_math=False)
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if count > counts.max() / 2 else "black"
            axis.text(column, row, str(count), ha="center", va="center", color=colour)
    return figure
