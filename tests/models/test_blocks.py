from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from motionbench.data.splits import Clips
from motionbench.models.archive import load_model, save_model
from motionbench.models.blocks import MOMENTUM
from motionbench.models.cost import count_flops
from motionbench.models.registry import MODEL_NAMES, build_model
from tests.conftest import TINY
from tests.models.conftest import SMALL_SHAPE, Load

WHOLE_CNN = {"cnn_lstm.time_distributed": "whole_cnn"}
VARIANTS = [*((name, {}) for name in MODEL_NAMES), ("cnn_lstm", WHOLE_CNN)]
EVERY_VARIANT = pytest.mark.parametrize(("name", "variant"), VARIANTS, ids=[*MODEL_NAMES, "cnn_lstm whole_cnn"])


@pytest.fixture
def small(clips: Clips) -> Clips:
    return clips[:, :4, :16, :20]


def layers_of(layer: keras.Layer) -> list[keras.Layer]:
    """Return the layers without those around them, in their order."""
    inner = layer.layers if isinstance(layer, keras.Model) else [layer.layer] if hasattr(layer, "layer") else []
    return [each for below in inner for each in layers_of(below)] or [layer]


def build(params_with: Load, name: str, changes: dict[str, Any]) -> keras.Model:
    keras.utils.set_random_seed(0)
    return build_model(name, params_with(TINY | changes).model(name), SMALL_SHAPE, 4)


@EVERY_VARIANT
def test_batch_normalization_stands_before_each_pooling(name: str, variant: dict[str, Any], params_with: Load) -> None:
    normalized = layers_of(build(params_with, name, variant | {f"{name}.batch_normalization": True}))
    places = [place for place, layer in enumerate(normalized) if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(places) == 2
    for place in places:
        assert type(normalized[place - 1]).__name__ in ("MultiPixelConv2D", "FusedConvLSTM2D", "Conv3D")
        assert type(normalized[place + 1]).__name__ in ("MaxPooling2D", "MaxPooling3D")
    plain = layers_of(build(params_with, name, variant))
    assert [type(layer) for place, layer in enumerate(normalized) if place not in places] == [*map(type, plain)]


@EVERY_VARIANT
def test_training_alone_moves_the_statistics(
    name: str, variant: dict[str, Any], params_with: Load, small: Clips
) -> None:
    model = build(params_with, name, variant | {f"{name}.batch_normalization": True})
    first = next(layer for layer in layers_of(model) if isinstance(layer, keras.layers.BatchNormalization))

    def mean() -> Any:
        return first.moving_mean.numpy().copy()

    model(small, training=False)
    assert not mean().any()
    model(small, training=True)
    once = mean()
    model(small, training=True)
    assert once.any()
    np.testing.assert_allclose(mean(), (1 + MOMENTUM) * once, rtol=1e-5)
    assert np.abs(model(small, training=True) - model(small, training=False)).max() > 1e-5


@EVERY_VARIANT
def test_dropout_is_of_the_last_features_and_of_training(
    name: str, variant: dict[str, Any], params_with: Load, small: Clips
) -> None:
    plain, dropping = (build(params_with, name, variant | {f"{name}.dropout": share}) for share in (0.0, 0.75))
    kinds = [type(layer).__name__ for layer in dropping.layers]
    assert kinds[-2:] == ["Dropout", "Dense"]
    assert kinds[:-2] == [type(layer).__name__ for layer in plain.layers][:-1]
    dropping.set_weights(plain.get_weights())
    np.testing.assert_array_equal(dropping(small, training=False), plain(small))
    ones = np.ones((100, 100), "float32")
    assert np.count_nonzero(dropping.layers[-2](ones, training=True)) == pytest.approx(2500, abs=200)


def test_seeds_drop_other_features(params_with: Load) -> None:
    section, ones = params_with(TINY | {"convlstm.dropout": 0.5}).model("convlstm"), np.ones((2, 50), "float32")

    def masks(seed: int) -> list[Any]:
        keras.utils.set_random_seed(seed)
        dropout = build_model("convlstm", section, SMALL_SHAPE, 4).layers[-2]
        return [dropout(ones, training=True).numpy().tolist() for _ in range(2)]

    assert masks(1) == masks(1)
    first, second = masks(1)
    assert first != second
    assert masks(2)[0] not in (first, second)


@EVERY_VARIANT
def test_regularized_models_have_the_same_bytes_and_open_again(
    name: str, variant: dict[str, Any], params_with: Load, small: Clips, tmp_path: Path
) -> None:
    changes = variant | {f"{name}.batch_normalization": True, f"{name}.dropout": 0.5}
    model = build(params_with, name, changes)
    model(small, training=True)  # moves statistics and the state of the random numbers
    save_model(model, tmp_path / "once.keras")
    model.layers[-2](np.ones((2, 2), "float32"), training=True)
    save_model(model, tmp_path / "twice.keras")
    assert (tmp_path / "once.keras").read_bytes() == (tmp_path / "twice.keras").read_bytes()
    np.testing.assert_array_equal(load_model(tmp_path / "once.keras")(small), model(small))
    assert count_flops(model) == count_flops(build(params_with, name, variant)), "neither counts"
