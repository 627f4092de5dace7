"""One side of a comparison in a process of its own: python -m benchmarks.one_side SIDE MODEL THREADS.

Prints a line of JSON: seconds of the first training step, of an epoch of 80 clips, of inference on 1 and 32 clips,
and the process's peak memory in megabytes.
"""

import json
import resource
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import pipeline  # noqa: F401 # puts src/ on the path, as for the stages
from motionbench.data.frames import draw_whole
from motionbench.data.patterns import PATTERNS
from motionbench.parallel import discarded_stderr
from motionbench.params import ModelParams, Params, load_params

EPOCHS = 3


def main() -> None:
    """Build, train and time one model."""
    side, model_name, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    params = load_params(Path(__file__).parents[1] / "params.yaml")
    clips, labels = _clips(params)
    batch_size = params.model(model_name).batch_size
    with discarded_stderr():
        import keras
        import tensorflow as tf
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(0)
    model = {"stock": _stock, "ours": _ours}[side](model_name, params.model(model_name), clips.shape[1:])
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", jit_compile=False)

    def epoch() -> None:
        for first in range(0, len(clips), batch_size):
            model.train_on_batch(clips[first : first + batch_size], labels[first : first + batch_size])

    measured = {"first_call": _seconds(lambda: model.train_on_batch(clips[:batch_size], labels[:batch_size]))}
    measured["epoch"] = median(_seconds(epoch) for _ in range(EPOCHS))
    infer = tf.function(lambda batch: model(batch, training=False))
    for count, repeats in ((1, 10), (32, 3)):
        batch = tf.constant(clips[:count])
        infer(batch)
        measured[f"inference_{count}"] = median(_seconds(lambda: infer(batch)) for _ in range(repeats))  # noqa: B023
    # Kibibytes on Linux, bytes on macOS.
    unit = 1e6 if sys.platform == "darwin" else 1e6 / 1024
    measured["peak_memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    print(json.dumps(measured))


def _clips(params: Params) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    trajectories = np.concatenate([pattern(params.data, 20, random) for pattern in PATTERNS.values()])
    labels = np.repeat(np.arange(len(PATTERNS)), 20)
    order = random.permutation(len(labels))
    data = params.data
    return draw_whole(trajectories[order], data.height, data.width, data.point_size), labels[order]


def _ours(model_name: str, params: ModelParams, clip_shape: tuple[int, int, int, int]) -> Any:
    from motionbench.models import BUILDERS

    return BUILDERS[model_name](params, clip_shape, len(PATTERNS))


def _stock(model_name: str, params: ModelParams, clip_shape: tuple[int, int, int, int]) -> Any:
    """Build the same network as the source does, of stock layers."""
    from keras import Input, Sequential, layers

    stack: list[Any] = []
    last = len(params.filters) - 1
    for depth, (filters, kernel_size) in enumerate(zip(params.filters, params.kernel_sizes, strict=True)):
        if model_name == "cnn_lstm":
            convolution = layers.Conv2D(filters, kernel_size, padding="same", activation="relu")
            stack += [layers.TimeDistributed(convolution), layers.TimeDistributed(layers.MaxPooling2D(2))]
        else:
            sequences = depth < last
            stack.append(layers.ConvLSTM2D(filters, kernel_size, padding="same", return_sequences=sequences))
            stack.append(layers.TimeDistributed(layers.MaxPooling2D(2)) if sequences else layers.MaxPooling2D(2))
    if model_name == "cnn_lstm":
        stack += [layers.TimeDistributed(layers.Flatten()), layers.LSTM(params.lstm_units)]  # type: ignore[attr-defined] # of CnnLstmParams
    else:
        stack.append(layers.Flatten())
    softmax = layers.Dense(len(PATTERNS), activation="softmax")
    return Sequential([Input(clip_shape, dtype="uint8"), layers.Rescaling(1 / 255), *stack, softmax])


def _seconds(call: Any) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
