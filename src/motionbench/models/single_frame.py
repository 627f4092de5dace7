"""A control that sees no motion: a CNN on the first frame alone."""

import keras

from motionbench.data.params import ClipShape
from motionbench.models.blocks import frame_layers
from motionbench.models.registry import ModelParams


def layers(params: ModelParams, clip_shape: ClipShape) -> list[keras.Layer]:
    """Return the layers from clips to features."""
    return [
        keras.layers.Cropping3D(((0, clip_shape[0] - 1), 0, 0)),
        keras.layers.Reshape(clip_shape[1:]),
        keras.layers.Rescaling(1 / 255),
        *frame_layers(params),
    ]
