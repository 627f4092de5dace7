"""Layers that the models share."""

import keras

from motionbench.models.layers import MultiPixelConv2D
from motionbench.models.registry import ModelParams

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


def classifier(params: ModelParams, classes: int) -> list[keras.Layer]:
    """Return the last layers, from features to class probabilities: dropout, if it is on, and a dense layer."""
    dropout = [keras.layers.Dropout(params.dropout)] if params.dropout else []
    return [*dropout, keras.layers.Dense(classes, activation="softmax")]
