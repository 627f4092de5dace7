"""A control that sees all frames but not their order: a classifier of the mean over time of a CNN's features.

As in Zaheer et al., "Deep Sets" (2017), a hidden layer follows the mean: with enough units, such a network can learn
any function that ignores order. Without that layer, frames could only vote.
"""

import keras

from motionbench.models.blocks import classifier, frame_layers
from motionbench.models.layers import FoldedTimeDistributed
from motionbench.models.registry import ModelParams

HIDDEN_UNITS = 32


def build(params: ModelParams, clip_shape: tuple[int, int, int, int], classes: int) -> keras.Model:
    """Build the network, from clips to class probabilities; arguments and result as for the CNN-LSTM."""
    return keras.Sequential(
        [
            keras.Input(clip_shape, dtype="uint8"),
            keras.layers.Rescaling(1 / 255),
            *(FoldedTimeDistributed(layer) for layer in frame_layers(params)),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(HIDDEN_UNITS, activation="relu"),
            *classifier(params, classes),
        ],
        name="bag_of_frames",
    )
