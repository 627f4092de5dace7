"""A replicate's answers to test clips, as they are or perturbed, and the cost of inference."""

from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from motionbench.data.splits import Clips
from motionbench.evaluation.costs import Cost
from motionbench.execution.threads import fix_threads
from motionbench.models.archive import load_model, load_weights, read_network
from motionbench.models.cost import Infer, as_graph, count_flops, time_batches, time_single_clips

CLIPS_AT_ONCE = 8
_loaded: dict[bytes, tuple[keras.Model, Infer, bytes]] = {}  # by network: also the file that its weights are from


def answer(path: Path, clips: Clips, threads: int) -> NDArray[np.float32]:
    """Return the probability of each class that the model at `path` gives to clips, shape (clips, classes)."""
    fix_threads(threads)
    _, infer = _load(path, clips)
    batches = np.array_split(clips, max(1, len(clips) // CLIPS_AT_ONCE))
    probabilities: NDArray[np.float32] = np.concatenate([infer(batch) for batch in batches])
    return probabilities


def _load(path: Path, clips: Clips) -> tuple[keras.Model, Infer]:
    """Return the model at `path`, and as a graph, which a process traces once for the replicates of a model."""
    network, content = read_network(path), path.read_bytes()
    if network not in _loaded:
        model = load_model(path)
        _loaded[network] = model, as_graph(model, clips), content
    model, infer, loaded = _loaded[network]
    # Contents are compared, not paths: in a process of a cluster, the same path may be another run's.
    if content != loaded:
        load_weights(model, path)
        _loaded[network] = model, infer, content
    return model, infer


def measure_cost(path: Path, clips: Clips, threads: int) -> Cost:
    """Time the model at `path` on clips."""
    fix_threads(threads)
    # One graph for both batch sizes: tracing the ConvLSTM takes seconds.
    model, infer = _load(path, clips)
    latency = time_single_clips(infer, clips)
    throughput = 32 / time_batches(infer, clips, size=32, warm_up=1, rounds=3)
    (fast, milliseconds, slow), (low, clips_per_second, high) = (
        np.quantile(each, [0.25, 0.5, 0.75]).tolist() for each in (latency, throughput)
    )
    return Cost(count_flops(model), milliseconds, (fast, slow), clips_per_second, (low, high))
