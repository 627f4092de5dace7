"""What a fitted model is worth: its answers on a split, and what they cost."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from motionbench.data.conditions import Condition, chosen_clips, conditions, stressed
from motionbench.data.frames import Clips
from motionbench.data.splits import Split
from motionbench.models import load_model
from motionbench.models.layers import FoldedTimeDistributed, FusedConvLSTM2D
from motionbench.params import ConditionsParams
from motionbench.training import fix_threads

CLIPS_AT_ONCE = 8


class Stressed(TypedDict):
    """How one replicate classifies a split under a condition."""

    condition: str
    level: float
    predicted: list[int]
    """Of each clip, the number of the class."""
    right: list[bool]
    """Of each clip, whether that is the class that it has under the condition."""


class Scores(TypedDict):
    """How one replicate classifies a split."""

    correct: int
    clips: int
    accuracy: float
    classes: dict[str, dict[str, float]]
    """Precision, recall and F1 of each class; 0 where a class is never predicted."""
    confusion: list[list[int]]
    """Clips by true class (rows) and predicted class (columns)."""
    predicted: list[int]
    """Of each clip, the number of the class."""
    conditions: list[Stressed]


class Cost(TypedDict):
    """What inference costs in one process with the threads of a replicate; quartiles, warm-up excluded."""

    flops: int
    """Of classifying a clip, as `count_flops` counts them."""
    latency_milliseconds: list[float]
    """Of one clip alone."""
    clips_per_second: list[float]
    """In batches of 32."""


def score(path: Path, split: Split, threads: int, params: ConditionsParams) -> Scores:
    """Classify the clips of `split` with the model at `path`, as they are, and some of them under every condition."""
    fix_threads(threads)
    infer = _as_graph(load_model(path), split.clips)

    def predict(clips: Clips) -> NDArray[np.int64]:
        batches = np.array_split(clips, max(1, len(clips) // CLIPS_AT_ONCE))
        predicted: NDArray[np.int64] = np.concatenate([infer(batch) for batch in batches]).argmax(axis=-1)
        return predicted

    _, chosen = chosen_clips(split, params.clips_per_class)

    def under(condition: Condition) -> Stressed:
        clips, correct, _ = stressed(chosen, condition, params.seed)
        predicted = predict(clips)
        right = (predicted == correct).tolist()
        return Stressed(condition=condition.name, level=condition.level, predicted=predicted.tolist(), right=right)

    predicted = predict(split.clips)
    labels = np.arange(len(split.class_names))
    precision, recall, f1, _ = precision_recall_fscore_support(split.labels, predicted, labels=labels, zero_division=0)
    correct = int((predicted == split.labels).sum())
    return Scores(
        correct=correct,
        clips=len(predicted),
        accuracy=correct / len(predicted),
        classes={
            name: {"precision": float(precision[label]), "recall": float(recall[label]), "f1": float(f1[label])}
            for label, name in enumerate(split.class_names)
        },
        confusion=confusion_matrix(split.labels, predicted, labels=labels).tolist(),
        predicted=predicted.tolist(),
        conditions=[under(condition) for condition in conditions(params)],
    )


def measure_cost(path: Path, split: Split, threads: int) -> Cost:
    """Time the model at `path` on clips of `split`."""
    fix_threads(threads)
    model = load_model(path)
    # One graph for both batch sizes: the ConvLSTM's takes seconds to make.
    infer = _as_graph(model, split.clips)
    batch = tf.constant(np.resize(split.clips, (32, *split.clips.shape[1:])))
    return Cost(
        flops=count_flops(model),
        latency_milliseconds=_latency(infer, split.clips),
        clips_per_second=_quartiles(32 / _seconds(lambda: infer(batch), warm_up=1, rounds=3)),
    )


def measure_latency(model: keras.Model, clips: Clips) -> float:
    """Return how many milliseconds classifying one clip alone takes; a model's weights make no difference."""
    return _latency(_as_graph(model, clips), clips)[1]


def _as_graph(model: keras.Model, clips: Clips) -> Callable[[tf.Tensor], tf.Tensor]:
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
    get there; what is done for each element (gates, pooling, activations) is left out.
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
        case keras.layers.Conv2D():
            kernels, times = [layer.kernel], math.prod(output_shape[1:3])
        case keras.layers.Dense():
            kernels, times = [layer.kernel], 1
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
