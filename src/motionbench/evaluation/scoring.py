"""A replicate's answers to test clips, as they are and perturbed, and the cost of inference."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from motionbench.data.perturbations import chosen_clips, perturb
from motionbench.data.splits import Clips, SourceRecord, Split
from motionbench.evaluation.results import Answers, Cost, Perturbed
from motionbench.execution.threads import fix_threads
from motionbench.models.archive import load_model
from motionbench.models.cost import as_graph, count_flops, time_batches, time_single_clips

CLIPS_AT_ONCE = 8


def answer(
    path: Path, split: Split, threads: int, settings: Sequence[tuple[str, float]], clips_per_class: int, seed: int,
    source: SourceRecord,
) -> Answers:  # fmt: skip
    """Classify the clips of `split` with the model at `path`, as they are, and some of them perturbed.

    Args:
        settings: name and level of each perturbation.
        clips_per_class: of the clips that are perturbed, at most.
        seed: of what perturbations draw.
        source: of the clips; it says which right answers perturbations change.
    """
    fix_threads(threads)
    infer = as_graph(load_model(path), split.clips)

    def predict(clips: Clips) -> NDArray[np.int64]:
        batches = np.array_split(clips, max(1, len(clips) // CLIPS_AT_ONCE))
        predicted: NDArray[np.int64] = np.concatenate([infer(batch) for batch in batches]).argmax(axis=-1)
        return predicted

    perturbed = []
    chosen = chosen_clips(split, clips_per_class)
    for name, level in settings:
        clips, correct, _ = perturb(chosen, name, level, seed, source)
        answers = predict(clips)
        right = (answers == correct).tolist()
        perturbed.append(Perturbed(perturbation=name, level=level, predicted=answers.tolist(), right=right))
    return Answers(predicted=predict(split.clips).tolist(), perturbed=perturbed)


def measure_cost(path: Path, split: Split, threads: int) -> Cost:
    """Time the model at `path` on clips of `split`."""
    fix_threads(threads)
    model = load_model(path)
    # One graph for both batch sizes: tracing the ConvLSTM takes seconds.
    infer = as_graph(model, split.clips)
    latency = time_single_clips(infer, split.clips)
    throughput = 32 / time_batches(infer, split.clips, size=32, warm_up=1, rounds=3)
    latencies, throughputs = (np.quantile(each, [0.25, 0.5, 0.75]).tolist() for each in (latency, throughput))
    return Cost(flops=count_flops(model), latency_milliseconds=latencies, clips_per_second=throughputs)
