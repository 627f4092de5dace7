"""The networks: the layers of each model of the registry, from clips to features, and those that all end with."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import keras

from motionbench.data.params import ClipShape
from motionbench.models import registry
from motionbench.models.feature_layers import FrameDifferences, LessMeanOverTime, MeansOverTime, Standardize
from motionbench.models.layers import FoldedTimeDistributed, FusedConvLSTM2D, MultiPixelConv2D
from motionbench.models.registry import CnnParams, GradientParams, ModelParams

HIDDEN_UNITS = 32
# Keras' 0.99 suits epochs of hundreds of steps: after one of ten steps, validation would still use 90 % of the
# statistics that training started with.
MOMENTUM = 0.9
# Of a standardized clip: the deviation is a quarter of a level of 255. Without it, a clip that stands still would be
# the noise of its compression. Keras' 0.001 is the variance of dark clips with small movements.
SMALLEST_VARIANCE = 1e-6


def frame_layers(params: CnnParams) -> list[keras.Layer]:
    """Return the layers of the CNN that turns a frame into a vector of features."""
    layers: list[keras.Layer] = []
    for filters, kernel_size in zip(params.filters, params.kernel_sizes, strict=True):
        layers.append(MultiPixelConv2D(filters, kernel_size, padding="same", activation="relu"))
        layers += normalization(params)
        layers.append(keras.layers.MaxPooling2D(2))
    layers.append(keras.layers.Flatten())
    return layers


def scaled_pixels(params: CnnParams, *, frames: bool = True) -> list[keras.Layer]:
    """Return the layers that turn pixels of clips, or of single frames, into shares of full brightness.

    Standardized, a clip is what its frames change, which no order of the frames alters, at deviation 1. A single frame
    is less its own mean.
    """
    side, layers = params.downsample, [keras.layers.Rescaling(1 / 255)]
    if side > 1:
        layers.append(keras.layers.AveragePooling3D((1, side, side)) if frames else keras.layers.AveragePooling2D(side))
    if params.standardize:
        axes = [1, 2, 3, 4] if frames else [1, 2, 3]
        of_clip = keras.layers.LayerNormalization(axes, epsilon=SMALLEST_VARIANCE, center=False, scale=False)
        layers += [*([LessMeanOverTime()] if frames else []), of_clip]
    return layers


def normalization(params: CnnParams) -> list[keras.Layer]:
    """Return what stands between a convolution and its pooling: batch normalization, if it is on."""
    return [keras.layers.BatchNormalization(momentum=MOMENTUM)] if params.batch_normalization else []


def cnn_lstm(params: registry.CnnLstmParams, _clip_shape: ClipShape) -> list[keras.Layer]:
    """A CNN turns each frame into features, an LSTM reads their sequence: the reference notebook's first table."""
    cnn_layers = frame_layers(params)
    if params.time_distributed == "whole_cnn":
        cnn_layers = [keras.Sequential(cnn_layers, name="cnn")]
    return [
        *scaled_pixels(params),
        *(FoldedTimeDistributed(layer) for layer in cnn_layers),
        keras.layers.LSTM(params.lstm_units, activation=params.activation),
    ]


def convlstm(params: registry.ConvLstmParams, _clip_shape: ClipShape) -> list[keras.Layer]:
    """LSTMs whose state is an image and whose products are convolutions: the reference notebook's second table.

    All of them but the last return a sequence.
    """
    stack: list[keras.Layer] = scaled_pixels(params)
    last = len(params.filters) - 1
    for depth, (filters, kernel_size) in enumerate(zip(params.filters, params.kernel_sizes, strict=True)):
        stack.append(FusedConvLSTM2D(filters, kernel_size, params.activation, return_sequences=depth < last))
        after = [*normalization(params), keras.layers.MaxPooling2D(2)]
        stack += [FoldedTimeDistributed(layer) for layer in after] if depth < last else after
    return [*stack, keras.layers.Flatten()]


def cnn3d(params: registry.Cnn3dParams, clip_shape: ClipShape) -> list[keras.Layer]:
    """A CNN whose kernels cover neighbouring frames as well as neighbouring pixels."""
    stack: list[keras.Layer] = scaled_pixels(params)
    frames = clip_shape[0]
    for filters, side in zip(params.filters, params.kernel_sizes, strict=True):
        kernel = (params.kernel_frames, side, side)
        stack.append(keras.layers.Conv3D(filters, kernel, padding="same", activation="relu"))
        stack += normalization(params)
        stack.append(keras.layers.MaxPooling3D((min(2, frames), 2, 2)))
        frames = max(1, frames // 2)
    return [*stack, keras.layers.GlobalAveragePooling3D()]


def single_frame(params: CnnParams, clip_shape: ClipShape) -> list[keras.Layer]:
    """A control that sees no motion: a CNN on the first frame alone."""
    return [
        keras.layers.Cropping3D(((0, clip_shape[0] - 1), 0, 0)),
        keras.layers.Reshape(clip_shape[1:]),
        *scaled_pixels(params, frames=False),
        *frame_layers(params),
    ]


def bag_of_frames(params: CnnParams, _clip_shape: ClipShape) -> list[keras.Layer]:
    """A control that sees all frames but not their order: a classifier of the mean over time of a CNN's features.

    As in Zaheer et al., "Deep Sets" (2017), a hidden layer follows the mean: with enough units, such a network can
    learn any function that ignores order. Without that layer, frames could only vote.
    """
    return [
        *scaled_pixels(params),
        *(FoldedTimeDistributed(layer) for layer in frame_layers(params)),
        keras.layers.GlobalAveragePooling1D(),
        keras.layers.Dense(HIDDEN_UNITS, activation="relu"),
    ]


def frame_differences(_params: ModelParams, _clip_shape: ClipShape) -> list[keras.Layer]:
    """A baseline without weights of its own: a logistic regression of grey differences of frames on a 4x4 grid."""
    return [FrameDifferences(4), keras.layers.Flatten(), Standardize()]


def pretrained_lstm(params: registry.LstmParams, features_shape: ClipShape) -> list[keras.Layer]:
    """An LSTM that reads what changes in a backbone's features; the mean of its states, not the last one alone."""
    return [
        LessMeanOverTime(),
        keras.layers.Reshape((features_shape[0], math.prod(features_shape[1:]))),
        Standardize(),
        keras.layers.LSTM(params.lstm_units, return_sequences=True),
        keras.layers.GlobalAveragePooling1D(),
    ]


def pretrained_linear(_params: ModelParams, _features_shape: ClipShape) -> list[keras.Layer]:
    """A logistic regression of a backbone's features: their mean, their changes, and four successive parts in order."""
    return [MeansOverTime(in_order=True), Standardize()]


def pretrained_bag(_params: ModelParams, _features_shape: ClipShape) -> list[keras.Layer]:
    """A control that sees a backbone's features of all frames but not their order: mean and deviation over time."""
    return [MeansOverTime(in_order=False), Standardize()]


LAYERS: Mapping[str, Callable[[Any, ClipShape], list[keras.Layer]]] = {
    "cnn_lstm": cnn_lstm,
    "convlstm": convlstm,
    "cnn3d": cnn3d,
    "pretrained_lstm": pretrained_lstm,
    "pretrained_linear": pretrained_linear,
    "frame_differences": frame_differences,
    "single_frame": single_frame,
    "bag_of_frames": bag_of_frames,
    "pretrained_bag": pretrained_bag,
}


def build_model(model_name: str, params: ModelParams, clip_shape: ClipShape, classes: int) -> keras.Model:
    """Build a Keras model from uint8 clips, shape (batch, *clip_shape), to probabilities, shape (batch, classes).

    A model that reads features has those of each frame in place of pixels: float16, (batch, frames, rows, columns,
    channels).
    """
    clips = keras.Input(clip_shape, dtype="float16" if registry.reads_features(model_name) else "uint8")
    features = LAYERS[model_name](params, clip_shape)
    dropout = [keras.layers.Dropout(params.dropout)] if isinstance(params, GradientParams) and params.dropout else []
    last = keras.layers.Dense(classes, activation="softmax")
    return keras.Sequential([clips, *features, *dropout, last], name=model_name)
