import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from motionbench.models import layers
from motionbench.models.layers import FoldedTimeDistributed, FusedConvLSTM2D, MultiPixelConv2D


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
# A pair of 8 filters fills a vector register, 9 are computed as in the stock layer.
@pytest.mark.parametrize("filters", [3, 8, 9])
@pytest.mark.parametrize("kernel_size", [1, 2, 3, 4, 5, 8])
def test_multi_pixel_convolution_equals_the_stock_layer(kernel_size: int, filters: int, width: int) -> None:
    inputs = np.random.default_rng(3).normal(size=(2, 6, width, 2)).astype("float32")
    assert_same_as_stock(
        MultiPixelConv2D(filters, kernel_size, padding="same", activation="relu"),
        keras.layers.Conv2D(filters, kernel_size, padding="same", activation="relu"),
        inputs,
    )


@pytest.mark.parametrize("options", [{}, {"padding": "same", "strides": 2}, {"padding": "same", "dilation_rate": 2}])
def test_other_convolutions_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="strides, dilation and groups 1"):
        MultiPixelConv2D(2, 3, **options).build((1, 6, 6, 2))


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("return_sequences", [False, True])
# Of five filters, the candidate is convolved by itself.
@pytest.mark.parametrize(("channels", "filters", "kernel_size"), [(1, 3, 4), (2, 1, 3), (3, 2, 1), (1, 5, 4)])
def test_fused_convlstm_equals_the_stock_layer(
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


@pytest.mark.parametrize(
    ("lanes", "filters", "expected"), [(16, 4, [16]), (16, 5, [15, 5]), (16, 8, [32]), (8, 5, [20]), (8, 8, [32])]
)
def test_gates_are_convolved_together_where_they_fill_vector_registers(
    monkeypatch: pytest.MonkeyPatch, lanes: int, filters: int, expected: list[int]
) -> None:
    monkeypatch.setattr(layers, "_vector_lanes", lambda: lanes)
    layer = FusedConvLSTM2D(filters, 4)
    layer.build((8, 20, 50, 130, 1))
    assert [bias.shape[0] for _, bias in layer._widen_gates(130)] == expected


def test_a_vector_register_has_sixteen_lanes_with_avx512_only() -> None:
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8") if sys.platform == "linux" else ""
    assert layers._vector_lanes() == (16 if "avx512f" in flags else 8)


def cnn() -> keras.Sequential:
    return keras.Sequential(
        [keras.Input((9, 11, 2)), keras.layers.Conv2D(3, 4, activation="relu"), keras.layers.Flatten()]
    )


@pytest.mark.parametrize("inner", [lambda: keras.layers.Conv2D(3, 4), lambda: keras.layers.MaxPooling2D(2), cnn])
def test_folded_wrapper_equals_the_stock_layer(inner: Callable[[], keras.Layer]) -> None:
    inputs = np.random.default_rng(3).normal(size=(2, 5, 9, 11, 2)).astype("float32")
    assert_same_as_stock(FoldedTimeDistributed(inner()), keras.layers.TimeDistributed(inner()), inputs)


def test_fused_convlstm_starts_as_the_stock_layer() -> None:
    ours, stock = FusedConvLSTM2D(3, 4), keras.layers.ConvLSTM2D(3, 4, padding="same")
    for layer in (ours, stock):
        keras.utils.set_random_seed(0)
        layer.build((None, 5, 9, 11, 2))
    assert [weight.shape for weight in ours.weights] == [weight.shape for weight in stock.weights]
    np.testing.assert_array_equal(ours.bias, stock.get_weights()[2])
    assert ours.bias.numpy().tolist() == [0] * 3 + [1] * 3 + [0] * 6
