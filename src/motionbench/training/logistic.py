"""Training of the models that end with a logistic regression, which scikit-learn fits."""

import warnings
from collections.abc import Iterator
from itertools import pairwise

import keras
import numpy as np
from numpy.typing import NDArray

from motionbench.core.paths import ReplicateKey
from motionbench.data.folds import AnySplit
from motionbench.models.feature_layers import Standardize
from motionbench.models.registry import LogisticParams
from motionbench.params.schema import TrainingParams
from motionbench.training.checkpoints import Checkpoint
from motionbench.training.results import Epoch

FIRST_C = 1e-3  # of the first epoch: C is scikit-learn's inverse strength of the regularization
CLIPS_AT_ONCE = 32
SMALLEST_SHARE = 0.01  # of the mean deviation: what is constant in training may not be so elsewhere
NEVER = -30.0  # bias of a class that no training clip has


def standardize(model: keras.Model, train: AnySplit) -> None:
    """Set what the model's `Standardize` layers subtract and divide by, from the clips or features to train with."""
    for before, layer in pairwise(model.layers):
        if isinstance(layer, Standardize):
            numbers = _outputs(model, before, train)
            numbers = numbers.reshape(-1, numbers.shape[-1])
            deviations = numbers.std(axis=0)
            smallest = SMALLEST_SHARE * deviations.mean() or 1.0  # where all numbers are constant
            layer.set_weights([numbers.mean(axis=0), np.maximum(deviations, smallest)])


def _outputs(model: keras.Model, layer: keras.Layer, split: AnySplit) -> NDArray[np.float64]:
    """Return what a layer of the model makes of all clips of a split."""
    part = keras.Model(model.inputs[0], layer.output)
    firsts = range(0, len(split.labels), CLIPS_AT_ONCE)
    batches = [np.asarray(part(split.clips[first : first + CLIPS_AT_ONCE], training=False)) for first in firsts]
    return np.concatenate(batches).astype(np.float64)


def fit_strengths(
    model: keras.Model, key: ReplicateKey, section: LogisticParams, training: TrainingParams,
    train: AnySplit, validation: AnySplit, earlier: Checkpoint | None = None,
) -> Iterator[Epoch]:  # fmt: skip # not one argument a line
    """Fit the last layer of a replicate with one strength of L2 regularization per epoch, each a tenth of the last.

    The clips are used as they are: augmentation does not apply. Nothing is drawn at random, so that replicates of all
    seeds are equal. With an earlier checkpoint, training continues from there; the epochs before it are yielded too.
    """
    # Imported late: takes a second.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.utils.class_weight import compute_sample_weight
    from threadpoolctl import threadpool_limits

    finished = earlier.history if earlier else []
    yield from finished
    (numbers, held_out) = (_outputs(model, model.layers[-2], split) for split in (train, validation))
    balanced = "balanced" if training.class_weights == "balanced" else None
    classes = len(train.class_names)
    for epoch in range(len(finished) + 1, section.epochs + 1):
        regression = LogisticRegression(C=FIRST_C * 10.0 ** (epoch - 1), max_iter=1000)
        # One thread: the order of sums, and with it the bits, would depend on the number of cores.
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # of weak regularization, whose loss tells
            regression.fit(numbers, train.labels, compute_sample_weight(balanced, train.labels))
        kernel, bias = np.zeros((numbers.shape[1], classes)), np.full(classes, NEVER)
        coefficients, intercepts = regression.coef_, regression.intercept_
        if len(regression.classes_) == 2:  # of which scikit-learn keeps the difference
            coefficients, intercepts = (np.concatenate([-each / 2, each / 2]) for each in (coefficients, intercepts))
        kernel[:, regression.classes_], bias[regression.classes_] = coefficients.T, intercepts
        model.layers[-1].set_weights([kernel, bias])
        measures = Epoch(seed=key.seed, epoch=epoch, loss=0, accuracy=0, validation_loss=0, validation_accuracy=0)
        for prefix, inputs, split in (("", numbers, train), ("validation_", held_out, validation)):
            logits = inputs @ kernel + bias
            log_likelihoods = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
            right = log_likelihoods.argmax(axis=1) == split.labels
            of_label = -log_likelihoods[np.arange(len(right)), split.labels]
            weights = compute_sample_weight(balanced, split.labels)
            measures[f"{prefix}loss"] = float(np.average(of_label, weights=weights))  # type: ignore[literal-required]
            measures[f"{prefix}accuracy"] = float(right.mean())  # type: ignore[literal-required] # a key in two parts
        if key.fold is not None:
            measures["fold"] = key.fold
        yield measures
