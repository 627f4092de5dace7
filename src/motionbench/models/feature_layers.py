"""Layers without weights to train: from clips, or from features of frames, to numbers for a logistic regression."""

import math
from typing import Any

import keras
import numpy as np
from keras import KerasTensor, ops
from numpy.typing import NDArray

from motionbench.models.layers import Shape

registered = keras.saving.register_keras_serializable(package="motionbench")


def cell_weights(size: int, cells: int) -> NDArray[np.float32]:
    """Return what each of `size` pixels counts in the mean of each of `cells` equal lengths, shape (cells, size).

    >>> (3 * cell_weights(3, 2)).tolist()
    [[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]]
    """
    edges = np.linspace(0, size, cells + 1)
    pixels = np.arange(size)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.asarray(covered.clip(0) * cells / size, np.float32)


def grid_means(images: KerasTensor, grid: int) -> KerasTensor:
    """Average images, shape (..., height, width, channels), in the cells of a grid: (..., grid, grid, channels)."""
    rows, columns = (cell_weights(size, grid) for size in images.shape[-3:-1])
    return ops.einsum("...hwc,rh,kw->...rkc", images, rows, columns)


@registered
class FrameDifferences(keras.layers.Layer):
    """How much the grey of successive frames differs in each cell of a grid.

    Maps clips, shape (clips, frames, height, width, channels), to shape (clips, frames, grid, grid, 1). The first frame
    has no predecessor: its differences are 0.
    """

    def __init__(self, grid: int, **options: Any) -> None:
        super().__init__(**options)
        self.grid = grid

    def call(self, inputs: KerasTensor) -> KerasTensor:
        """Return the mean absolute differences, as shares of full brightness."""
        grey = ops.mean(ops.cast(inputs, "float32"), axis=-1, keepdims=True) / 255
        before = ops.concatenate([grey[:, :1], grey[:, :-1]], axis=1)
        return grid_means(ops.absolute(grey - before), self.grid)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "grid": self.grid}


@registered
class LessMeanOverTime(keras.layers.Layer):
    """What a clip's features change: less their mean over its frames. Shape (clips, frames, ...)."""

    def call(self, inputs: KerasTensor) -> KerasTensor:
        """Return the centred features."""
        features = ops.cast(inputs, "float32")
        return features - ops.mean(features, axis=1, keepdims=True)


@registered
class MeansOverTime(keras.layers.Layer):
    """Sums up the features of a clip's frames, shape (clips, frames, ...), as one row of numbers per clip.

    In order: their mean; how much successive frames differ; the means of four successive parts, less the clip's mean.
    Not in order: mean and standard deviation, which no order of the frames changes.
    """

    def __init__(self, in_order: bool, **options: Any) -> None:
        super().__init__(**options)
        self.in_order = in_order

    def call(self, inputs: KerasTensor) -> KerasTensor:
        """Return shape (clips, numbers)."""
        features = ops.reshape(ops.cast(inputs, "float32"), (-1, inputs.shape[1], math.prod(inputs.shape[2:])))
        mean = ops.mean(features, axis=1)
        if not self.in_order:
            return ops.concatenate([mean, ops.std(features, axis=1)], axis=-1)
        before = ops.concatenate([features[:, :1], features[:, :-1]], axis=1)
        changes = ops.mean(ops.absolute(features - before), axis=1)
        quarters = ops.einsum("bfn,qf->bqn", features - mean[:, None], cell_weights(inputs.shape[1], 4))
        return ops.concatenate([mean, changes, ops.reshape(quarters, (-1, 4 * mean.shape[-1]))], axis=-1)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the output."""
        return input_shape[0], math.prod(input_shape[2:]) * (6 if self.in_order else 2)  # type: ignore[arg-type] # known sizes

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "in_order": self.in_order}


@registered
class Standardize(keras.layers.Layer):
    """Each number in the last axis less its mean, divided by its deviation. Training sets them first."""

    def build(self, input_shape: Shape) -> None:
        """Make the weights."""
        shape = (input_shape[-1],)
        self.mean = self.add_weight(shape=shape, initializer="zeros", trainable=False, name="mean")
        self.deviation = self.add_weight(shape=shape, initializer="ones", trainable=False, name="deviation")

    def call(self, inputs: KerasTensor) -> KerasTensor:
        """Return the standardised numbers."""
        return (inputs - self.mean) / self.deviation
