"""A 3D CNN: its kernels cover neighbouring frames as well as neighbouring pixels."""

import keras

from motionbench.models.blocks import classifier, normalization
from motionbench.models.registry import Cnn3dParams


def build(params: Cnn3dParams, clip_shape: tuple[int, int, int, int], classes: int) -> keras.Model:
    """Build the network, from clips to class probabilities; arguments and result as for the CNN-LSTM."""
    layers: list[keras.Layer] = []
    frames = clip_shape[0]
    for filters, side in zip(params.filters, params.kernel_sizes, strict=True):
        kernel = (params.kernel_frames, side, side)
        layers.append(keras.layers.Conv3D(filters, kernel, padding="same", activation="relu"))
        layers += normalization(params)
        layers.append(keras.layers.MaxPooling3D((min(2, frames), 2, 2)))
        frames = max(1, frames // 2)
    return keras.Sequential(
        [
            keras.Input(clip_shape, dtype="uint8"),
            keras.layers.Rescaling(1 / 255),
            *layers,
            keras.layers.GlobalAveragePooling3D(),
            *classifier(params, classes),
        ],
        name="cnn3d",
    )
