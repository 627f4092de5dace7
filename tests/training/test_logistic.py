"""Logistic regression as the last layer, fitted to features of clips that are random numbers."""

from collections.abc import Sequence
from itertools import islice

import keras
import numpy as np
import pytest

from motionbench.core.paths import ReplicateKey
from motionbench.data.splits import Split
from motionbench.params.schema import Params
from motionbench.training.checkpoints import Checkpoint
from motionbench.training.logistic import fit_strengths
from motionbench.training.loop import build_replicate, read_batches
from motionbench.training.results import Epoch
from tests.conftest import TINY
from tests.training.conftest import Load

NAME = "frame_differences"


def random_split(clips: int, classes: int, seed: int) -> Split:
    """Return clips of which those of class 1 change most; a corner stays black."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=clips)
    pixels = rng.integers(0, 100, (clips, 4, 16, 20, 1)) * (1 + (labels == 1))[:, None, None, None, None]
    pixels[:, :, :4, :5] = 0
    return Split(pixels.astype(np.uint8), labels, tuple("abcd"[:classes]))


def fit(
    params: Params, splits: Sequence[Split], seed: int = 0, interrupted: int | None = None
) -> tuple[keras.Model, list[Epoch]]:
    """Fit a model; if `interrupted` after so many epochs, another one continues from the checkpoint."""
    earlier = None
    for number in (interrupted, None) if interrupted else (None,):
        model = build_replicate(NAME, params.model(NAME), splits[0], seed)
        train, validation = splits
        found = fit_strengths(
            model, ReplicateKey(seed), params.model(NAME), params.training, train, validation, earlier
        )
        history = [*islice(found, number)]
        earlier = Checkpoint(history, [], [], model.get_weights())
    return model, history


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_measures_are_those_of_keras_and_each_strength_is_weaker(classes: int, weights: str, params_with: Load) -> None:
    params = params_with(TINY | {"training.class_weights": weights, f"{NAME}.epochs": 5})
    splits = (random_split(41, classes, 0), random_split(23, classes, 1))
    model, history = fit(params, splits)
    for part, split in zip(("", "validation_"), splits, strict=True):
        batches = read_batches(split, 8, balanced=weights == "balanced")
        measured = model.evaluate(batches, verbose=0, return_dict=True)
        assert {name: history[-1][f"{part}{name}"] for name in measured} == pytest.approx(measured, rel=1e-3)  # type: ignore[literal-required]
    losses = [epoch["loss"] for epoch in history]
    assert len(losses) == 5
    assert losses == sorted(losses, reverse=True)
    assert history[-1]["accuracy"] > 0.9


def test_a_class_that_no_training_clip_has_is_not_expected(params_with: Load) -> None:
    train, validation = random_split(41, 2, 0), random_split(23, 2, 1)
    three = [split._replace(class_names=("a", "b", "c")) for split in (train, validation)]
    model, _ = fit(params_with(TINY), three)
    assert model(validation.clips).numpy()[:, 2].max() < 1e-6


def test_the_features_of_the_training_clips_are_standardized(params_with: Load) -> None:
    train, validation = random_split(41, 4, 0), random_split(23, 4, 1)
    model, _ = fit(params_with(TINY), (train, validation))
    standardized = keras.Model(model.inputs[0], model.layers[-1].input)
    features = standardized(train.clips).numpy()
    constant = np.ptp(features, axis=0) == 0
    assert constant.sum() == 16 + 3, "the first frame, and the black corner after it"
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(features.std(axis=0), np.where(constant, 0, 1), rtol=1e-3)
    assert np.abs(standardized(validation.clips).numpy().std(axis=0)[~constant] - 1).max() > 0.01


def test_seeds_and_interruptions_change_nothing_and_each_strength_does(params_with: Load) -> None:
    params, splits = params_with(TINY | {f"{NAME}.epochs": 4}), (random_split(41, 4, 0), random_split(23, 4, 1))
    once, other, resumed = fit(params, splits), fit(params, splits, seed=1), fit(params, splits, interrupted=2)
    for model, _ in (other, resumed):
        for pair in zip(once[0].get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(*pair)
    assert resumed[1] == once[1] == [{**epoch, "seed": 0} for epoch in other[1]]
    assert len({epoch["validation_loss"] for epoch in once[1]}) == 4
