import time
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

from motionbench.core.errors import UserError
from motionbench.models.cost import as_graph, count_flops, time_single_clips
from motionbench.models.layers import FoldedTimeDistributed
from tests.models.conftest import Build

PIXELS = [50 * 130, 25 * 65, 12 * 32]


@pytest.mark.parametrize("kind", ["per_layer", "whole_cnn"])
def test_flops_of_the_cnn_lstm_match_the_hand_count(kind: str, build: Build) -> None:
    weights = [4 * 4 * 1 * 5, 8 * 8 * 5 * 5, 8 * 8 * 5 * 5]
    cnn = 20 * sum(2 * each * size for each, size in zip(weights, PIXELS, strict=True))
    lstm = 20 * 2 * (480 + 5) * 4 * 5
    assert count_flops(build("cnn_lstm", time_distributed=kind)) == cnn + lstm + 2 * 5 * 4


def test_flops_of_the_convlstm_match_the_hand_count(build: Build) -> None:
    weights = [4 * 4 * (1 + 5) * 20, 8 * 8 * (5 + 5) * 20, 8 * 8 * (5 + 5) * 20]
    recurrences = 20 * sum(2 * each * size for each, size in zip(weights, PIXELS, strict=True))
    assert count_flops(build("convlstm")) == recurrences + 2 * 480 * 4


@pytest.mark.parametrize(
    ("shape", "layer", "flops"),
    [
        ((4, 5, 6, 1), keras.layers.Conv3D(2, 3), 2 * (2 * 3 * 4) * (3 * 3 * 3 * 1 * 2)),
        ((4, 5, 6, 1), FoldedTimeDistributed(keras.layers.Conv2D(2, 3)), 4 * 2 * (3 * 4) * (3 * 3 * 1 * 2)),
        ((4, 5, 6, 1), keras.layers.Dense(7), 2 * 1 * 7),
        ((4, 5, 6, 1), keras.layers.BatchNormalization(), 0),
        ((4, 5, 6, 1), keras.layers.LayerNormalization(), 0),
        ((5, 6, 3), keras.layers.Normalization(), 0),
        ((5, 6, 3), keras.layers.SeparableConv2D(2, 3), 2 * (3 * 4) * (3 * 3 * 3 + 3 * 2)),
        ((4, 5, 6, 1), keras.layers.MaxPooling3D(2), 0),
        ((10, 3), keras.layers.Conv1D(5, 4), 2 * 7 * (4 * 3 * 5)),
    ],
)
def test_flops_of_single_layers_match_the_hand_count(shape: tuple[int, ...], layer: keras.Layer, flops: int) -> None:
    assert count_flops(keras.Sequential([keras.Input(shape), layer])) == flops


@pytest.mark.parametrize(
    "wrap", [lambda layer: layer, FoldedTimeDistributed, lambda layer: keras.Sequential([layer], name="inner")]
)
def test_a_layer_with_weights_and_no_rule_is_refused(wrap: Callable[[keras.Layer], keras.Layer]) -> None:
    layer = wrap(keras.layers.EinsumDense("...a,ab->...b", 5, name="mixer"))
    model = keras.Sequential([keras.Input((4, 3)), keras.layers.Reshape((4, 3, 1, 1)), layer])
    with pytest.raises(UserError, match=r"layer mixer \(EinsumDense\): has weights, but models/cost.py has no rule"):
        count_flops(model)


def test_graphs_of_several_models_are_not_called_retracing(caplog: pytest.LogCaptureFixture) -> None:
    tf.get_logger().addHandler(caplog.handler)
    clips = np.ones((1, 2, 2, 2, 1), dtype=np.uint8)
    for _ in range(6):  # TensorFlow warns from the fifth on if it takes them for one function.
        model = keras.Sequential([keras.Input(clips.shape[1:], dtype="uint8"), keras.layers.Flatten()])
        assert np.asarray(as_graph(model)(clips)).tolist() == [[1] * 8]
    tf.get_logger().removeHandler(caplog.handler)
    assert not caplog.records


def test_latency_is_a_positive_number_of_milliseconds() -> None:
    model = keras.Sequential([keras.Input((2, 2, 2, 1), dtype="uint8"), keras.layers.Flatten()])
    clips = np.zeros((1, 2, 2, 2, 1), dtype=np.uint8)
    started = time.perf_counter()
    milliseconds = time_single_clips(as_graph(model), clips)
    in_all = 1000 * (time.perf_counter() - started)
    assert milliseconds.shape == (20,)
    assert milliseconds.min() > 0
    assert milliseconds.sum() < in_all
