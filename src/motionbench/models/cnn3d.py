"""A 3D CNN: its kernels cover neighbouring frames as well as neighbouring pixels."""

import keras

from motionbench.data.params import ClipShape
from motionbench.models.blocks import normalization
from motionbench.models.registry import Cnn3dParams


def layers(params: Cnn3dParams, clip_shape: ClipShape) -> list[keras.Layer]:
    """Return the layers from clips to features."""
    stack: list[keras.Layer] = [keras.layers.Rescaling(1 / 255)]
    frames = clip_shape[0]
    for filters, side in zip(params.filters, params.kernel_sizes, strict=True):
        kernel = (params.kernel_frames, side, side)
        stack.append(keras.layers.Conv3D(filters, kernel, padding="same", activation="relu"))
        stack += normalization(params)
        stack.append(keras.layers.MaxPooling3D((min(2, frames), 2, 2)))
        frames = max(1, frames // 2)
    return [*stack, keras.layers.GlobalAveragePooling3D()]
