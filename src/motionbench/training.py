"""One replicate of any model: from clips to a fitted model on disk and its history."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypedDict

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from motionbench.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from motionbench.data.splits import Split
from motionbench.errors import UserError
from motionbench.models import BUILDERS, save_model
from motionbench.parallel import Report
from motionbench.params import ModelParams, TrainingParams
from motionbench.processes import peak_megabytes


# Plain dicts, so that the process that receives them needs no TensorFlow.
class Epoch(TypedDict):
    """What one epoch of one replicate came to. Losses are cross-entropies in nats, epochs count from 1."""

    seed: int
    epoch: int
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float


class Replicate(TypedDict):
    """A fitted model: all its epochs, the one whose weights were kept, and what the fit took."""

    history: list[Epoch]
    best: Epoch
    parameters: int
    summary: str
    epoch_seconds: list[float]
    """Of each epoch, its validation included; the first one's with the making of the graph."""
    peak_megabytes: float
    """The most memory that the process held so far."""


def fix_threads(threads: int) -> None:
    """Give TensorFlow `threads` CPU threads in this process and the same result every time."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    tf.config.experimental.enable_op_determinism()


def read_batches(split: Split, batch_size: int, order: NDArray[np.int64] | None = None) -> tf.data.Dataset:
    """Return clips and labels of `split` in batches, read from its file as they are needed.

    `order` is that of the clips, by default the file's. Clips stay uint8: the model scales a batch at a time.
    """
    clip_numbers = tf.data.Dataset.from_tensor_slices(np.arange(len(split.labels)) if order is None else order)

    def read(indices: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        return np.asarray(split.clips[indices]), split.labels[indices]

    def read_in_graph(indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        clips, labels = tf.numpy_function(read, [indices], [tf.uint8, tf.int64])
        return tf.ensure_shape(clips, (None, *split.clips.shape[1:])), tf.ensure_shape(labels, (None,))

    return clip_numbers.batch(batch_size).map(read_in_graph).prefetch(1)


def order_of_clips(clips: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the order of an epoch, which depends on nothing that happened before it."""
    return np.random.default_rng([seed, epoch]).permutation(clips)


def fit_epochs(
    model_name: str,
    seed: int,
    model_params: ModelParams,
    train: Split,
    validation: Split,
    resume: Callable[[keras.Model], Sequence[Epoch]] = lambda _model: (),
) -> Iterator[tuple[keras.Model, Epoch]]:
    """Fit a model from one seed for at most its epochs; yield it and what it came to after each.

    `resume` may put the new model where an earlier training was, and returns the epochs that this had finished. They
    are yielded too.

    Raises:
        UserError: if the loss stops being a number.
    """
    keras.utils.set_random_seed(seed)
    model = BUILDERS[model_name](model_params, train.clips.shape[1:], len(train.class_names))
    model.compile(
        optimizer=keras.optimizers.Adam(model_params.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,  # XLA was slower on the CPU for these models, and is not deterministic everywhere.
    )
    validation_batches = read_batches(validation, model_params.batch_size)
    finished = resume(model)
    yield from ((model, epoch) for epoch in finished)
    for epoch in range(len(finished) + 1, model_params.epochs + 1):
        fitted = model.fit(
            read_batches(train, model_params.batch_size, order_of_clips(len(train.labels), seed, epoch)),
            initial_epoch=epoch - 1,
            epochs=epoch,
            shuffle=False,  # They come shuffled.
            validation_data=validation_batches,
            verbose=0,
        )
        logs = {measure: values[0] for measure, values in fitted.history.items()}
        if not math.isfinite(logs["loss"] + logs["val_loss"]):
            raise UserError(
                f"params.yaml: {model_name}.learning_rate: {model_params.learning_rate}: the loss of seed {seed} is no "
                f"longer a number in epoch {epoch}; lower the learning rate or change training.seeds"
            )
        yield (
            model,
            Epoch(
                seed=seed,
                epoch=epoch,
                loss=logs["loss"],
                accuracy=logs["accuracy"],
                validation_loss=logs["val_loss"],
                validation_accuracy=logs["val_accuracy"],
            ),
        )


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
    report: Report,
) -> Replicate:
    """Fit one model from one seed, keep the weights of its best epoch, and write it to `path`.

    Each epoch is kept in `checkpoint`. If what stands there is of a training with the same `key`, it goes on from
    there, and ends with the same weights as one that was never interrupted.

    Best is the lowest validation loss, by at least `min_delta`. A loss of `target_loss`, or `patience` epochs without a
    better one, end the training. Each finished epoch is passed to `report` as an `Epoch`.

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
        report(epoch)
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
