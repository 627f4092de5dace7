"""A model's answers to the clips of a split, as they are and perturbed, and the cost of inference."""

from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from motionbench.data.perturbations import chosen_clips, perturb
from motionbench.data.splits import Clips, Split
from motionbench.evaluation.results import Cost, Perturbed, Scores
from motionbench.execution.runtime import fix_threads
from motionbench.models.archive import load_model
from motionbench.models.cost import as_graph, count_flops, latency_quartiles, quartiles, time_calls
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

    _, chosen = chosen_clips(split, params.clips_per_class)

    def predict_perturbed(name: str, level: float) -> Perturbed:
        clips, correct, _ = perturb(chosen, name, level, params.seed)
        predicted = predict(clips)
        right = (predicted == correct).tolist()
        return Perturbed(perturbation=name, level=level, predicted=predicted.tolist(), right=right)

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
        perturbed=[predict_perturbed(name, level) for name, level in params.settings()],
    )


def measure_cost(path: Path, split: Split, threads: int) -> Cost:
    """Time the model at `path` on clips of `split`."""
    fix_threads(threads)
    model = load_model(path)
    # One graph for both batch sizes: tracing the ConvLSTM takes seconds.
    infer = as_graph(model, split.clips)
    batch = tf.constant(np.resize(split.clips, (32, *split.clips.shape[1:])))
    return Cost(
        flops=count_flops(model),
        latency_milliseconds=latency_quartiles(infer, split.clips),
        clips_per_second=quartiles(32 / time_calls(lambda: infer(batch), warm_up=1, rounds=3)),
    )
