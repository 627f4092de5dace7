"""Training in one process: epochs of a model on the clips of a split, and whole replicates with checkpoints."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from motionbench.core.errors import UserError
from motionbench.core.paths import ReplicateKey
from motionbench.core.processes import describe_machine, peak_megabytes
from motionbench.data.augmentation import augment, classes_to_flip
from motionbench.data.splits import AnySplit, Clips, SourceRecord, Split
from motionbench.execution.engine import EventCallback
from motionbench.execution.threads import fix_threads
from motionbench.models.archive import save_model
from motionbench.models.registry import ModelParams, build_model
from motionbench.params.schema import Params, TrainingParams
from motionbench.training.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from motionbench.training.results import Epoch, Replicate

_traced: dict[Any, keras.Model] = {}  # the last one that this process has trained


def read_batches(
    split: AnySplit, batch_size: int, order: NDArray[np.int64] | None = None, *, balanced: bool = False,
    transform: Callable[[Clips, NDArray[np.int64]], Clips] | None = None,
) -> tf.data.Dataset:  # fmt: skip
    """Return clips and labels of `split` in batches, read from its file as they are needed.

    Clips stay uint8: the model scales each batch.

    Args:
        order: of the clips, by default the file's.
        balanced: whether a batch also holds weights, with which each class counts the same.
        transform: called with the clips of a batch and their numbers in `split`, for what to read in their place.
    """
    weights = _balanced_weights(split.labels) if balanced else None
    clip_numbers = tf.data.Dataset.from_tensor_slices(np.arange(len(split.labels)) if order is None else order)

    def read(indices: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        clips = np.asarray(split.clips[indices])
        return transform(clips, indices) if transform else clips, split.labels[indices]

    def read_in_graph(indices: tf.Tensor) -> tuple[tf.Tensor, ...]:
        clips, labels = tf.numpy_function(read, [indices], [tf.uint8, tf.int64])
        batch = tf.ensure_shape(clips, (None, *split.clips.shape[1:])), tf.ensure_shape(labels, (None,))
        return batch if weights is None else (*batch, tf.gather(weights, indices))

    options = tf.data.Options()
    # Nothing here is tuned, and the end of an epoch often waits for the tuner's thread, which sleeps for seconds.
    options.autotune.enabled = False
    return clip_numbers.batch(batch_size).map(read_in_graph).prefetch(1).with_options(options)


def _balanced_weights(labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the weight of each clip, shape (clips,): inversely proportional to the number of clips of its class."""
    from sklearn.utils.class_weight import compute_sample_weight  # imported late: takes a second

    weights: NDArray[np.float32] = compute_sample_weight("balanced", labels).astype(np.float32)
    return weights


def order_of_clips(clips: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the order of the clips in an epoch, which does not depend on the epochs before."""
    return np.random.default_rng([seed, epoch]).permutation(clips)


def build_optimizer(section: ModelParams, clips: int) -> keras.optimizers.Optimizer:
    """Return Adam for epochs of `clips` clips.

    The schedule is a cosine without restarts, and weight decay is decoupled from the gradients: Loshchilov and Hutter,
    "SGDR" (2017) and "Decoupled Weight Decay Regularization" (2019).
    """
    learning_rate: Any = section.learning_rate
    if section.learning_rate_schedule == "cosine":
        steps = math.ceil(clips / section.batch_size)
        learning_rate = keras.optimizers.schedules.CosineDecay(learning_rate, section.epochs * steps)
    return keras.optimizers.Adam(learning_rate, weight_decay=section.weight_decay or None)


def build_replicate(model_name: str, section: ModelParams, train: AnySplit, seed: int) -> keras.Model:
    """Return a model with the weights that `seed` draws, compiled to fit the clips of `train`."""
    keras.utils.set_random_seed(seed)
    model = build_model(model_name, section, train.clips.shape[1:], len(train.class_names))
    model.compile(
        optimizer=build_optimizer(section, len(train.labels)),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,  # XLA was slower on the CPU for these models, and is not deterministic everywhere.
    )
    model.optimizer.build(model.trainable_variables)
    return model


def _next_replicate(model_name: str, section: ModelParams, train: AnySplit, seed: int) -> keras.Model:
    """Return what `build_replicate` does; where this process has trained another replicate, that model with new values.

    Tracing the ConvLSTM anew takes four seconds, half of one of its epochs.
    """
    # Without this, layer names continue the last replicate's numbers.
    keras.utils.clear_session()
    model = build_replicate(model_name, section, train, seed)
    alike = model_name, section, train.clips.shape, tuple(train.class_names)
    if alike in _traced:
        _assign(_traced[alike], _variables(model))
    else:
        _traced.clear()
        _traced[alike] = model
    return _traced[alike]


def fit_epochs(
    model: keras.Model, model_name: str, key: ReplicateKey, section: ModelParams, training: TrainingParams,
    source: SourceRecord, train: AnySplit, validation: Split, earlier: Checkpoint | None = None,
) -> Iterator[Epoch]:  # fmt: skip
    """Fit a replicate of a model for at most its epochs; yield its measures after each epoch.

    With an earlier checkpoint, training continues from there; the epochs before it are yielded too.

    Args:
        model: from `build_replicate`.
        source: of the clips: it says which labels a flip would change.

    Raises:
        UserError: if the loss stops being a number, or if clips are to be flipped and `source` does not say that.
    """
    seed, augmentation, balanced = key.seed, training.augmentation, training.class_weights == "balanced"
    may_flip = classes_to_flip(augmentation, source, train.class_names)[train.labels]
    validation_batches = read_batches(validation, section.batch_size, balanced=balanced)
    finished = earlier.history if earlier else []
    if earlier:
        _assign(model, earlier.variables)
    yield from finished
    for epoch in range(len(finished) + 1, section.epochs + 1):
        order = order_of_clips(len(train.labels), seed, epoch)
        draw = partial(augment, params=augmentation, may_flip=may_flip, seed=seed, epoch=epoch)
        transform = draw if augmentation.is_on() else None
        fitted = model.fit(
            read_batches(train, section.batch_size, order, balanced=balanced, transform=transform),
            initial_epoch=epoch - 1,
            epochs=epoch,
            shuffle=False,  # already shuffled
            validation_data=validation_batches,
            verbose=0,
        )
        logs = {measure: values[0] for measure, values in fitted.history.items()}
        if not math.isfinite(logs["loss"] + logs["val_loss"]):
            raise UserError(
                f"params.yaml: {model_name}.learning_rate: {section.learning_rate}: the loss of {key} is no longer "
                f"a number in epoch {epoch}; lower the learning rate or change training.seeds"
            )
        measures = Epoch(
            seed=seed, epoch=epoch, loss=logs["loss"], accuracy=logs["accuracy"],
            validation_loss=logs["val_loss"], validation_accuracy=logs["val_accuracy"],
        )  # fmt: skip
        if key.fold is not None:
            measures["fold"] = key.fold
        yield measures


def train_replicate(
    model_name: str, key: ReplicateKey, params: Params, source: SourceRecord, train: AnySplit, validation: Split,
    path: Path, checkpoint: Path, digest: str, on_event: EventCallback, are_current: Callable[[], bool] = lambda: True,
) -> Replicate:  # fmt: skip
    """Fit one replicate of a model and write it to `path` with the weights of its best epoch.

    Each epoch is saved in the file `checkpoint`, unless code and clips are no longer `are_current`. If that holds a
    checkpoint with the same `digest`, training continues from there and gives the same weights as one without
    interruption.

    Best is the lowest validation loss, by at least `min_delta`. Training stops at a loss of `target_loss`, or after
    `patience` epochs without a better one. Each finished epoch is passed to `on_event` as an `Epoch`, once it is saved;
    those of an earlier checkpoint too.

    Raises:
        UserError: if the loss stops being a number.
    """
    training, section = params.training, params.model(model_name)
    # The last replicates use the cores that the others have left: 0.67 of the time with two (ConvLSTM).
    fix_threads(training.threads, operations=max(training.threads, joblib.cpu_count()))
    started = time.perf_counter()
    model = _next_replicate(model_name, section, train, key.seed)
    earlier = load_checkpoint(checkpoint, digest)
    history: list[Epoch] = []
    epoch_seconds: list[float] = []
    best: Epoch | None = None
    for epoch in fit_epochs(model, model_name, key, section, training, source, train, validation, earlier):
        resumed = earlier if earlier and len(history) < len(earlier.history) else None
        epoch_seconds.append(resumed.epoch_seconds[len(history)] if resumed else time.perf_counter() - started)
        started = time.perf_counter()
        history.append(epoch)
        if best is None or epoch["validation_loss"] < best["validation_loss"] - training.min_delta:
            best, best_weights = epoch, resumed.best_weights if resumed else model.get_weights()
        if not resumed and are_current():
            variables = [variable.numpy() for variable in _variables(model)]
            save_checkpoint(checkpoint, digest, Checkpoint(history, epoch_seconds, variables, best_weights))
        on_event(epoch)  # after the checkpoint, which goes with it where the process runs on another machine
        if epoch["validation_loss"] <= training.target_loss or epoch["epoch"] - best["epoch"] >= training.patience:
            break
    assert best is not None
    model.set_weights(best_weights)
    save_model(model, path)
    return Replicate(
        history=history, best=best, parameters=model.count_params(), summary=_summarise(model),
        epoch_seconds=epoch_seconds, peak_megabytes=peak_megabytes(), machine=", ".join(describe_machine()),
    )  # fmt: skip


def _variables(model: keras.Model) -> list[keras.Variable]:
    # Unlike its weights, a model's variables have the state of dropout's random numbers.
    return [*model.variables, *model.optimizer.variables]


def _assign(model: keras.Model, values: Sequence[Any]) -> None:
    for variable, value in zip(_variables(model), values, strict=True):
        variable.assign(value)


def _summarise(model: keras.Model) -> str:
    # The width of Keras' own summary depends on the terminal.
    rows = [(layer.name, type(layer).__name__, layer.output.shape, layer.count_params()) for layer in model.layers]
    return "".join(f"{name:<32}{kind:<24}{shape!s:<28}{count:>8,}\n" for name, kind, shape, count in rows)
