"""A model's answers to the clips of a split, as they are and perturbed, and the cost of inference."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from motionbench.data.perturbations import chosen_clips, perturb
from motionbench.data.splits import Clips, Split
from motionbench.evaluation.results import Cost, Perturbed, Scores
from motionbench.execution.runtime import fix_threads
from motionbench.models.archive import load_model
from motionbench.models.cost import as_graph, count_flops, time_batches, time_single_clips
from motionbench.params.schema import PerturbationsParams

CLIPS_AT_ONCE = 8


def score(path: Path, split: Split, threads: int, params: PerturbationsParams) -> Scores:
    """Classify the clips of `split` with the model at `path`, as they are, and some of them with every perturbation."""
    fix_threads(threads)
    infer = as_graph(load_model(path), split.clips)

    def predict(clips: Clips) -> NDArray[np.int64]:
        batches = np.array_split(clips, max(1, len(clips) // CLIPS_AT_ONCE))
        predicted: NDArray[np.int64] = np.concatenate([infer(batch) for batch in batches]).argmax(axis=-1)
        return predicted

    perturbed = []
    _, chosen = chosen_clips(split, params.clips_per_class)
    for name, level in params.settings():
        clips, correct, _ = perturb(chosen, name, level, params.seed)
        answers = predict(clips)
        right = (answers == correct).tolist()
        perturbed.append(Perturbed(perturbation=name, level=level, predicted=answers.tolist(), right=right))
    predicted = predict(split.clips)
    labels = np.arange(len(split.class_names))
    precision, recall, f1, _ = precision_recall_fscore_support(split.labels, predicted, labels=labels, zero_division=0)
    hits = int((predicted == split.labels).sum())
    return Scores(
        correct=hits,
        clips=len(predicted),
        accuracy=hits / len(predicted),
        classes={
            name: {"precision": float(precision[label]), "recall": float(recall[label]), "f1": float(f1[label])}
            for label, name in enumerate(split.class_names)
        },
        confusion=confusion_matrix(split.labels, predicted, labels=labels).tolist(),
        predicted=predicted.tolist(),
        perturbed=perturbed,
    )


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
