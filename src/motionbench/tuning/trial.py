"""One trial, in a process of its own: replicates trained in step, each epoch sent to the process that started it."""

import os
import signal
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import mean

import numpy as np

from motionbench.data.splits import read_split
from motionbench.errors import UserError
from motionbench.parallel import importing_tensorflow
from motionbench.params import DataParams, ModelParams
from motionbench.processes import peak_megabytes

TRAIN, VALIDATION = Path("data/train"), Path("data/validation")


def seeds_of(seed: int, number: int, replicates: int) -> list[int]:
    """Return the replicates' seeds, which depend on the number of the trial and not on who runs it."""
    return [int(word) for word in np.random.SeedSequence([seed, number]).generate_state(replicates)]


def run_trial(
    parent: Connection, model_name: str, model_params: ModelParams, data: DataParams, seeds: Sequence[int], threads: int
) -> None:
    """Train a replicate from each seed on the clips in data/, and send what they come to.

    Sends pairs: ("cost", numbers) once, ("epoch", numbers) after each epoch of all replicates, and at the end either
    ("completed", numbers) or ("failed", reason). `validation_loss` is always the mean, over the replicates, of the
    lowest so far.
    """
    # Ctrl-C reaches all processes of a terminal; it is for the one that waits to end this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _train(parent, model_name, model_params, data, seeds, threads)
    except BrokenPipeError:
        os._exit(1)  # Nobody is left to take the result.
    except UserError as error:
        parent.send(("failed", str(error)))
    except Exception as error:  # such as a network too large for the memory: the study goes on without it
        parent.send(("failed", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"))


def _train(
    parent: Connection, model_name: str, model_params: ModelParams, data: DataParams, seeds: Sequence[int], threads: int
) -> None:
    started = time.perf_counter()
    # TensorFlow complains of a missing GPU at every start; its failures are exceptions anyway.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with importing_tensorflow():
        from motionbench.evaluation import count_flops, measure_latency
        from motionbench.models import BUILDERS
        from motionbench.training import fit_epochs, fix_threads
    train, validation = read_split(TRAIN, data), read_split(VALIDATION, data)
    fix_threads(threads)
    model = BUILDERS[model_name](model_params, train.clips.shape[1:], len(train.class_names))
    cost = {
        "parameters": model.count_params(),
        "flops": count_flops(model),
        "latency_milliseconds": measure_latency(model, train.clips),
    }
    parent.send(("cost", cost))
    best: list[dict[str, float]] = [{"validation_loss": float("inf")} for _ in seeds]
    replicates = [fit_epochs(model_name, seed, model_params, train, validation) for seed in seeds]
    curve: list[float] = []
    for step in zip(*replicates, strict=True):
        epochs = [epoch for _, epoch in step]
        best = [min(pair, key=lambda each: each["validation_loss"]) for pair in zip(best, epochs, strict=True)]
        means = {
            "validation_loss": mean(each["validation_loss"] for each in best),
            "validation_accuracy": mean(each["validation_accuracy"] for each in best),
        }
        curve.append(means["validation_loss"])
        parent.send(("epoch", {"epoch": epochs[0]["epoch"], "loss": mean(e["loss"] for e in epochs), **means}))
    seconds = time.perf_counter() - started
    parent.send(("completed", {**means, "curve": curve, "seconds": seconds, "peak_megabytes": peak_megabytes()}))
