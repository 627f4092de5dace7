"""The networks: the layers of each model of the registry, from clips to features, and those that all end with."""

from collections.abc import Callable, Mapping
from typing import Any

import keras

from motionbench.data.params import ClipShape
from motionbench.models import registry
from motionbench.models.layers import FoldedTimeDistributed, FusedConvLSTM2D, MultiPixelConv2D
from motionbench.models.registry import ModelParams

HIDDEN_UNITS = 32
# Keras' 0.99 suits epochs of hundreds of steps: after one of ten steps, validation would still use 90 % of the
# statistics that training started with.
MOMENTUM = 0.9


def frame_layers(params: ModelParams) -> list[keras.Layer]:
    """Return the layers of the CNN that turns a frame into a vector of features."""
    layers: list[keras.Layer] = []
    for filters, kernel_size in zip(params.filters, params.kernel_sizes, strict=True):
        layers.append(MultiPixelConv2D(filters, kernel_size, padding="same", activation="relu"))
        layers += normalization(params)
        layers.append(keras.layers.MaxPooling2D(2))
    layers.append(keras.layers.Flatten())
    return layers


def normalization(params: ModelParams) -> list[keras.Layer]:
    """Return what stands between a convolution and its pooling: batch normalization, if it is on."""
    return [keras.layers.BatchNormalization(momentum=MOMENTUM)] if params.batch_normalization else []


def cnn_lstm(params: registry.CnnLstmParams, _clip_shape: ClipShape) -> list[keras.Layer]:
    """A CNN turns each frame into features, an LSTM reads their sequence: the reference notebook's first table."""
    cnn_layers = frame_layers(params)
    if params.time_distributed == "whole_cnn":
        cnn_layers = [keras.Sequential(cnn_layers, name="cnn")]
    return [
        keras.layers.Rescaling(1 / 255),
        *(FoldedTimeDistributed(layer) for layer in cnn_layers),
        keras.layers.LSTM(params.lstm_units, activation=params.activation),
    ]


def convlstm(params: registry.ConvLstmParams, _clip_shape: ClipShape) -> list[keras.Layer]:
    """LSTMs whose state is an image and whose products are convolutions: the reference notebook's second table.

    All of them but the last return a sequence.
    """
    stack: list[keras.Layer] = [keras.layers.Rescaling(1 / 255)]
    last = len(params.filters) - 1
    for depth, (filters, kernel_size) in enumerate(zip(params.filters, params.kernel_sizes, strict=True)):
        stack.append(FusedConvLSTM2D(filters, kernel_size, params.activation, return_sequences=depth < last))
        after = [*normalization(params), keras.layers.MaxPooling2D(2)]
        stack += [FoldedTimeDistributed(layer) for layer in after] if depth < last else after
    return [*stack, keras.layers.Flatten()]


def cnn3d(params: registry.Cnn3dParams, clip_shape: ClipShape) -> list[keras.Layer]:
    """A CNN whose kernels cover neighbouring frames as well as neighbouring pixels."""
    stack: list[keras.Layer] = [keras.layers.Rescaling(1 / 255)]
    frames = clip_shape[0]
    for filters, side in zip(params.filters, params.kernel_sizes, strict=True):
        kernel = (params.kernel_frames, side, side)
        stack.append(keras.layers.Conv3D(filters, kernel, padding="same", activation="relu"))
        stack += normalization(params)
        stack.append(keras.layers.MaxPooling3D((min(2, frames), 2, 2)))
        frames = max(1, frames // 2)
    return [*stack, keras.layers.GlobalAveragePooling3D()]


def single_frame(params: ModelParams, clip_shape: ClipShape) -> list[keras.Layer]:
    """A control that sees no motion: a CNN on the first frame alone."""
    return [
        keras.layers.Cropping3D(((0, clip_shape[0] - 1), 0, 0)),
        keras.layers.Reshape(clip_shape[1:]),
        keras.layers.Rescaling(1 / 255),
        *frame_layers(params),
    ]


def bag_of_frames(params: ModelParams, _clip_shape: ClipShape) -> list[keras.Layer]:
    """A control that sees all frames but not their order: a classifier of the mean over time of a CNN's features.

    As in Zaheer et al., "Deep Sets" (2017), a hidden layer follows the mean: with enough units, such a network can
    learn any function that ignores order. Without that layer, frames could only vote.
    """
    return [
        keras.layers.Rescaling(1 / 255),
        *(FoldedTimeDistributed(layer) for layer in frame_layers(params)),
        keras.layers.GlobalAveragePooling1D(),
        keras.layers.Dense(HIDDEN_UNITS, activation="relu"),
    ]


LAYERS: Mapping[str, Callable[[Any, ClipShape], list[keras.Layer]]] = {
    "cnn_lstm": cnn_lstm,
    "convlstm": convlstm,
    "cnn3d": cnn3d,
    "single_frame": single_frame,
    "bag_of_frames": bag_of_frames,
}


def build_model(model_name: str, params: ModelParams, clip_shape: ClipShape, classes: int) -> keras.Model:
    """Build a Keras model from uint8 clips, shape (batch, *clip_shape), to probabilities, shape (batch, classes)."""
    clips = keras.Input(clip_shape, dtype="uint8")
    features = LAYERS[model_name](params, clip_shape)
    dropout = [keras.layers.Dropout(params.dropout)] if params.dropout else []
    last = keras.layers.Dense(classes, activation="softmax")
    return keras.Sequential([clips, *features, *dropout, last], name=model_name)
