"""What a model costs: operations, latency, throughput."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from motionbench.core.errors import UserError
from motionbench.data.splits import Clips, Split
from motionbench.execution.runtime import fix_threads
from motionbench.models.archive import load_model
from motionbench.models.layers import FoldedTimeDistributed, FusedConvLSTM2D


class Cost(TypedDict):
    """What inference costs in one process with the threads of a replicate; quartiles, warm-up excluded."""

    flops: int
    """Of classifying a clip, as `count_flops` counts them."""
    latency_milliseconds: list[float]
    """Of one clip alone."""
    clips_per_second: list[float]
    """In batches of 32."""


def measure_cost(path: Path, split: Split, threads: int) -> Cost:
    """Time the model at `path` on clips of `split`."""
    fix_threads(threads)
    model = load_model(path)
    # One graph for both batch sizes: the ConvLSTM's takes seconds to make.
    infer = as_graph(model, split.clips)
    batch = tf.constant(np.resize(split.clips, (32, *split.clips.shape[1:])))
    return Cost(
        flops=count_flops(model),
        latency_milliseconds=_latency(infer, split.clips),
        clips_per_second=_quartiles(32 / _seconds(lambda: infer(batch), warm_up=1, rounds=3)),
    )


def measure_latency(model: keras.Model, clips: Clips) -> float:
    """Return how many milliseconds classifying one clip alone takes; a model's weights make no difference."""
    return _latency(as_graph(model, clips), clips)[1]


def as_graph(model: keras.Model, clips: Clips) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return `model` as one traced function for any number of clips of this shape."""
    signature = tf.TensorSpec((None, *clips.shape[1:]), tf.uint8)
    infer: Callable[[tf.Tensor], tf.Tensor] = tf.function(
        lambda clips: model(clips, training=False), input_signature=[signature]
    )
    return infer


def _latency(infer: Callable[[tf.Tensor], tf.Tensor], clips: Clips) -> list[float]:
    single = tf.constant(clips[:1])
    return _quartiles(1000 * _seconds(lambda: infer(single), warm_up=3, rounds=20))


def count_flops(model: keras.Model) -> int:
    """Count the floating point operations of classifying a clip: two for each multiplication and addition.

    Counted are convolutions and matrix products, as the networks' definitions have them, whatever a layer computes to
    get there; what is done for each element (gates, pooling, normalization, activations) is left out.

    Raises:
        UserError: if a layer has weights and there is no rule for it.
    """
    return sum(_layer_flops(layer, layer.input.shape, layer.output.shape) for layer in model.layers)


def _layer_flops(layer: keras.Layer, input_shape: Sequence[int], output_shape: Sequence[int]) -> int:
    # Each weight of a kernel takes part once in each pixel or step.
    match layer:
        case FoldedTimeDistributed():
            step_input, step_output = ((shape[0], *shape[2:]) for shape in (input_shape, output_shape))
            return input_shape[1] * _layer_flops(layer.layer, step_input, step_output)
        case keras.Sequential():
            return count_flops(layer)
        case FusedConvLSTM2D():
            kernels, times = [layer.kernel, layer.recurrent_kernel], math.prod(input_shape[1:4])
        case keras.layers.LSTM():
            kernels, times = [layer.cell.kernel, layer.cell.recurrent_kernel], input_shape[1]
        case keras.layers.Conv1D() | keras.layers.Conv2D() | keras.layers.Conv3D():
            kernels, times = [layer.kernel], math.prod(output_shape[1:-1])
        case keras.layers.Dense():
            kernels, times = [layer.kernel], 1
        case keras.layers.BatchNormalization() | keras.layers.LayerNormalization():
            return 0
        case _ if layer.weights:
            raise UserError(
                f"layer {layer.name} ({type(layer).__name__}): has weights, but models/cost.py has no rule for its "
                "FLOPs; add one to _layer_flops"
            )
        case _:
            return 0
    return sum(2 * times * math.prod(kernel.shape) for kernel in kernels)


def _seconds(call: Callable[[], Any], warm_up: int, rounds: int) -> NDArray[np.float64]:
    def seconds() -> float:
        started = time.perf_counter()
        call()
        return time.perf_counter() - started

    return np.array([seconds() for _ in range(warm_up + rounds)][warm_up:])


def _quartiles(measured: NDArray[np.float64]) -> list[float]:
    quartiles: list[float] = np.quantile(measured, [0.25, 0.5, 0.75]).tolist()
    return quartiles
