"""What a CPU with AVX2 alone would do: this one, with its other instructions turned off.

python -m benchmarks.avx2 writes benchmarks/AVX2.md. By default TensorFlow uses oneDNN on CPUs with instructions for
neural networks only, so that stock Keras runs without it on such a CPU.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.common import (
    HERE,
    default_params,
    machine,
    markdown_table,
    processor_seconds_of,
    run_in_new_process,
    write_page,
)

CLIPS = 8  # per step, and classified at once
ROUNDS, CALLS = 5, 3
MODELS = ("cnn_lstm", "convlstm")
SIDES = {"stock Keras": "0", "ours, without oneDNN": "0", "ours": "1"}
"""And whether each uses oneDNN."""


def main() -> None:
    """Measure each side in a process of its own, and write the table."""
    measured = {
        model: {side: run_in_new_process(measure, model, side, onednn) for side, onednn in SIDES.items()}
        for model in MODELS
    }
    write_page(HERE / "AVX2.md", as_markdown(measured))


def measure(model_name: str, side: str, onednn: str) -> dict[str, float]:
    """Return the processor's milliseconds per clip of training and of inference, in one thread."""
    os.environ |= {"ONEDNN_MAX_CPU_ISA": "AVX2", "TF_ENABLE_ONEDNN_OPTS": onednn}
    import keras  # the variables count from here on
    import tensorflow as tf

    from benchmarks.stock_models import build
    from motionbench.execution.threads import fix_threads
    from motionbench.models import layers
    from motionbench.models.registry import build_model

    fix_threads(1)
    layers._vector_lanes = lambda: 8  # type: ignore[assignment] # as it returns where NumPy finds no AVX-512
    keras.utils.set_random_seed(0)
    params = default_params()
    shape = params.data.clip_shape()
    model = (build if side == "stock Keras" else build_model)(model_name, params.model(model_name), shape, 4)
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", jit_compile=False)
    clips = np.random.default_rng(0).integers(0, 256, (CLIPS, *shape), np.uint8)
    labels = np.arange(CLIPS) % 4
    infer = tf.function(lambda batch: model(batch, training=False))
    batch = tf.constant(clips)
    return {
        "training": _milliseconds_per_clip(lambda: model.train_on_batch(clips, labels)),
        "inference": _milliseconds_per_clip(lambda: infer(batch)),
    }


def _milliseconds_per_clip(call: Callable[[], Any]) -> float:
    return 1000 * processor_seconds_of(call, CALLS, ROUNDS) / CLIPS


def as_markdown(measured: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """Return the page: a row for each model and measure, a column for each side."""
    rows = [
        {"ms per clip": f"{model}, {measure}"}
        | {
            side: f"{figures[measure]:.1f} ({sides['stock Keras'][measure] / figures[measure]:.2f})"
            for side, figures in sides.items()
        }
        for model, sides in measured.items()
        for measure in ("training", "inference")
    ]
    return [
        "# On a CPU with AVX2 alone",
        f"By `python -m benchmarks.avx2` on {machine()}, with oneDNN limited to AVX2 and layers laid out for vector "
        "registers of 8 numbers. Stock Keras runs without oneDNN, as TensorFlow 2.21 has it on such a CPU by default. "
        f"Batches of {CLIPS} in one thread; time of the processor, the least of {ROUNDS} rounds. In brackets: how many "
        "times as fast as stock Keras.",
        markdown_table(rows),
    ]


if __name__ == "__main__":
    main()
