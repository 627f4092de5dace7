"""A control that sees all frames but not their order: a classifier of the mean over time of a CNN's features.

As in Zaheer et al., "Deep Sets" (2017), a hidden layer follows the mean: with enough units, such a network can learn
any function that ignores order. Without that layer, frames could only vote.
"""

import keras

from motionbench.data.params import ClipShape
from motionbench.models.blocks import frame_layers
from motionbench.models.layers import FoldedTimeDistributed
from motionbench.models.registry import ModelParams

HIDDEN_UNITS = 32


def layers(params: ModelParams, _clip_shape: ClipShape) -> list[keras.Layer]:
    """Return the layers from clips to features."""
    return [
        keras.layers.Rescaling(1 / 255),
        *(FoldedTimeDistributed(layer) for layer in frame_layers(params)),
        keras.layers.GlobalAveragePooling1D(),
        keras.layers.Dense(HIDDEN_UNITS, activation="relu"),
    ]
