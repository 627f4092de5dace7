"""One side of a comparison in a process of its own: python -m benchmarks.one_side SIDE MODEL BATCH_SIZE THREADS.

Prints a line of JSON: seconds of the first training step, of an epoch of 80 clips, of inference on 1 and 32 clips,
and the process's peak memory in megabytes.
"""

import json
import resource
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

import numpy as np

import pipeline  # noqa: F401 # puts src/ on the path, as for the stages
from motionbench.data.synthetic.frames import draw_clamped
from motionbench.data.synthetic.patterns import PATTERNS
from motionbench.execution.runtime import importing_tensorflow
from motionbench.models.registry import CnnLstmParams, ConvLstmParams, ModelParams
from motionbench.params.loading import load_params

EPOCHS = 2
CLIPS_PER_CLASS = 20
# Kibibytes on Linux, bytes on macOS.
PEAK_UNIT = 1e6 if sys.platform == "darwin" else 1e6 / 1024


class Side(NamedTuple):
    """How to train on a batch, and how to classify one."""

    train: Callable[[Any, Any], Any]
    infer: Callable[[Any], Any]
    as_tensor: Callable[[Any], Any]


def main() -> None:
    """Build, train and time one model."""
    side_name, model_name = sys.argv[1:3]
    batch_size, threads = map(int, sys.argv[3:5])
    params = load_params(Path(__file__).parents[1] / "params.yaml")
    clips, labels = draw_clips(batch_size)
    side = SIDES[side_name](model_name, params.model(model_name), clips.shape[1:], threads)

    def epoch() -> None:
        for first in range(0, len(clips), batch_size):
            side.train(clips[first : first + batch_size], labels[first : first + batch_size])

    measured = {"first_call": _seconds(lambda: side.train(clips[:batch_size], labels[:batch_size]))}
    # The same number of clips in each epoch, whatever the batch size: what is timed is divided accordingly.
    share = 4 * CLIPS_PER_CLASS / len(clips)
    measured["epoch"] = share * mean(_seconds(epoch) for _ in range(EPOCHS))
    measured["peak_memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / PEAK_UNIT
    for count, repeats in ((1, 10), (32, 3)):
        batch = side.as_tensor(clips[:count])
        side.infer(batch)
        measured[f"inference_{count}"] = median(_seconds(lambda: side.infer(batch)) for _ in range(repeats))  # noqa: B023
    print(json.dumps(measured))


def draw_clips(batch_size: int) -> tuple[Any, Any]:
    """Return 80 clips and labels or a few more, shuffled, so many that all batches are full."""
    data = load_params(Path(__file__).parents[1] / "params.yaml").data
    random = np.random.default_rng(0)
    trajectories = np.concatenate([pattern(data, 2 * CLIPS_PER_CLASS, random) for pattern in PATTERNS.values()])
    labels = np.repeat(np.arange(len(PATTERNS)), 2 * CLIPS_PER_CLASS)
    order = random.permutation(len(labels))[: batch_size * -(-4 * CLIPS_PER_CLASS // batch_size)]
    return draw_clamped(trajectories[order], data.height, data.width, data.point_size), labels[order]


def _ours(model_name: str, params: ModelParams, clip_shape: tuple[int, int, int, int], threads: int) -> Side:
    with importing_tensorflow():
        from motionbench.execution.runtime import fix_threads
        from motionbench.models.registry import build_model
    fix_threads(threads)
    return _keras_side(build_model(model_name, params, clip_shape, len(PATTERNS)))


def _stock(model_name: str, params: ModelParams, clip_shape: tuple[int, int, int, int], threads: int) -> Side:
    import keras  # noqa: F401 # as its users do, and with it the packages that importing_tensorflow holds back

    with importing_tensorflow():
        from motionbench.execution.runtime import fix_threads
    fix_threads(threads)
    return _keras_side(stock_model(model_name, params, clip_shape))


def stock_model(model_name: str, params: ModelParams, clip_shape: tuple[int, int, int, int]) -> Any:
    """Build the same network as the source does, of stock layers."""
    from keras import Input, Sequential, layers

    stack: list[Any] = []
    last = len(params.filters) - 1
    for depth, (filters, kernel_size) in enumerate(zip(params.filters, params.kernel_sizes, strict=True)):
        sequences = isinstance(params, CnnLstmParams) or depth < last
        if isinstance(params, CnnLstmParams):
            convolution = layers.Conv2D(filters, kernel_size, padding="same", activation="relu")
            stack.append(layers.TimeDistributed(convolution))
        elif isinstance(params, ConvLstmParams):
            stack.append(
                layers.ConvLSTM2D(
                    filters, kernel_size, padding="same", activation=params.activation, return_sequences=sequences
                )
            )
        pooling = layers.MaxPooling2D(2)
        stack.append(layers.TimeDistributed(pooling) if sequences else pooling)
    if isinstance(params, CnnLstmParams):
        flat = layers.TimeDistributed(layers.Flatten())
        stack += [flat, layers.LSTM(params.lstm_units, activation=params.activation)]
    else:
        stack.append(layers.Flatten())
    softmax = layers.Dense(len(PATTERNS), activation="softmax")
    return Sequential([Input(clip_shape, dtype="uint8"), layers.Rescaling(1 / 255), *stack, softmax], name=model_name)


def _keras_side(model: Any) -> Side:
    import tensorflow as tf

    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", jit_compile=False)
    return Side(model.train_on_batch, tf.function(lambda batch: model(batch, training=False)), tf.constant)


def _torch(
    _model_name: str,
    params: ModelParams,
    clip_shape: tuple[int, int, int, int],
    threads: int,
    *,
    compiled: bool = False,
) -> Side:
    import torch

    from benchmarks.torch_models import build

    warnings.filterwarnings("ignore", message="Using padding='same' with even kernel lengths")
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model: Any = build(params, clip_shape[1], clip_shape[2], len(PATTERNS))
    if compiled:
        model = torch.compile(model)
    optimizer = torch.optim.Adam(model.parameters())

    def as_tensor(clips: Any) -> Any:
        return torch.from_numpy(clips).movedim(-1, 2)

    def train(clips: Any, labels: Any) -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(as_tensor(clips)), torch.from_numpy(labels))
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return Side(train, torch.inference_mode()(model), as_tensor)


SIDES: dict[str, Callable[[str, ModelParams, tuple[int, int, int, int], int], Side]] = {
    "stock": _stock,
    "ours": _ours,
    "torch": _torch,
    "torch compiled": partial(_torch, compiled=True),
}


def _seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
