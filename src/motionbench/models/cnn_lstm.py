"""The CNN-LSTM: a CNN turns each frame into features, an LSTM reads their sequence."""

import keras

from motionbench.models.blocks import classifier, frame_layers
from motionbench.models.layers import FoldedTimeDistributed
from motionbench.models.registry import CnnLstmParams


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
            *classifier(params, classes),
        ],
        name="cnn_lstm",
    )
