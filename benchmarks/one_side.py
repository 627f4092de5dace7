"""One side of a comparison in a process of its own: python -m benchmarks.one_side SIDE MODEL SIZE REPLICATES.

Prints a line of JSON: milliseconds of the first training step and of training per clip, and the process's peak memory
in megabytes. Where replicates run side by side, each takes its share of the threads.
"""

import json
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from itertools import cycle, product
from statistics import median
from typing import Any, NamedTuple

import joblib
import numpy as np

from benchmarks.common import default_params, seconds_of
from benchmarks.stock_models import LAYERS
from motionbench.core.processes import peak_megabytes
from motionbench.data.params import ClipShape
from motionbench.execution.runtime import importing_tensorflow
from motionbench.models.registry import ModelParams

SIZES: Mapping[str, Mapping[str, list[int]]] = {
    "20x50x130x1": {},
    "16x64x64x3": {"filters": [16, 32, 64], "kernel_sizes": [3, 3, 3]},
    "16x112x112x3": {"filters": [8, 16, 32], "kernel_sizes": [5, 3, 3]},
}
"""Frames, height, width and channels of a clip, and what differs from params.yaml."""
NETWORKS = tuple(product(SIZES, LAYERS))
BATCH_SIZE = 8
CLIPS = 32
CLASSES = 4
SECONDS = 3  # of steps


class Side(NamedTuple):
    """How to train on a batch, and how to classify one."""

    train: Callable[[Any, Any], Any]
    infer: Callable[[Any], Any]
    as_tensor: Callable[[Any], Any]


def main() -> None:
    """Build, train and time one model."""
    side_name, model_name, size, replicates = sys.argv[1:]
    params, clip_shape = network(model_name, size)
    side = SIDES[side_name](model_name, params, clip_shape, max(1, joblib.cpu_count() // int(replicates)))
    clips = np.random.default_rng(0).integers(0, 256, (CLIPS, *clip_shape), np.uint8)
    labels = np.arange(CLIPS) % CLASSES
    starts = cycle(range(0, CLIPS, BATCH_SIZE))

    def step() -> None:
        batch = slice(start := next(starts), start + BATCH_SIZE)
        side.train(clips[batch], labels[batch])

    measured = {"first_step": 1000 * seconds_of(step)}
    measured["training"] = median_milliseconds(step, SECONDS, calls=3) / BATCH_SIZE
    measured["peak_memory"] = peak_megabytes()
    print(json.dumps(measured))


def network(model_name: str, size: str) -> tuple[ModelParams, ClipShape]:
    """Return the parameters of a model at a size, and the shape of its clips."""
    section = default_params().model(model_name)
    frames, height, width, channels = map(int, size.split("x"))
    return type(section).model_validate({**section.model_dump(), **SIZES[size]}), (frames, height, width, channels)


def median_milliseconds(call: Callable[[], Any], seconds: float, calls: int) -> float:
    """Return the median of the milliseconds of a call, repeated for some seconds, and so many times at least."""
    times: list[float] = []
    while len(times) < calls or sum(times) < seconds:
        times.append(seconds_of(call))
    return 1000 * median(times)


def _ours(model_name: str, params: ModelParams, clip_shape: ClipShape, threads: int) -> Side:
    with importing_tensorflow():
        from motionbench.execution.threads import fix_threads
        from motionbench.models.networks import build_model
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
    model: Any = MODELS[model_name](params, clip_shape, CLASSES)
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
