"""A control that sees no motion: a CNN on the first frame alone."""

import keras

from motionbench.models.blocks import classifier, frame_layers
from motionbench.models.registry import ModelParams


def build(params: ModelParams, clip_shape: tuple[int, int, int, int], classes: int) -> keras.Model:
    """Build the network, from clips to class probabilities; arguments and result as for the CNN-LSTM."""
    frames = clip_shape[0]
    return keras.Sequential(
        [
            keras.Input(clip_shape, dtype="uint8"),
            keras.layers.Cropping3D(((0, frames - 1), 0, 0)),
            keras.layers.Reshape(clip_shape[1:]),
            keras.layers.Rescaling(1 / 255),
            *frame_layers(params),
            *classifier(params, classes),
        ],
        name="single_frame",
    )
