from motionbench.models.registry import build_model
from tests.models.conftest import CLIP_SHAPE, Load, layer_table

# The chapter's table, line by line: output shape without the batch, and parameters.
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


def test_layers_and_parameters_are_the_sources(params_with: Load) -> None:
    params = params_with({"convlstm.activation": "relu"})
    model = build_model("convlstm", params.model("convlstm"), CLIP_SHAPE, 4)
    assert layer_table(model) == SOURCE_CONVLSTM
    assert model.count_params() == 29_504
