import numpy as np

from motionbench.data.splits import Clips
from motionbench.models.registry import build_model
from tests.models.conftest import CLIP_SHAPE, Load, layer_table

# The chapter's table, line by line: output shape without the batch, and parameters.
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


def test_layers_and_parameters_are_the_sources(params_with: Load) -> None:
    params = params_with({"cnn_lstm.activation": "relu"})
    model = build_model("cnn_lstm", params.model("cnn_lstm"), CLIP_SHAPE, 4)
    assert layer_table(model) == SOURCE_CNN_LSTM
    assert model.count_params() == 13_039


def test_both_kinds_of_time_distribution_compute_the_same(params_with: Load, clips: Clips) -> None:
    per_layer, whole_cnn = (
        build_model("cnn_lstm", params_with({"cnn_lstm.time_distributed": kind}).model("cnn_lstm"), CLIP_SHAPE, 4)
        for kind in ("per_layer", "whole_cnn")
    )
    kinds = [type(layer).__name__ for layer in whole_cnn.layers]
    assert kinds == ["Rescaling", "FoldedTimeDistributed", "LSTM", "Dense"]
    assert whole_cnn.count_params() == 13_039
    whole_cnn.set_weights(per_layer.get_weights())
    np.testing.assert_allclose(whole_cnn(clips), per_layer(clips), rtol=1e-5, atol=1e-6)
