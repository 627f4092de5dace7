"""One replicate of any model: from clips to a fitted model on disk and its history."""

import time
from collections.abc import Sequence
from pathlib import Path

import keras

from motionbench.core.processes import peak_megabytes
from motionbench.data.splits import Split
from motionbench.execution.engine import EventCallback
from motionbench.execution.runtime import fix_threads
from motionbench.models.archive import save_model
from motionbench.models.registry import ModelParams
from motionbench.params.schema import TrainingParams
from motionbench.training.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from motionbench.training.loop import fit_epochs
from motionbench.training.results import Epoch, Replicate


def train_replicate(
    model_name: str,
    seed: int,
    model_params: ModelParams,
    training: TrainingParams,
    train: Split,
    validation: Split,
    path: Path,
    checkpoint: Path,
    key: str,
    on_event: EventCallback,
) -> Replicate:
    """Fit one model from one seed, keep the weights of its best epoch, and write it to `path`.

    Each epoch is kept in `checkpoint`. If what stands there is of a training with the same `key`, it goes on from
    there, and ends with the same weights as one that was never interrupted.

    Best is the lowest validation loss, by at least `min_delta`. A loss of `target_loss`, or `patience` epochs without a
    better one, end the training. Each finished epoch is passed to `on_event` as an `Epoch`.

    Raises:
        UserError: if the loss stops being a number.
    """
    fix_threads(training.threads)
    # A process may train several replicates: without this, layer names count on from the last one.
    keras.utils.clear_session()
    earlier = load_checkpoint(checkpoint, key)

    def resume(model: keras.Model) -> Sequence[Epoch]:
        model.optimizer.build(model.trainable_variables)
        if earlier is None:
            return ()
        for variable, value in zip(_variables(model), earlier.variables, strict=True):
            variable.assign(value)
        return earlier.history

    history: list[Epoch] = []
    epoch_seconds: list[float] = []
    best: Epoch | None = None
    started = time.perf_counter()
    for model, epoch in fit_epochs(model_name, seed, model_params, train, validation, resume):
        resumed = earlier if earlier and len(history) < len(earlier.history) else None
        epoch_seconds.append(resumed.epoch_seconds[len(history)] if resumed else time.perf_counter() - started)
        started = time.perf_counter()
        history.append(epoch)
        on_event(epoch)
        if best is None or epoch["validation_loss"] < best["validation_loss"] - training.min_delta:
            best, best_weights = epoch, resumed.best_weights if resumed else model.get_weights()
        if not resumed:
            variables = [variable.numpy() for variable in _variables(model)]
            save_checkpoint(checkpoint, key, Checkpoint(history, epoch_seconds, variables, best_weights))
        if epoch["validation_loss"] <= training.target_loss or epoch["epoch"] - best["epoch"] >= training.patience:
            break
    assert best is not None
    model.set_weights(best_weights)
    save_model(model, path)
    return Replicate(
        history=history,
        best=best,
        parameters=model.count_params(),
        summary=_summarise(model),
        epoch_seconds=epoch_seconds,
        peak_megabytes=peak_megabytes(),
    )


def _variables(model: keras.Model) -> list[keras.Variable]:
    return [*model.weights, *model.optimizer.variables]


def _summarise(model: keras.Model) -> str:
    # Keras' own summary is as wide as the terminal, and so not the same in every run.
    rows = [(layer.name, type(layer).__name__, layer.output.shape, layer.count_params()) for layer in model.layers]
    return "".join(f"{name:<32}{kind:<24}{shape!s:<28}{count:>8,}\n" for name, kind, shape, count in rows)
