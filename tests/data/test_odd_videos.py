"""Test videos of others: all kinds of codecs, colours, sizes and rotations are read."""

import os
from pathlib import Path

import numpy as np
import pytest

from motionbench.data.decoding import decode_clip
from motionbench.data.params import Preprocessing
from tests.conftest import ROOT
from tests.data.videos import SMALL

CLIPS = Path(os.environ.get("MOTIONBENCH_CLIPS", ROOT.parent / "shared/clips"))
ODD = {  # frames, width and height
    "animated.gif": (4, 64, 48),
    "av1_video.mkv": (125, 640, 360),
    "bt2020_10bit.mp4": (60, 320, 240),
    "bt601_full_range.mp4": (60, 320, 240),
    "bt601_limited_range.mp4": (60, 320, 240),
    "bt709_full_range.mp4": (30, 1280, 720),
    "discard_first_keyframe.mp4": (25, 64, 64),
    "frame_exceeds_screen.gif": (1, 4, 4),
    "gradient.gif": (1, 1280, 720),
    "h264_10bits.mp4": (30, 200, 200),
    "h265_10bits.mp4": (30, 200, 200),
    "h265_video.mp4": (10, 128, 128),
    "nasa_13013.mp4": (390, 480, 270),
    "nasa_13013_hdr.mp4": (325, 320, 180),
    "nasa_13013_rotated.mp4": (17, 270, 480),
    "sine_stereo_mp2.mpg": (100, 128, 128),
    "test_non_zero_start.mp4": (12, 199, 112),
    "testsrc2.mp4": (60, 1280, 720),
    "testsrc2_12bit_hdr.mp4": (60, 320, 180),
    "testsrc2_444_10bit_hevc.mp4": (25, 321, 241),
    "testsrc2_444_12bit_hevc.mp4": (25, 321, 241),
    "testsrc2_444_8bit_hevc.mp4": (25, 321, 241),
    "testsrc2_av1_10bit.mp4": (25, 320, 240),
    "testsrc2_h265.mp4": (60, 1280, 720),
    "testsrc2_hdr.mp4": (60, 320, 180),
    "testsrc2_mpeg4.avi": (30, 1280, 720),
    "testsrc2_mpeg4.mp4": (1, 64, 64),
    "testsrc2_odd_height_444.mp4": (25, 320, 241),
    "testsrc2_odd_height_and_width_444.mp4": (25, 321, 241),
    "testsrc2_odd_height_and_width_444_10bit.mp4": (25, 321, 241),
    "testsrc2_odd_height_and_width_mpeg2.mp4": (10, 121, 81),
    "testsrc2_odd_height_and_width_vp9.mp4": (25, 321, 241),
    "testsrc2_odd_height_and_width_vp9_10bit.mp4": (25, 321, 241),
    "testsrc2_odd_height_vp9.mp4": (25, 320, 241),
    "testsrc2_odd_height_vp9_10bit.mp4": (25, 320, 241),
    "testsrc2_odd_width_444.mp4": (25, 321, 240),
    "testsrc2_odd_width_mpeg2.mp4": (10, 121, 80),
    "testsrc2_odd_width_vp9.mp4": (25, 321, 240),
    "testsrc2_odd_width_vp9_10bit.mp4": (25, 321, 240),
    "testsrc2_vp8.webm": (30, 1280, 720),
    "testsrc2_vp9.webm": (30, 1280, 720),
    "transparent.gif": (1, 64, 48),
}
WITH_SOUND = ("nasa_13013.mp4", "sine_stereo_mp2.mpg")
ALIKE = [  # the same picture, coded in two ways
    ("testsrc2.mp4", "testsrc2_h265.mp4"),
    ("testsrc2_vp8.webm", "testsrc2_vp9.webm"),
    ("testsrc2_odd_height_444.mp4", "testsrc2_odd_height_vp9_10bit.mp4"),
    ("testsrc2_odd_height_and_width_444.mp4", "testsrc2_444_12bit_hevc.mp4"),
    ("testsrc2_odd_height_and_width_444.mp4", "testsrc2_odd_height_and_width_vp9.mp4"),
    ("testsrc2_odd_width_444.mp4", "testsrc2_odd_width_vp9_10bit.mp4"),
]


def odd_file(name: str) -> Path:
    if not (CLIPS / "odd").is_dir():
        pytest.skip("needs torchcodec's test videos: set MOTIONBENCH_CLIPS to the folder that has them in odd")
    return CLIPS / "odd" / name


@pytest.mark.parametrize("name", ODD)
def test_odd_videos_of_others_are_decoded(name: str) -> None:
    clip, facts = decode_clip(odd_file(name), SMALL)
    assert (facts.frames, facts.width, facts.height) == ODD[name]
    assert facts.audio == (name in WITH_SOUND)
    assert not facts.variable_rate
    assert clip.shape == (8, 12, 16, 1)


def test_frames_that_an_edit_list_hides_take_no_time() -> None:
    assert decode_clip(odd_file("discard_first_keyframe.mp4"), SMALL)[1].seconds == 1


def test_the_table_has_all_odd_videos() -> None:
    assert sorted(path.name for path in odd_file("").iterdir()) == sorted(ODD)


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_codings_of_one_video_give_nearly_the_same_clip(one: str, other: str) -> None:
    clips = [decode_clip(odd_file(name), SMALL._replace(colour="rgb"))[0].astype(int) for name in (one, other)]
    assert np.abs(clips[0] - clips[1]).mean() < 4


def test_a_rotated_video_is_turned_counter_clockwise() -> None:
    upright, _ = decode_clip(odd_file("nasa_13013.mp4"), Preprocessing(390, 27, 48, "grey", "stretch"))
    rotated, _ = decode_clip(odd_file("nasa_13013_rotated.mp4"), Preprocessing(17, 48, 27, "grey", "stretch"))
    np.testing.assert_array_equal(np.rot90(upright[:17], axes=(1, 2)), rotated)
