"""Test videos of others: all kinds of codecs, colours, sizes and rotations are read."""

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from motionbench.data.decoding import decode_clip
from motionbench.data.params import Preprocessing
from tests.conftest import ROOT
from tests.data.videos import SMALL

FOLDER = Path(os.environ.get("MOTIONBENCH_CLIPS", ROOT.parent / "shared/clips")) / "odd"
WITH_SOUND = ("nasa_13013.mp4", "sine_stereo_mp2.mpg")
ALIKE = [  # the same picture, coded in two ways
    ("testsrc2.mp4", "testsrc2_h265.mp4"),
    ("testsrc2_vp8.webm", "testsrc2_vp9.webm"),
    ("testsrc2_odd_height_444.mp4", "testsrc2_odd_height_vp9_10bit.mp4"),
    ("testsrc2_odd_height_and_width_444.mp4", "testsrc2_444_12bit_hevc.mp4"),
    ("testsrc2_odd_height_and_width_444.mp4", "testsrc2_odd_height_and_width_vp9.mp4"),
    ("testsrc2_odd_width_444.mp4", "testsrc2_odd_width_vp9_10bit.mp4"),
]

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(),
    reason="needs torchcodec's test videos: set MOTIONBENCH_CLIPS to the folder that has them in odd",
)


def test_odd_videos_of_others_are_decoded_whole() -> None:
    paths = sorted(FOLDER.iterdir())
    assert len(paths) == 42
    for path in paths:
        with av.open(path) as container:
            stream: Any = container.streams.best("video")
            frames: list[Any] = list(container.decode(stream))
            aspect = stream.sample_aspect_ratio or Fraction(1)
        size = (round(frames[0].width * aspect), frames[0].height)
        clip, facts = decode_clip(path, SMALL)
        turned = "rotated" in path.name
        assert (facts.frames, facts.width, facts.height) == (len(frames), *(size[::-1] if turned else size)), path
        assert facts.audio == (path.name in WITH_SOUND), path
        assert not facts.variable_rate, path
        assert clip.shape == (8, 12, 16, 1), path
        # Frames that an edit list hides take no time.
        assert facts.seconds == 1 or path.name != "discard_first_keyframe.mp4"


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_codings_of_one_video_give_nearly_the_same_clip(one: str, other: str) -> None:
    clips = [decode_clip(FOLDER / name, SMALL._replace(colour="rgb"))[0].astype(int) for name in (one, other)]
    assert np.abs(clips[0] - clips[1]).mean() < 4


def test_a_rotated_video_is_turned_counter_clockwise() -> None:
    upright, _ = decode_clip(FOLDER / "nasa_13013.mp4", Preprocessing(390, 27, 48, "grey", "stretch"))
    rotated, _ = decode_clip(FOLDER / "nasa_13013_rotated.mp4", Preprocessing(17, 48, 27, "grey", "stretch"))
    np.testing.assert_array_equal(np.rot90(upright[:17], axes=(1, 2)), rotated)
