"""A replicate's answers to test clips, as they are or perturbed, and the cost of inference."""

from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from motionbench.data.perturbations import chosen_clips, perturb
from motionbench.data.splits import Clips, SourceRecord, Split
from motionbench.evaluation.results import Answers, Cost
from motionbench.execution.threads import fix_threads
from motionbench.models.archive import load_model, load_weights, read_network
from motionbench.models.cost import Infer, as_graph, count_flops, time_batches, time_single_clips

CLIPS_AT_ONCE = 8
_loaded: dict[bytes, tuple[keras.Model, Infer, bytes]] = {}  # by network: also the file that its weights are from


def answer(
    path: Path, split: Split, threads: int, condition: tuple[str, float] | None, clips_per_class: int, seed: int,
    source: SourceRecord,
) -> Answers:  # fmt: skip
    """Classify the clips of `split` with the model at `path`, as they are, or some of them perturbed.

    Args:
        condition: name and level of a perturbation, None for clips as they are.
        clips_per_class: of the clips that are perturbed, at most.
        seed: of what perturbations draw.
        source: of the clips; it says which right answers perturbations change.
    """
    fix_threads(threads)
    _, infer = _load(path, split.clips)
    shown = perturb(chosen_clips(split, clips_per_class), *condition, seed, source) if condition else split
    batches = np.array_split(shown.clips, max(1, len(shown.clips) // CLIPS_AT_ONCE))
    predicted: NDArray[np.int64] = np.concatenate([infer(batch) for batch in batches]).argmax(axis=-1)
    return Answers(predicted=predicted.tolist(), right=(predicted == shown.labels).tolist())


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


def measure_cost(path: Path, split: Split, threads: int) -> Cost:
    """Time the model at `path` on clips of `split`."""
    fix_threads(threads)
    # One graph for both batch sizes: tracing the ConvLSTM takes seconds.
    model, infer = _load(path, split.clips)
    latency = time_single_clips(infer, split.clips)
    throughput = 32 / time_batches(infer, split.clips, size=32, warm_up=1, rounds=3)
    latencies, throughputs = (np.quantile(each, [0.25, 0.5, 0.75]).tolist() for each in (latency, throughput))
    return Cost(flops=count_flops(model), latency_milliseconds=latencies, clips_per_second=throughputs)
