"""The cost of a model: operations, latency, throughput."""

import math
import timeit
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from motionbench.core.errors import UserError
from motionbench.data.splits import Clips
from motionbench.models.backbone import Embedding
from motionbench.models.layers import FoldedTimeDistributed, FusedConvLSTM2D

Infer = Callable[[Clips], Any]


def as_graph(model: keras.Model) -> Infer:
    """Return `model` as one traced function for any number of clips."""
    signature = tf.TensorSpec(model.input_shape, model.input_dtype)
    # Not a lambda: TensorFlow takes those of one line for one function, and warns that it is traced again and again.
    return cast("Infer", tf.function(partial(model, training=False), [signature]))


def time_batches(infer: Infer, clips: Clips, size: int, warm_up: int, rounds: int) -> NDArray[np.float64]:
    """Return the seconds that each of `rounds` batches of `size` clips takes, after `warm_up` batches."""
    batch = np.resize(clips[:size], (size, *clips.shape[1:]))
    return np.array(timeit.repeat(lambda: infer(batch), number=1, repeat=warm_up + rounds)[warm_up:])


def time_single_clips(infer: Infer, clips: Clips) -> NDArray[np.float64]:
    """Return the milliseconds of classifying one clip alone, 20 times; they do not depend on a model's weights."""
    return 1000 * time_batches(infer, clips, size=1, warm_up=3, rounds=20)


def count_flops(model: keras.Model) -> int:
    """Count the floating point operations of classifying a clip: two for each multiplication and addition.

    Only convolutions and matrix products count, as in the definitions of the networks, whatever a layer computes
    instead; element-wise operations (gates, pooling, normalization, activations) do not.

    Raises:
        UserError: if a layer has weights and there is no rule for it.
    """
    layers = [layer for layer in model.layers if layer.weights]  # others may have several inputs
    return sum(_layer_flops(layer, layer.input.shape, layer.output.shape) for layer in layers)


def _layer_flops(layer: keras.Layer, input_shape: Sequence[int], output_shape: Sequence[int]) -> int:
    # Each weight of a kernel is used once per pixel or step.
    match layer:
        case FoldedTimeDistributed():
            step_input, step_output = ((shape[0], *shape[2:]) for shape in (input_shape, output_shape))
            return input_shape[1] * _layer_flops(layer.layer, step_input, step_output)
        case Embedding():
            return input_shape[1] * count_flops(layer.backbone)
        case keras.Model():
            return count_flops(layer)
        case FusedConvLSTM2D():
            kernels, times = [layer.kernel, layer.recurrent_kernel], math.prod(input_shape[1:4])
        case keras.layers.LSTM():
            kernels, times = [layer.cell.kernel, layer.cell.recurrent_kernel], input_shape[1]
        case keras.layers.Conv1D() | keras.layers.Conv2D() | keras.layers.Conv3D() | keras.layers.DepthwiseConv2D():
            kernels, times = [layer.kernel], math.prod(output_shape[1:-1])
        case keras.layers.SeparableConv2D():
            kernels, times = [layer.depthwise_kernel, layer.pointwise_kernel], math.prod(output_shape[1:-1])
        case keras.layers.Dense():
            kernels, times = [layer.kernel], 1
        case _ if any(len(weight.shape) > 1 for weight in layer.weights):  # one axis: they act on each number alone
            raise UserError(
                f"layer {layer.name} ({type(layer).__name__}): has weights, but models/cost.py has no rule for its "
                "FLOPs; add one to _layer_flops"
            )
        case _:
            return 0
    return sum(2 * times * math.prod(kernel.shape) for kernel in kernels)
