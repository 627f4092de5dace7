"""The CNN-LSTM: a CNN turns each frame into features, an LSTM reads their sequence."""

import keras

from motionbench.data.params import ClipShape
from motionbench.models.blocks import frame_layers
from motionbench.models.layers import FoldedTimeDistributed
from motionbench.models.registry import CnnLstmParams


def layers(params: CnnLstmParams, _clip_shape: ClipShape) -> list[keras.Layer]:
    """Return the layers from clips to features, as in the reference notebook's first table."""
    cnn_layers = frame_layers(params)
    if params.time_distributed == "whole_cnn":
        cnn_layers = [keras.Sequential(cnn_layers, name="cnn")]
    return [
        keras.layers.Rescaling(1 / 255),
        *(FoldedTimeDistributed(layer) for layer in cnn_layers),
        keras.layers.LSTM(params.lstm_units, activation=params.activation),
    ]
