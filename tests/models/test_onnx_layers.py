import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from motionbench.core.errors import UserError
from motionbench.data.params import ClipShape
from motionbench.data.splits import Clips
from motionbench.models.backbone import load_backbone, with_backbone
from motionbench.models.layers import FoldedTimeDistributed
from motionbench.models.onnx_layers import to_onnx
from motionbench.models.onnx_runtime import infer, open_session, read_metadata, with_metadata
from motionbench.models.registry import reads_features
from tests.models.conftest import CNNS, EVERY_VARIANT, Build

OPTIONS = {"downsample": 2, "standardize": True, "batch_normalization": True, "filters": (3, 9), "kernel_sizes": (4, 3)}


def check_answers(model: keras.Model, clips: NDArray[Any], difference: float = 1e-6) -> None:
    """Give weights of one axis random values, as training does, and compare ONNX Runtime's answers with Keras's."""
    random = np.random.default_rng(0)
    for weight in model.weights:
        if len(weight.shape) == 1 and weight.shape[0] > 1:
            weight.assign(random.uniform(0.5, 1, weight.shape))
    content = to_onnx(model)
    assert to_onnx(model) == content, "the same bytes"
    session = open_session(content, threads=1)
    expected = np.asarray(model(clips, training=False))
    assert np.ptp(expected, axis=0).max() > 20 * difference, "clips that the model cannot tell apart show nothing"
    np.testing.assert_allclose(infer(session, clips), expected, rtol=0, atol=difference)
    np.testing.assert_allclose(session.run(None, {"clips": clips})[0], expected, rtol=0, atol=difference)


@EVERY_VARIANT
def test_every_model_has_the_answers_of_keras(name: str, variant: dict[str, Any], build: Build, clips: Clips) -> None:
    small = clips[:, :6, :32, :40] // np.array([1, 4], np.uint8)[:, None, None, None, None]
    features = small.astype(np.float16) / np.float16(255)
    sizes: dict[str, Any] = {"kernel_sizes": (4, 3, 2)} if name in CNNS else {}
    model = build(name, shape=(6, 32, 40, 1), **sizes, **variant)
    check_answers(model, features if reads_features(name) else small)
    if name in CNNS:
        colours = small.reshape(2, 6, 32, 10, 4)[..., :3]
        check_answers(build(name, shape=(6, 32, 10, 3), **OPTIONS, **variant), colours)


@pytest.mark.parametrize("shape", [(4, 48, 43, 3), (4, 32, 100, 1)])  # scaled up, and one side down
def test_a_head_comes_with_its_backbone(shape: ClipShape, build: Build, clips: Clips, tmp_path: Path) -> None:
    layers = keras.layers
    frames = keras.Input((None, None, 3), dtype="uint8")
    maps = layers.Rescaling([1 / 255] * 3, [0.1, 0.2, 0.3])(frames)
    maps = layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[0.1, 0.2, 0.3])(maps)
    maps = layers.Conv2D(4, 3, strides=2, padding="same", activation="hard_silu")(maps)
    inner = layers.ZeroPadding2D(((0, 1), (1, 2)))(layers.BatchNormalization()(maps))
    inner = layers.ReLU(6)(layers.DepthwiseConv2D((2, 4), use_bias=False)(inner) + 1.0)
    inner = layers.Multiply()([layers.GlobalAveragePooling2D(keepdims=True)(inner), inner]) * (1 / 6)
    keras.Model(frames, inner + maps).save(tmp_path / "own.keras")
    backbone = load_backbone(tmp_path / "own.keras", 48)
    small = np.resize(clips, (2, *shape)) // np.array([1, 4], np.uint8)[:, None, None, None, None]
    whole = with_backbone(build("pretrained_linear", shape=(4, 2, 2, 4)), backbone, shape)
    check_answers(whole, small, difference=1e-5)


def test_a_damaged_file_is_refused_in_one_line(build_small: Build, tmp_path: Path) -> None:
    (file := tmp_path / "a.onnx").write_bytes(to_onnx(build_small("cnn_lstm"))[:3000])
    with pytest.raises(UserError, match=rf"^{file}: ONNX Runtime cannot read it \(.*\)$"):
        open_session(file)
    with pytest.raises(UserError, match=r"^ONNX Runtime cannot read it \(.*\)$"):
        open_session(file.read_bytes())


@pytest.mark.skipif(sys.platform != "linux", reason="no process is kept on some cores")
def test_a_process_that_may_use_one_core_has_one_thread(build_small: Build) -> None:
    content, cores = to_onnx(build_small("cnn_lstm")), os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        assert open_session(content).get_session_options().intra_op_num_threads == 1
    finally:
        os.sched_setaffinity(0, cores)


def test_the_file_says_what_it_is(build_small: Build) -> None:
    content = with_metadata(to_onnx(build_small("cnn_lstm")), {"class_names": ["a", "b"], "model": "cnn_lstm"})
    content = with_metadata(content, {"commit": "1234"})
    assert read_metadata(content) == {"class_names": '["a", "b"]', "commit": "1234", "model": "cnn_lstm"}
    model = onnx.load_from_string(content)
    [clips], [probabilities] = model.graph.input, model.graph.output
    assert [each.dim_param or each.dim_value for each in clips.type.tensor_type.shape.dim] == ["clips", 4, 16, 20, 1]
    assert clips.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [each.dim_param or each.dim_value for each in probabilities.type.tensor_type.shape.dim] == ["clips", 4]


CONVOLVED = keras.layers.Conv2D(4, 3, padding="same", activation="relu")
POOLED = keras.layers.MaxPooling2D(2)


@pytest.mark.parametrize(
    "layers",
    [
        [keras.layers.Rescaling([1 / 255, 1 / 200, 1 / 100]), CONVOLVED, POOLED],
        [keras.layers.Rescaling(1 / 255), keras.layers.BatchNormalization(), CONVOLVED, POOLED],
        [keras.layers.Normalization(mean=[120, 80, 40], variance=[900, 1600, 2500]), CONVOLVED, POOLED],
        [keras.layers.Rescaling(1 / 255), CONVOLVED, keras.layers.MaxPooling2D(2, padding="same")],
        [keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(4, 3, padding="same", activation="softmax"), POOLED],
    ],
)
def test_layers_that_no_model_here_has_have_the_answers_of_keras(layers: list[keras.Layer], clips: Clips) -> None:
    ends = [keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
    layers = [each.from_config(each.get_config()) for each in layers]
    model = keras.Sequential([keras.Input((21, 23, 3), dtype="uint8"), *layers, *ends], name="own")
    check_answers(model, np.resize(clips, (2, 21, 23, 3)) // np.array([1, 4], np.uint8)[:, None, None, None])


@pytest.mark.parametrize("wrap", [lambda layer: layer, FoldedTimeDistributed])
@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (keras.layers.Softmax(name="mixer"), r"layer mixer \(Softmax\): models/onnx_layers.py has no rule for it"),
        (keras.layers.Activation("gelu"), "activation gelu: models/onnx_kernels.py has no rule for it"),
        *[(keras.layers.LSTM(2, name), f"activation {name} of an LSTM: ") for name in ("gelu", "linear")],
    ],
)
def test_a_layer_without_a_rule_is_refused(wrap: Callable[..., Any], layer: keras.Layer, said: str) -> None:
    shape = (2, 4, 3) if wrap is FoldedTimeDistributed else (4, 3)
    with pytest.raises(UserError, match=said):
        to_onnx(keras.Sequential([keras.Input(shape), wrap(layer)]))
