from typing import Any

import keras
import pytest

from motionbench.core.dvc_files import read_stages
from motionbench.core.files import read_yaml
from motionbench.models.registry import CONTENDERS, CONTROLS, MODEL_NAMES, MODELS, build_model, contenders_among
from motionbench.params.schema import Params
from tests.conftest import ROOT, TINY
from tests.models.conftest import SMALL_SHAPE, Load


def test_every_model_is_a_contender_or_a_control() -> None:
    assert {"cnn_lstm", "convlstm", "cnn3d"} <= set(CONTENDERS)
    assert {"single_frame", "bag_of_frames"} <= set(CONTROLS)
    assert [*CONTENDERS, *CONTROLS] == list(MODEL_NAMES)
    assert contenders_among(["single_frame", "cnn3d", "cnn_lstm"]) == ("cnn_lstm", "cnn3d")
    assert sorted(MODEL_NAMES) == sorted(MODELS)


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_each_model_has_section_and_stage(name: str) -> None:
    section = read_yaml(ROOT / "params.yaml")[name]
    assert set(section) | {"enabled"} == set(MODELS[name].params.model_fields)
    training = [stage for stage in read_stages(ROOT / "dvc.yaml").values() if name in stage.model_names()]
    assert len(training) == 1
    assert name in training[0].params


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_each_model_maps_clips_to_probabilities(name: str, params_with: Load) -> None:
    model = build_model(name, params_with(TINY).model(name), SMALL_SHAPE, 3)
    assert model.name == name
    assert model.input_shape == (None, *SMALL_SHAPE)
    assert model.input_dtype == "uint8"
    assert model.output_shape == (None, 3)


@pytest.mark.parametrize(
    "change",
    [
        {"cnn_lstm.time_distributed": "whole_cnn"},
        {"cnn_lstm.filters": [2, 3]},
        {"cnn_lstm.kernel_sizes": [3, 2]},
        {"cnn_lstm.lstm_units": 6},
        {"cnn_lstm.activation": "relu"},
        {"convlstm.filters": [2, 3]},
        {"convlstm.kernel_sizes": [3, 2]},
        {"convlstm.activation": "relu"},
        {"cnn3d.filters": [2, 3]},
        {"cnn3d.kernel_sizes": [3, 2]},
        {"cnn3d.kernel_frames": 2},
        {"single_frame.filters": [2, 3]},
        {"single_frame.kernel_sizes": [3, 2]},
        {"bag_of_frames.filters": [2, 3]},
        {"bag_of_frames.kernel_sizes": [3, 2]},
        *({f"{name}.batch_normalization": True} for name in MODEL_NAMES),
        *({f"{name}.dropout": 0.5} for name in MODEL_NAMES),
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_model_parameter_changes_the_model(change: dict[str, Any], params_with: Load) -> None:
    name = next(iter(change)).split(".")[0]

    def config(params: Params) -> str:
        keras.utils.clear_session(free_memory=False)
        return str(build_model(name, params.model(name), SMALL_SHAPE, 4).to_json())

    assert config(params_with(TINY | change)) != config(params_with(TINY))
    assert config(params_with(TINY)) == config(params_with(TINY))


def test_contenders_among_models_are_in_the_registrys_order() -> None:
    assert contenders_among(["single_frame", "convlstm", "cnn_lstm", "unknown"]) == ("cnn_lstm", "convlstm")
    assert contenders_among(reversed(MODEL_NAMES)) == CONTENDERS
    assert contenders_among(iter(["convlstm"])) == ("convlstm",)
