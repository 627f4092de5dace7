from typing import Any

import keras
import numpy as np
import pytest

from motionbench.core.dvc_files import read_stages
from motionbench.core.files import read_yaml
from motionbench.data.splits import Clips
from motionbench.models.networks import MOMENTUM
from motionbench.models.registry import (
    BASELINES,
    CONTENDERS,
    CONTROLS,
    MODEL_NAMES,
    MODELS,
    contenders_among,
    reads_features,
)
from tests.conftest import ROOT
from tests.models.conftest import BY_GRADIENTS, CNNS, VARIANTS, Build

RECURRENT = [(20, 50, 130, 5), (20, 25, 65, 5), (20, 25, 65, 5), (20, 12, 32, 5)]
# The chapter's tables, line by line: output shape without the batch, and parameters. And that of the 3D CNN, by hand.
TABLES = {
    "cnn_lstm": [
        *zip(RECURRENT, (85, 0, 1605, 0), strict=True),
        ((20, 12, 32, 5), 1605),
        ((20, 6, 16, 5), 0),
        ((20, 480), 0),
        ((5,), 9720),
        ((4,), 24),
    ],
    "convlstm": [
        *zip(RECURRENT, (1940, 0, 12820, 0), strict=True),
        ((12, 32, 5), 12820),
        ((6, 16, 5), 0),
        ((480,), 0),
        ((4,), 1924),
    ],
    "cnn3d": [
        ((20, 50, 130, 8), 3 * 3 * 3 * 8 + 8),
        ((10, 25, 65, 8), 0),
        ((10, 25, 65, 16), 3 * 3 * 3 * 8 * 16 + 16),
        ((5, 12, 32, 16), 0),
        ((5, 12, 32, 16), 3 * 3 * 3 * 16 * 16 + 16),
        ((2, 6, 16, 16), 0),
        ((16,), 0),
        ((4,), 68),
    ],
}


@pytest.mark.parametrize("name", TABLES)
def test_layers_and_parameters_are_the_sources(name: str, build: Build) -> None:
    model = build(name, **({} if name == "cnn3d" else {"activation": "relu"}))
    assert isinstance(model.layers[0], keras.layers.Rescaling)
    table = [(tuple(layer.output.shape[1:]), layer.count_params()) for layer in model.layers[1:]]
    assert table == TABLES[name]


def test_both_kinds_of_time_distribution_compute_the_same(build: Build, clips: Clips) -> None:
    per_layer, whole_cnn = (build("cnn_lstm", time_distributed=kind) for kind in ("per_layer", "whole_cnn"))
    kinds = [type(layer).__name__ for layer in whole_cnn.layers]
    assert kinds == ["Rescaling", "FoldedTimeDistributed", "LSTM", "Dense"]
    whole_cnn.set_weights(per_layer.get_weights())
    np.testing.assert_allclose(whole_cnn(clips), per_layer(clips), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("frames", "left"), [(1, [1, 1, 1]), (3, [1, 1, 1]), (7, [3, 1, 1]), (8, [4, 2, 1])])
def test_frames_are_pooled_while_there_are_two(frames: int, left: list[int], build: Build) -> None:
    model = build("cnn3d", shape=(frames, 50, 130, 1))
    assert [layer.output.shape[1] for layer in model.layers if "pooling3d" in layer.name][:3] == left


@pytest.mark.parametrize("standardize", [False, True])
def test_controls_see_the_first_frame_or_all_in_no_order(standardize: bool, build: Build, clips: Clips) -> None:
    single_frame, bag_of_frames = (build(name, standardize=standardize) for name in ("single_frame", "bag_of_frames"))
    others_black = clips.copy()
    others_black[:, 1:] = 0
    np.testing.assert_array_equal(single_frame(others_black), single_frame(clips))
    assert np.abs(single_frame(clips[:, ::-1]) - single_frame(clips)).max() > 1e-4
    np.testing.assert_allclose(bag_of_frames(clips[:, ::-1]), bag_of_frames(clips), atol=1e-6)
    assert np.abs(bag_of_frames(others_black) - bag_of_frames(clips)).max() > 1e-4


@pytest.mark.parametrize("name", CNNS)
def test_standardized_a_clip_is_what_changes_in_it_however_faint(name: str, build_small: Build, small: Clips) -> None:
    faint, picture = small // 16, np.random.default_rng(1).integers(0, 100, small.shape[2:], dtype=np.uint8)
    bright = 8 * faint + (20 if name == "single_frame" else picture)
    plain, standardized = build_small(name), build_small(name, standardize=True)
    np.testing.assert_allclose(standardized(bright), standardized(faint), atol=1e-3)
    assert np.abs(plain(bright) - plain(faint)).max() > 0.002
    assert np.isfinite(standardized(np.zeros_like(small))).all()


def layers_of(layer: keras.Layer) -> list[keras.Layer]:
    """Return the layers without those around them, in their order."""
    inner = layer.layers if isinstance(layer, keras.Model) else [layer.layer] if hasattr(layer, "layer") else []
    return [each for below in inner for each in layers_of(below)] or [layer]


@pytest.mark.parametrize(("name", "variant"), [each for each in VARIANTS if each[0] in CNNS])
def test_batch_normalization_stands_before_each_pooling_and_training_alone_moves_it(
    name: str, variant: dict[str, Any], build_small: Build, small: Clips
) -> None:
    model = build_small(name, batch_normalization=True, **variant)
    layers = layers_of(model)
    places = [place for place, layer in enumerate(layers) if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(places) == 2
    for place in places:
        assert type(layers[place - 1]).__name__ in ("MultiPixelConv2D", "FusedConvLSTM2D", "Conv3D")
        assert type(layers[place + 1]).__name__ in ("MaxPooling2D", "MaxPooling3D")
    plain = layers_of(build_small(name, **variant))
    assert [type(layer) for place, layer in enumerate(layers) if place not in places] == [*map(type, plain)]

    means = []
    for training in (False, True, True):
        model(small, training=training)
        means.append(layers[places[0]].moving_mean.numpy().copy())
    assert [mean.any() for mean in means] == [False, True, True]
    np.testing.assert_allclose(means[2], (1 + MOMENTUM) * means[1], rtol=1e-5)
    assert np.abs(model(small, training=True) - model(small, training=False)).max() > 1e-5


@pytest.mark.parametrize(("name", "variant"), [each for each in VARIANTS if each[0] in BY_GRADIENTS])
def test_dropout_is_of_the_last_features_and_of_training(
    name: str, variant: dict[str, Any], build_small: Build, small: Clips
) -> None:
    plain, dropping = (build_small(name, dropout=share, **variant) for share in (0.0, 0.75))
    kinds = [type(layer).__name__ for layer in dropping.layers]
    assert kinds[-2:] == ["Dropout", "Dense"]
    assert kinds[:-2] == [type(layer).__name__ for layer in plain.layers][:-1]
    dropping.set_weights(plain.get_weights())
    np.testing.assert_array_equal(dropping(small, training=False), plain(small))
    ones = np.ones((100, 100), "float32")
    assert np.count_nonzero(dropping.layers[-2](ones, training=True)) == pytest.approx(2500, abs=200)


def test_seeds_drop_other_features(build_small: Build) -> None:
    def masks(seed: int) -> list[Any]:
        dropout = build_small("convlstm", dropout=0.5, seed=seed).layers[-2]
        return [dropout(np.ones((2, 50), "float32"), training=True).numpy().tolist() for _ in range(2)]

    first, second = masks(1)
    assert masks(1) == [first, second]
    assert first != second
    assert masks(2)[0] not in (first, second)


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_each_model_has_section_and_stage_and_maps_clips_to_probabilities(name: str, build_small: Build) -> None:
    section = read_yaml(ROOT / "params.yaml")[name]
    assert set(section) | {"enabled"} == set(MODELS[name].params.model_fields)
    [training] = [stage for stage in read_stages(ROOT / "dvc.yaml").values() if name in stage.model_names()]
    assert name in training.params
    model = build_small(name)
    assert model.name == name
    kind = "float16" if reads_features(name) else "uint8"
    assert (model.input_shape, model.input_dtype) == ((None, 4, 16, 20, 1), kind)
    assert model.output_shape == (None, 4)


STACK: dict[str, Any] = {"filters": (2, 3), "kernel_sizes": (3, 2)}
OWN: dict[str, dict[str, Any]] = {
    "cnn_lstm": {"time_distributed": "whole_cnn", "lstm_units": 6, "activation": "relu"},
    "convlstm": {"activation": "relu"},
    "cnn3d": {"kernel_frames": 2},
    "pretrained_lstm": {"lstm_units": 5},
}


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_every_model_parameter_changes_the_model(name: str, build_small: Build) -> None:
    plain = str(build_small(name).to_json())
    assert str(build_small(name).to_json()) == plain
    shared = {"dropout": 0.5} if name in BY_GRADIENTS else {}
    shared |= {**STACK, "downsample": 2, "standardize": True, "batch_normalization": True} if name in CNNS else {}
    for key, value in {**shared, **OWN.get(name, {})}.items():
        assert str(build_small(name, **{key: value}).to_json()) != plain, key


def test_contenders_come_first_and_in_the_registrys_order() -> None:
    assert {"cnn_lstm", "convlstm", "cnn3d"} <= set(CONTENDERS)
    assert {"single_frame", "bag_of_frames"} <= set(CONTROLS)
    assert BASELINES == ("frame_differences",)
    assert [*CONTENDERS, *BASELINES, *CONTROLS] == list(MODEL_NAMES)
    assert sorted(MODEL_NAMES) == sorted(MODELS)
    assert contenders_among(["single_frame", "convlstm", "cnn_lstm", "unknown"]) == ("cnn_lstm", "convlstm")
    assert contenders_among(reversed(MODEL_NAMES)) == CONTENDERS
    assert contenders_among(iter(["convlstm"])) == ("convlstm",)
