import keras
import numpy as np
import pytest

from motionbench.models.cost import count_flops
from motionbench.models.registry import build_model
from tests.models.conftest import CLIP_SHAPE, Load, layer_table


def test_layers_and_parameters(params_with: Load) -> None:
    model = build_model("cnn3d", params_with({}).model("cnn3d"), CLIP_SHAPE, 4)
    assert layer_table(model) == [
        ((20, 50, 130, 8), 3 * 3 * 3 * 8 + 8),
        ((10, 25, 65, 8), 0),
        ((10, 25, 65, 16), 3 * 3 * 3 * 8 * 16 + 16),
        ((5, 12, 32, 16), 0),
        ((5, 12, 32, 16), 3 * 3 * 3 * 16 * 16 + 16),
        ((2, 6, 16, 16), 0),
        ((16,), 0),
        ((4,), 68),
    ]
    convolutions = [20 * 50 * 130 * 27 * 8, 10 * 25 * 65 * 27 * 8 * 16, 5 * 12 * 32 * 27 * 16 * 16]
    assert count_flops(model) == 2 * (sum(convolutions) + 16 * 4)


@pytest.mark.parametrize(("frames", "left"), [(1, [1, 1, 1]), (3, [1, 1, 1]), (7, [3, 1, 1]), (8, [4, 2, 1])])
def test_frames_are_pooled_while_there_are_two(frames: int, left: list[int], params_with: Load) -> None:
    section = params_with({}).model("cnn3d")
    model = build_model("cnn3d", section, (frames, *CLIP_SHAPE[1:]), 4)
    assert [layer.output.shape[1] for layer in model.layers if "pooling3d" in layer.name][:3] == left


@pytest.mark.slow
def test_it_learns_to_tell_leftward_from_rightward(params_with: Load) -> None:
    random = np.random.default_rng(0)
    clips = np.zeros((48, 6, 12, 12, 1), np.uint8)
    for clip, row, start in zip(clips, random.integers(0, 10, 48), random.integers(0, 12, 48), strict=True):
        for time, frame in enumerate(clip):
            frame[row : row + 3, np.arange(start + time, start + time + 3) % 12] = 255
    clips[24:] = clips[24:, ::-1]  # each is as likely to show any single frame
    labels = np.repeat([0, 1], 24)
    keras.utils.set_random_seed(0)
    section = params_with({"cnn3d.filters": [8, 8], "cnn3d.kernel_sizes": [3, 3]}).model("cnn3d")
    model = build_model("cnn3d", section, clips.shape[1:], 2)
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", jit_compile=False)
    model.fit(clips, labels, batch_size=8, epochs=30, verbose=0)
    assert (model.predict(clips, verbose=0).argmax(axis=1) == labels).all()
