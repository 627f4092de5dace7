"""Training in one process: a model, and its epochs on the clips of a split."""

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from motionbench.core.errors import UserError
from motionbench.core.paths import ReplicateKey
from motionbench.data.augmentation import augment, labels_when_flipped
from motionbench.data.folds import AnySplit
from motionbench.data.splits import Clips, DatasetInfo, Split
from motionbench.models.networks import build_model
from motionbench.models.registry import GradientParams, ModelParams
from motionbench.params.schema import TrainingParams
from motionbench.training.checkpoints import Checkpoint
from motionbench.training.logistic import standardize
from motionbench.training.results import Epoch

_traced: dict[Hashable, keras.Model] = {}  # the last one that this process has trained


def read_batches(
    split: AnySplit, batch_size: int, order: NDArray[np.int64] | None = None, *, balanced: bool = False,
    transform: Callable[[Clips, NDArray[np.int64], NDArray[np.int64]], tuple[Clips, NDArray[np.int64]]] | None = None,
) -> tf.data.Dataset:  # fmt: skip # not one argument a line
    """Return clips and labels of `split` in batches, read from its file as they are needed.

    Clips stay uint8: the model scales each batch.

    >>> split = Split(np.zeros((3, 4, 8, 6, 1), np.uint8), np.array([1, 0, 1]), ("bow", "wave"))
    >>> [(clips.shape[0], labels.numpy().tolist()) for clips, labels in read_batches(split, 2)]
    [(2, [1, 0]), (1, [1])]

    Args:
        order: of the clips, by default the file's.
        balanced: whether a batch also holds weights, inversely proportional to the number of clips of the class.
        transform: called with clips and labels of a batch and their numbers in `split`; returns what to read instead.
    """
    weights = None
    if balanced:
        from sklearn.utils.class_weight import compute_sample_weight  # imported late: takes a second

        weights = compute_sample_weight("balanced", split.labels).astype(np.float32)
    clip_numbers = tf.data.Dataset.from_tensor_slices(np.arange(len(split.labels)) if order is None else order)

    def read(indices: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        clips, labels = np.asarray(split.clips[indices]), split.labels[indices]
        return transform(clips, labels, indices) if transform else (clips, labels)

    def read_in_graph(indices: tf.Tensor) -> tuple[tf.Tensor, ...]:
        clips, labels = tf.numpy_function(read, [indices], [tf.as_dtype(split.clips.dtype), tf.int64])
        batch = tf.ensure_shape(clips, (None, *split.clips.shape[1:])), tf.ensure_shape(labels, (None,))
        return batch if weights is None else (*batch, tf.gather(weights, indices))

    options = tf.data.Options()
    # Nothing here is tuned, and the end of an epoch often waits for the tuner's thread, which sleeps for seconds.
    options.autotune.enabled = False
    return clip_numbers.batch(batch_size).map(read_in_graph).prefetch(1).with_options(options)


def order_of_clips(clips: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the order of the clips in an epoch, which does not depend on the epochs before.

    >>> order_of_clips(5, seed=0, epoch=1).tolist()
    [1, 4, 3, 0, 2]
    """
    return np.random.default_rng([seed, epoch]).permutation(clips)


def build_optimizer(section: GradientParams, clips: int) -> keras.optimizers.Optimizer:
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
    keras.utils.clear_session()  # Without this, layer names continue the last replicate's numbers.
    keras.utils.set_random_seed(seed)
    model = build_model(model_name, section, train.clips.shape[1:], len(train.class_names))
    standardize(model, train)
    model.compile(
        optimizer=build_optimizer(section, len(train.labels)) if isinstance(section, GradientParams) else "sgd",
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,  # XLA was slower on the CPU for these models, and is not deterministic everywhere.
    )
    model.optimizer.build(model.trainable_variables)
    return model


def reuse_traced(model: keras.Model, alike: Hashable) -> keras.Model:
    """Return the model that this process has traced for replicates `alike`, with the values of `model`.

    Without one, `model` is returned, and kept. Tracing the ConvLSTM anew takes four seconds, half of one of its epochs.
    """
    if alike in _traced:
        assign(_traced[alike], variables(model))
    else:
        _traced.clear()
        _traced[alike] = model
    return _traced[alike]


def fit_epochs(
    model: keras.Model, model_name: str, key: ReplicateKey, section: GradientParams, training: TrainingParams,
    dataset: DatasetInfo, train: AnySplit, validation: Split, earlier: Checkpoint | None = None,
) -> Iterator[Epoch]:  # fmt: skip # not one argument a line
    """Fit a replicate of a model for at most its epochs; yield its measures after each epoch.

    With an earlier checkpoint, training continues from there; the epochs before it are yielded too.

    Args:
        model: from `build_replicate`.
        dataset: of the clips: it says which labels a flip would change.

    Raises:
        UserError: if the loss stops being a number, or if clips are to be flipped and `dataset` does not say that.
    """
    seed, augmentation, balanced = key.seed, training.augmentation, training.class_weights == "balanced"
    flipped_labels = labels_when_flipped(augmentation, dataset, train.class_names)
    validation_batches = read_batches(validation, section.batch_size, balanced=balanced)
    finished = earlier.history if earlier else []
    if earlier:
        assign(model, earlier.variables)
    yield from finished
    for epoch in range(len(finished) + 1, section.epochs + 1):
        order = order_of_clips(len(train.labels), seed, epoch)
        draw = partial(augment, params=augmentation, flipped_labels=flipped_labels, seed=seed, epoch=epoch)
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
        )  # fmt: skip # loss and accuracy side by side
        if key.fold is not None:
            measures["fold"] = key.fold
        yield measures


def variables(model: keras.Model) -> list[keras.Variable]:
    """Return all that a training changes: of the model, then of its optimizer."""
    # Unlike its weights, a model's variables have the state of dropout's random numbers.
    return [*model.variables, *model.optimizer.variables]


def assign(model: keras.Model, values: Sequence[Any]) -> None:
    """Set the `variables` of a model."""
    for variable, value in zip(variables(model), values, strict=True):
        variable.assign(value)


def summarise(model: keras.Model) -> str:
    """Return a line per layer: name, type, output shape, number of parameters."""
    # The width of Keras' own summary depends on the terminal.
    rows = [(layer.name, type(layer).__name__, layer.output.shape, layer.count_params()) for layer in model.layers]
    return "".join(f"{name:<32}{kind:<24}{shape!s:<28}{count:>8,}\n" for name, kind, shape, count in rows)
