"""The CNN-LSTM: a CNN turns each frame into features, an LSTM reads their sequence."""

import keras

from motionbench.models.layers import FoldedTimeDistributed, MultiPixelConv2D
from motionbench.models.registry import CnnLstmParams, ModelParams


def frame_layers(params: ModelParams) -> list[keras.Layer]:
    """Return the layers of the CNN that turns a frame into a vector of features."""
    layers: list[keras.Layer] = []
    for filters, kernel_size in zip(params.filters, params.kernel_sizes, strict=True):
        layers.append(MultiPixelConv2D(filters, kernel_size, padding="same", activation="relu"))
        layers.append(keras.layers.MaxPooling2D(2))
    layers.append(keras.layers.Flatten())
    return layers


def build(params: CnnLstmParams, clip_shape: tuple[int, int, int, int], classes: int) -> keras.Model:
    """Build the network of the reference notebook's first table, from clips to class probabilities.

    Args:
        clip_shape: frames, height, width and channels of a clip.
        classes: number of classes.

    Returns:
        A model from uint8 clips, shape (batch, *clip_shape), to probabilities, shape (batch, classes).
    """
    cnn_layers = frame_layers(params)
    if params.time_distributed == "whole_cnn":
        cnn_layers = [keras.Sequential(cnn_layers, name="cnn")]
    return keras.Sequential(
        [
            keras.Input(clip_shape, dtype="uint8"),
            keras.layers.Rescaling(1 / 255),
            *(FoldedTimeDistributed(layer) for layer in cnn_layers),
            keras.layers.LSTM(params.lstm_units, activation=params.activation),
            keras.layers.Dense(classes, activation="softmax"),
        ],
        name="cnn_lstm",
    )
