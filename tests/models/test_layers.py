from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from motionbench.core.errors import UserError
from motionbench.models.archive import load_model, save_model
from motionbench.models.cost import count_flops
from motionbench.models.layers import FoldedTimeDistributed, FusedConvLSTM2D, MultiPixelConv2D
from motionbench.models.registry import CONTENDERS, CONTROLS, build_model
from motionbench.params.schema import Params

Load = Callable[[dict[str, Any]], Params]
CLIP = (20, 50, 130, 1)

# The chapter's two tables, line by line: output shape without the batch, and parameters.
SOURCE_CNN_LSTM = [
    ((20, 50, 130, 5), 85),
    ((20, 25, 65, 5), 0),
    ((20, 25, 65, 5), 1605),
    ((20, 12, 32, 5), 0),
    ((20, 12, 32, 5), 1605),
    ((20, 6, 16, 5), 0),
    ((20, 480), 0),
    ((5,), 9720),
    ((4,), 24),
]
SOURCE_CONVLSTM = [
    ((20, 50, 130, 5), 1940),
    ((20, 25, 65, 5), 0),
    ((20, 25, 65, 5), 12820),
    ((20, 12, 32, 5), 0),
    ((12, 32, 5), 12820),
    ((6, 16, 5), 0),
    ((480,), 0),
    ((4,), 1924),
]


def table(model: keras.Model) -> list[tuple[tuple[int, ...], int]]:
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.Rescaling)]
    return [(tuple(layer.output.shape[1:]), layer.count_params()) for layer in layers]


def test_layers_and_parameters_are_the_sources(params_with: Load) -> None:
    params = params_with({"cnn_lstm.activation": "relu", "convlstm.activation": "relu"})
    cnn_lstm = build_model("cnn_lstm", params.cnn_lstm, CLIP, 4)
    assert table(cnn_lstm) == SOURCE_CNN_LSTM
    assert cnn_lstm.count_params() == 13_039
    convlstm = build_model("convlstm", params.convlstm, CLIP, 4)
    assert table(convlstm) == SOURCE_CONVLSTM
    assert convlstm.count_params() == 29_504


def test_both_wirings_of_the_cnn_lstm_compute_the_same(params_with: Load) -> None:
    layers = build_model("cnn_lstm", params_with({}).cnn_lstm, CLIP, 4)
    cnn = build_model("cnn_lstm", params_with({"cnn_lstm.time_distributed": "cnn"}).cnn_lstm, CLIP, 4)
    assert [type(layer).__name__ for layer in cnn.layers] == ["Rescaling", "FoldedTimeDistributed", "LSTM", "Dense"]
    assert cnn.count_params() == 13_039
    cnn.set_weights(layers.get_weights())
    clips = random_clips()
    np.testing.assert_allclose(cnn(clips), layers(clips), rtol=1e-5, atol=1e-6)


def test_the_controls_are_blind_to_motion(params_with: Load) -> None:
    params, clips = params_with({}), random_clips()
    later_differ, reordered = clips.copy(), clips[:, ::-1]
    later_differ[:, 1:] = 0
    single_frame = build_model("single_frame", params.single_frame, CLIP, 4)
    np.testing.assert_array_equal(single_frame(later_differ), single_frame(clips))
    assert np.abs(single_frame(reordered) - single_frame(clips)).max() > 1e-4
    bag_of_frames = build_model("bag_of_frames", params.bag_of_frames, CLIP, 4)
    np.testing.assert_allclose(bag_of_frames(reordered), bag_of_frames(clips), atol=1e-6)
    assert np.abs(bag_of_frames(later_differ) - bag_of_frames(clips)).max() > 1e-4


def test_flops_are_those_worked_out_by_hand(params_with: Load) -> None:
    params = params_with({})
    pixels = [50 * 130, 25 * 65, 12 * 32]
    convolutions = [4 * 4 * 1 * 5, 8 * 8 * 5 * 5, 8 * 8 * 5 * 5]
    cnn = 20 * sum(2 * weights * size for weights, size in zip(convolutions, pixels, strict=True))
    lstm = 20 * 2 * (480 + 5) * 4 * 5
    for wiring in ("layers", "cnn"):
        model = build_model("cnn_lstm", params.cnn_lstm.model_copy(update={"wiring": wiring}), CLIP, 4)
        assert count_flops(model) == cnn + lstm + 2 * 5 * 4
    convolutions = [4 * 4 * (1 + 5) * 20, 8 * 8 * (5 + 5) * 20, 8 * 8 * (5 + 5) * 20]
    recurrences = 20 * sum(2 * weights * size for weights, size in zip(convolutions, pixels, strict=True))
    assert count_flops(build_model("convlstm", params.convlstm, CLIP, 4)) == recurrences + 2 * 480 * 4


def test_the_table_of_models_has_params_sections() -> None:
    assert tuple(build_model) == (*CONTENDERS, *CONTROLS)


def random_clips(count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *CLIP), dtype=np.uint8)


def assert_same_as_stock(ours: keras.Layer, stock: keras.Layer, inputs: np.ndarray) -> None:
    """With the same weights, `ours` has the outputs and the gradients of `stock`."""
    x = tf.constant(inputs)
    stock(x)
    ours(x)
    random = np.random.default_rng(1)
    stock.set_weights([random.normal(scale=0.3, size=weight.shape).astype("float32") for weight in stock.get_weights()])
    ours.set_weights(stock.get_weights())
    values, gradients = [], []
    for layer in (ours, stock):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x)
            # Weighted, so that no gradient cancels by symmetry.
            weights = tf.constant(np.random.default_rng(2).normal(size=outputs.shape).astype("float32"))
            loss = tf.reduce_sum(outputs * weights)
        values.append(outputs.numpy())
        gradients.append([gradient.numpy() for gradient in tape.gradient(loss, [x, *layer.trainable_weights])])
    np.testing.assert_allclose(values[0], values[1], rtol=1e-5, atol=1e-6)
    for own, expected in zip(*gradients, strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("width", [1, 10, 11])
@pytest.mark.parametrize(
    "filters", [3, 8, 9]
)  # a pair of 8 fills a vector register, 9 are computed as in the stock layer
@pytest.mark.parametrize("kernel_size", [1, 2, 3, 4, 5, 8])
def test_the_space_to_depth_convolution_equals_the_stock_layer(kernel_size: int, filters: int, width: int) -> None:
    inputs = np.random.default_rng(3).normal(size=(2, 6, width, 2)).astype("float32")
    assert_same_as_stock(
        MultiPixelConv2D(filters, kernel_size, padding="same", activation="relu"),
        keras.layers.Conv2D(filters, kernel_size, padding="same", activation="relu"),
        inputs,
    )


@pytest.mark.parametrize("options", [{}, {"padding": "same", "strides": 2}, {"padding": "same", "dilation_rate": 2}])
def test_a_convolution_that_cannot_be_folded_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="strides, dilation and groups 1"):
        MultiPixelConv2D(2, 3, **options).build((1, 6, 6, 2))


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize(("channels", "filters", "kernel_size"), [(1, 3, 4), (2, 1, 3), (3, 2, 1)])
def test_the_fused_convlstm_equals_the_stock_layer(
    activation: str, return_sequences: bool, channels: int, filters: int, kernel_size: int
) -> None:
    inputs = np.random.default_rng(3).normal(size=(2, 5, 9, 11, channels)).astype("float32")
    assert_same_as_stock(
        FusedConvLSTM2D(filters, kernel_size, activation, return_sequences=return_sequences),
        keras.layers.ConvLSTM2D(
            filters, kernel_size, activation=activation, padding="same", return_sequences=return_sequences
        ),
        inputs,
    )


def cnn() -> keras.Sequential:
    return keras.Sequential(
        [keras.Input((9, 11, 2)), keras.layers.Conv2D(3, 4, activation="relu"), keras.layers.Flatten()]
    )


@pytest.mark.parametrize("inner", [lambda: keras.layers.Conv2D(3, 4), lambda: keras.layers.MaxPooling2D(2), cnn])
def test_the_folded_wrapper_equals_the_stock_layer(inner: Callable[[], keras.Layer]) -> None:
    inputs = np.random.default_rng(3).normal(size=(2, 5, 9, 11, 2)).astype("float32")
    assert_same_as_stock(FoldedTimeDistributed(inner()), keras.layers.TimeDistributed(inner()), inputs)


def test_the_fused_convlstm_starts_as_the_stock_layer_does() -> None:
    ours, stock = FusedConvLSTM2D(3, 4), keras.layers.ConvLSTM2D(3, 4, padding="same")
    for layer in (ours, stock):
        keras.utils.set_random_seed(0)
        layer.build((None, 5, 9, 11, 2))
    assert [weight.shape for weight in ours.weights] == [weight.shape for weight in stock.weights]
    np.testing.assert_array_equal(ours.bias, stock.get_weights()[2])
    assert ours.bias.numpy().tolist() == [0] * 3 + [1] * 3 + [0] * 6


def test_the_fused_convlstm_with_constant_weights_gives_the_number_worked_out_by_hand() -> None:
    layer = FusedConvLSTM2D(1, 1)
    layer.build((None, 2, 1, 1, 1))
    layer.set_weights([np.ones((1, 1, 1, 4)), np.ones((1, 1, 1, 4)), np.zeros(4)])

    def sigmoid(value: float) -> float:
        return float(1 / (1 + np.exp(-value)))

    cell = sigmoid(1) * np.tanh(1)
    hidden = sigmoid(1) * np.tanh(cell)
    gates = 2 + hidden
    cell = sigmoid(gates) * cell + sigmoid(gates) * np.tanh(gates)
    hidden = sigmoid(gates) * np.tanh(cell)
    outputs = layer(np.array([1, 2], dtype="float32").reshape(1, 2, 1, 1, 1))
    assert float(outputs[0, 0, 0, 0]) == pytest.approx(hidden, rel=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FusedConvLSTM2D(0, 3), "must be positive. Received: filters=0, kernel_size=3"),
        (lambda: FusedConvLSTM2D(2, 3).build((None, 20, 50, 1)), r"Received: \(None, 20, 50, 1\)"),
        (lambda: FusedConvLSTM2D(2, 3).build((None, None, 9, 9, 1)), r"Received: \(None, None, 9, 9, 1\)"),
        (lambda: FoldedTimeDistributed(keras.layers.Flatten()).build((None, 20)), r"Received: \(None, 20\)"),
        (lambda: FoldedTimeDistributed(keras.layers.Flatten()).build((None, None, 9)), r"Received: \(None, None, 9\)"),
    ],
)
def test_layers_name_bad_arguments(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "change",
    [
        {"cnn_lstm.time_distributed": "cnn"},
        {"cnn_lstm.filters": [5, 5, 6]},
        {"cnn_lstm.kernel_sizes": [4, 8, 7]},
        {"cnn_lstm.lstm_units": 6},
        {"cnn_lstm.activation": "relu"},
        {"convlstm.filters": [5, 5, 6]},
        {"convlstm.kernel_sizes": [4, 8, 7]},
        {"convlstm.activation": "relu"},
        {"single_frame.filters": [5, 5, 6]},
        {"single_frame.kernel_sizes": [4, 8, 7]},
        {"bag_of_frames.filters": [5, 5, 6]},
        {"bag_of_frames.kernel_sizes": [4, 8, 7]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_model_parameter_changes_the_model(change: dict[str, Any], params_with: Load) -> None:
    name = next(iter(change)).split(".")[0]

    def config(params: Params) -> str:
        keras.utils.clear_session()
        return str(build_model(name, params.model(name), CLIP, 4).to_json())

    assert config(params_with(change)) != config(params_with({}))
    assert config(params_with({})) == config(params_with({}))


@pytest.mark.parametrize("name", build_model)
def test_an_archive_is_the_same_bytes_each_time_and_loads_to_the_same_model(
    name: str, params_with: Load, tmp_path: Path
) -> None:
    params = params_with({f"{name}.filters": [2], f"{name}.kernel_sizes": [3]})
    model = build_model(name, params.model(name), CLIP, 4)
    for file in ("once.keras", "twice.keras"):
        save_model(model, tmp_path / file)
    assert (tmp_path / "once.keras").read_bytes() == (tmp_path / "twice.keras").read_bytes()
    assert sorted(path.name for path in tmp_path.glob("*.keras")) == ["once.keras", "twice.keras"]
    clips = random_clips(1)
    np.testing.assert_array_equal(load_model(tmp_path / "once.keras")(clips), model(clips))


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "no archive"])
def test_a_damaged_archive_is_refused_in_one_line(damage: str, params_with: Load, tmp_path: Path) -> None:
    path = tmp_path / "convlstm" / "seed-0.keras"
    path.parent.mkdir()
    params = params_with({"convlstm.filters": [2], "convlstm.kernel_sizes": [3]})
    save_model(build_model("convlstm", params.convlstm, CLIP, 4), path)
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "truncated": content[:-100], "no archive": b"model"}[damage])
    with pytest.raises(UserError) as refused:
        load_model(path)
    assert str(refused.value).endswith("train it again: dvc repro --force train_convlstm")
    assert "\n" not in str(refused.value)
