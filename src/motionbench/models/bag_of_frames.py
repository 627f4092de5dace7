"""A control that sees all frames but not their order: the mean over time of a CNN's features, and what follows from it.

As in Zaheer et al., "Deep Sets" (2017), a layer follows the mean: a network with one of enough units on either side of
it can tell apart whatever can be told apart without order. Without that layer, frames could only vote.
"""

import keras

from motionbench.models.cnn_lstm import frame_layers
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
            keras.layers.Dense(classes, activation="softmax"),
        ],
        name="bag_of_frames",
    )
