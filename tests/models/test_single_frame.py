import numpy as np

from motionbench.data.splits import Clips
from motionbench.models.registry import build_model
from tests.models.conftest import CLIP_SHAPE, Load


def test_only_the_first_frame_matters(params_with: Load, clips: Clips) -> None:
    model = build_model("single_frame", params_with({}).model("single_frame"), CLIP_SHAPE, 4)
    others_black = clips.copy()
    others_black[:, 1:] = 0
    np.testing.assert_array_equal(model(others_black), model(clips))
    assert np.abs(model(clips[:, ::-1]) - model(clips)).max() > 1e-4
