"""Epochs of one model on the clips of a split."""

import math
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from motionbench.core.errors import UserError
from motionbench.data.splits import Split
from motionbench.models.registry import ModelParams, build_model
from motionbench.training.results import Epoch


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
    model = build_model(model_name, model_params, train.clips.shape[1:], len(train.class_names))
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
