import numpy as np

from motionbench.data.splits import Clips
from motionbench.models.registry import build_model
from tests.models.conftest import CLIP_SHAPE, Load


def test_all_frames_matter_but_not_their_order(params_with: Load, clips: Clips) -> None:
    model = build_model("bag_of_frames", params_with({}).model("bag_of_frames"), CLIP_SHAPE, 4)
    np.testing.assert_allclose(model(clips[:, ::-1]), model(clips), atol=1e-6)
    others_black = clips.copy()
    others_black[:, 1:] = 0
    assert np.abs(model(others_black) - model(clips)).max() > 1e-4
