from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from numpy.typing import NDArray

from motionbench.reporting.explanation import CLIPS_AT_ONCE, GRID, draw_losses, occlude

RANDOM = np.random.default_rng(0)


def share_of_white(clips: NDArray[Any]) -> pd.DataFrame:
    """Return probabilities of two classes: how bright what is seen of clips is."""
    assert len(clips) <= CLIPS_AT_ONCE
    assert clips.dtype == np.uint8
    white = clips.reshape(len(clips), -1).mean(axis=1) / 255
    return pd.DataFrame({"dark": 1 - white, "white": white})


@pytest.mark.parametrize("channels", [1, 3])
def test_the_frame_that_a_model_looks_at_is_the_one_that_counts(channels: int) -> None:
    clip = np.zeros((10, 20, 31, channels), np.uint8)
    clip[7] = 250
    losses = occlude(clip, lambda clips: share_of_white(clips[:, 7]))
    assert losses.answer == "white"
    assert losses.probability == pytest.approx(250 / 255)
    assert np.flatnonzero(losses.frames).tolist() == [7]
    assert losses.frames[7] == pytest.approx((250 - 25) / 255), "the clip's mean covers"
    assert losses.places.sum() == pytest.approx(losses.frames[7]), "all places count alike, each by its size"
    assert losses.places.min() > 0
    draw_losses(clip, losses, "a $clip").savefig("/dev/null", format="png")


def test_the_corner_that_a_model_looks_at_is_the_one_that_counts() -> None:
    clip = RANDOM.integers(0, 256, (6, 24, 30, 1), dtype=np.uint8)
    # What a still picture would not have: how much successive frames differ in the corner at the bottom left.
    losses = occlude(
        clip, lambda clips: share_of_white(np.abs(np.diff(clips[:, :, 20:, :5].astype(float), axis=1)).astype(np.uint8))
    )
    assert losses.answer == "dark"
    assert np.argwhere(losses.places).tolist() == [[GRID - 1, 0]]
    assert losses.places[-1, 0] == pytest.approx(losses.probability - 1), "gained: without movement it is dark for sure"
    assert (losses.frames < 0).all()


def test_clips_smaller_than_the_grid() -> None:
    clip = RANDOM.integers(0, 256, (1, 4, 3, 3), dtype=np.uint8)
    losses = occlude(clip, share_of_white)
    assert losses.places.shape == (GRID, GRID)
    assert not losses.places.any(), "the only frame is the mean"
    figure = draw_losses(clip, losses._replace(answer="W" * 90), f"new\nline \x1b{'W' * 90}")
    figure.savefig("/dev/null", format="png")
    [title] = [part for part in figure.findobj(Text) if part.get_text() == figure.get_suptitle()]
    assert isinstance(title, Text)
    assert title.get_text().startswith("new\\nline \\x1bWWW")
    assert title.get_window_extent().x0 > 0, "a long name is not cut off at the edges"
