"""One side of a comparison in a process of its own: python -m benchmarks.one_side SIDE MODEL BATCH_SIZE THREADS.

Prints a line of JSON: seconds of the first training step, of an epoch of 80 clips, of inference on 1 and 32 clips,
and the process's peak memory in megabytes.
"""

import json
import sys
import warnings
from collections.abc import Callable
from functools import partial
from statistics import mean, median
from typing import Any, NamedTuple

import numpy as np

from benchmarks.common import default_drawing, default_params, seconds_of
from motionbench.core.processes import peak_megabytes
from motionbench.data.params import ClipShape
from motionbench.data.synthetic.frames import draw_clamped
from motionbench.data.synthetic.patterns import PATTERNS
from motionbench.execution.runtime import importing_tensorflow
from motionbench.models.registry import ModelParams

EPOCHS = 2
CLIPS_PER_CLASS = 20
CLASSES = len(PATTERNS)


class Side(NamedTuple):
    """How to train on a batch, and how to classify one."""

    train: Callable[[Any, Any], Any]
    infer: Callable[[Any], Any]
    as_tensor: Callable[[Any], Any]


def main() -> None:
    """Build, train and time one model."""
    side_name, model_name = sys.argv[1:3]
    batch_size, threads = map(int, sys.argv[3:5])
    clips, labels = draw_clips(batch_size)
    side = SIDES[side_name](model_name, default_params().model(model_name), clips.shape[1:], threads)

    def epoch() -> None:
        for first in range(0, len(clips), batch_size):
            side.train(clips[first : first + batch_size], labels[first : first + batch_size])

    measured = {"first_call": seconds_of(lambda: side.train(clips[:batch_size], labels[:batch_size]))}
    # Batch sizes need different numbers of clips to fill the last batch; the seconds are scaled to 80 clips.
    share = CLASSES * CLIPS_PER_CLASS / len(clips)
    measured["epoch"] = share * mean(seconds_of(epoch) for _ in range(EPOCHS))
    measured["peak_memory"] = peak_megabytes()
    for count, repeats in ((1, 10), (32, 3)):
        infer = partial(side.infer, side.as_tensor(clips[:count]))
        infer()  # warm-up
        measured[f"inference_{count}"] = median(seconds_of(infer) for _ in range(repeats))
    print(json.dumps(measured))


def draw_clips(batch_size: int) -> tuple[Any, Any]:
    """Return shuffled clips and labels: 80, or as many more as fill the last batch."""
    data = default_drawing()
    random = np.random.default_rng(0)
    trajectories = np.concatenate([pattern(data, 2 * CLIPS_PER_CLASS, random) for pattern in PATTERNS.values()])
    labels = np.repeat(np.arange(CLASSES), 2 * CLIPS_PER_CLASS)
    order = random.permutation(len(labels))[: batch_size * -(-CLASSES * CLIPS_PER_CLASS // batch_size)]
    return draw_clamped(trajectories[order], data.height, data.width, data.point_size), labels[order]


def _ours(model_name: str, params: ModelParams, clip_shape: ClipShape, threads: int) -> Side:
    with importing_tensorflow():
        from motionbench.execution.threads import fix_threads
        from motionbench.models.registry import build_model
    fix_threads(threads)
    return _keras_side(build_model(model_name, params, clip_shape, CLASSES))


def _stock(model_name: str, params: ModelParams, clip_shape: ClipShape, threads: int) -> Side:
    import keras  # noqa: F401 # as its users do, with the packages that importing_tensorflow leaves out

    from benchmarks.stock_models import build

    with importing_tensorflow():
        from motionbench.execution.threads import fix_threads
    fix_threads(threads)
    return _keras_side(build(model_name, params, clip_shape, CLASSES))


def _keras_side(model: Any) -> Side:
    import tensorflow as tf

    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", jit_compile=False)
    return Side(model.train_on_batch, tf.function(lambda batch: model(batch, training=False)), tf.constant)


def _torch(
    model_name: str, params: ModelParams, clip_shape: ClipShape, threads: int, *, compiled: bool = False
) -> Side:
    import torch

    from benchmarks.torch_models import MODELS

    warnings.filterwarnings("ignore", message="Using padding='same' with even kernel lengths")
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model: Any = MODELS[model_name](params, clip_shape[1], clip_shape[2], CLASSES)
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


SIDES: dict[str, Callable[[str, ModelParams, ClipShape, int], Side]] = {
    "stock": _stock,
    "ours": _ours,
    "torch": _torch,
    "torch compiled": partial(_torch, compiled=True),
}


if __name__ == "__main__":
    main()
