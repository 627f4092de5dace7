"""One trial: its network's cost, and in a process of its own replicates trained in step, each epoch an event."""

import os
import time
from collections.abc import Sequence
from functools import partial
from statistics import mean
from typing import Any

import numpy as np

from motionbench.core.errors import UserError
from motionbench.core.paths import ReplicateKey
from motionbench.core.processes import peak_megabytes
from motionbench.data.folds import read_training_clips
from motionbench.data.splits import read_dataset_info
from motionbench.execution.engine import EventCallback
from motionbench.execution.runtime import importing_tensorflow
from motionbench.models.registry import GradientParams
from motionbench.params.schema import TrainingParams


def seeds_of(seed: int, number: int, replicates: int) -> list[int]:
    """Return the replicates' seeds, which depend on the number of the trial and not on who runs it."""
    return [int(word) for word in np.random.SeedSequence([seed, number]).generate_state(replicates)]


def measure_cost(
    model_name: str, params: GradientParams, training: TrainingParams, _on_event: EventCallback
) -> dict[str, float]:
    """Return parameters, FLOPs and the latency of one clip, in milliseconds, of a network that is not trained."""
    with importing_tensorflow():
        import keras

        from motionbench.execution.threads import fix_threads
        from motionbench.models.cost import Infer, as_graph, count_flops, time_single_clips
        from motionbench.models.networks import build_model
        from motionbench.models.onnx_layers import to_onnx
    from motionbench.models.onnx_runtime import infer, open_session

    _, validation = read_training_clips(read_dataset_info().fold_numbers()[0])
    fix_threads(training.threads)
    keras.utils.clear_session()  # The process measures one network after the other.
    model = build_model(model_name, params, validation.clips.shape[1:], len(validation.class_names))
    try:
        answer: Infer = partial(infer, open_session(to_onnx(model), training.threads))
    except UserError:  # A layer has no rule for ONNX: `evaluate` times that network with TensorFlow, too.
        answer = as_graph(model)
    latency = time_single_clips(answer, validation.clips)
    return {
        "parameters": model.count_params(),
        "flops": count_flops(model),
        "latency_milliseconds": float(np.median(latency)),
    }


def run_trial(
    model_name: str, params: GradientParams, training: TrainingParams, seeds: Sequence[int], on_event: EventCallback
) -> dict[str, Any]:
    """Train a replicate from each seed on the train split, with folds that of the first, and return its measures.

    Events are the number of the process, once, and the measures after each epoch of all replicates. `validation_loss`
    is always the mean, over the replicates, of the lowest so far.

    Raises:
        UserError: if a loss stops being a number.
    """
    started = time.perf_counter()
    on_event({"process": os.getpid()})
    with importing_tensorflow():
        from motionbench.execution.threads import fix_threads
        from motionbench.training.loop import build_replicate, fit_epochs
    dataset = read_dataset_info()
    fold = dataset.fold_numbers()[0]
    train, validation = read_training_clips(fold)
    fix_threads(training.threads)
    best: list[dict[str, float]] = [{"validation_loss": float("inf")} for _ in seeds]
    models = [build_replicate(model_name, params, train, seed) for seed in seeds]
    replicates = [
        fit_epochs(model, model_name, ReplicateKey(seed, fold), params, training, dataset, train, validation)
        for model, seed in zip(models, seeds, strict=True)
    ]
    for epochs in zip(*replicates, strict=True):
        best = [min(pair, key=lambda each: each["validation_loss"]) for pair in zip(best, epochs, strict=True)]
        means = {key: mean(each[key] for each in best) for key in ("validation_loss", "validation_accuracy")}
        on_event({"epoch": epochs[0]["epoch"], **means})
    seconds = time.perf_counter() - started
    return {**means, "seconds": seconds, "peak_megabytes": peak_megabytes()}
