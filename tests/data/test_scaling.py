"""Frames of any size, orientation and colour become pictures of one size."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from motionbench.data.decoding import decode_clip
from motionbench.data.params import Preprocessing
from tests.data.videos import SMALL, write_video


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("x.mp4", {}),
        ("full.mp4", {"layout": "yuvj420p"}),
        ("x.avi", {"codec": "mpeg4"}),
        ("x.avi", {"codec": "mjpeg", "layout": "yuvj420p"}),
        ("x.mkv", {"layout": "yuv420p10le"}),
    ],
)
@pytest.mark.parametrize("colour", ["grey", "rgb"])
def test_black_and_white_are_0_and_255(name: str, options: Any, colour: Any, tmp_path: Path) -> None:
    pictures = [np.full((48, 64, 3), value, np.uint8) for value in (0, 255)]
    path = write_video(tmp_path / name, pictures, **options)
    clip, _ = decode_clip(path, SMALL._replace(frames=2, colour=colour))
    assert clip.shape == (2, 12, 16, 1 if colour == "grey" else 3)
    assert clip[0].max() <= 1
    assert clip[1].min() >= (254 if colour == "grey" else 253)


def test_colours_are_kept_or_become_grey(tmp_path: Path) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    path = write_video(tmp_path / "x.mkv", [np.full((48, 64, 3), colour, np.uint8) for colour in colours])
    rgb, _ = decode_clip(path, SMALL._replace(frames=3, colour="rgb"))
    np.testing.assert_allclose(rgb[:, 6, 8].astype(int), colours, atol=4)
    grey, _ = decode_clip(path, SMALL._replace(frames=3))
    np.testing.assert_allclose(grey[:, 6, 8, 0].astype(int), [76, 150, 29], atol=3)


def bars(height: int, width: int) -> NDArray[np.uint8]:
    """Return a grey picture with a white column at the left and a black one at the right, of an eighth each."""
    picture = np.full((height, width, 3), 128, np.uint8)
    picture[:, : width // 8] = 255
    picture[:, -width // 8 :] = 0
    return picture


@pytest.mark.parametrize(
    ("resize", "rows"),
    [("pad", [0] * 8 + [128] * 16 + [0] * 8), ("crop", [128] * 32), ("stretch", [128] * 32)],
)
def test_pictures_are_centred_and_only_cropping_cuts_them(resize: Any, rows: list[int], tmp_path: Path) -> None:
    path = write_video(tmp_path / "x.mp4", [bars(64, 128)])
    clip, _ = decode_clip(path, Preprocessing(1, 32, 32, "grey", resize))
    np.testing.assert_allclose(clip[0, :, 16, 0], rows, atol=6)
    left, right = (128, 128) if resize == "crop" else (255, 0)
    np.testing.assert_allclose(clip[0, 16, [0, 16, -1], 0], [left, 128, right], atol=12)


@pytest.mark.parametrize("resize", ["pad", "crop", "stretch"])
def test_any_size_becomes_that_of_the_clip(resize: Any, tmp_path: Path) -> None:
    for height, width in ((16, 20), (12, 16), (13, 16), (12, 17), (100, 3), (7, 50), (1, 1), (240, 320)):
        np.savez(tmp_path / "x.npz", np.full((2, height, width), 200, np.uint8))
        clip, facts = decode_clip(tmp_path / "x.npz", SMALL._replace(resize=resize))
        assert clip.shape == (8, 12, 16, 1)
        assert (facts.height, facts.width) == (height, width)
        assert clip.max() == 200
        assert resize == "pad" or clip.min() == 200


def test_pixels_that_are_not_square_become_square(tmp_path: Path) -> None:
    path = write_video(tmp_path / "x.mkv", [bars(64, 64)], aspect=Fraction(2))
    clip, facts = decode_clip(path, Preprocessing(1, 32, 32, "grey", "pad"))
    assert (facts.width, facts.height) == (128, 64)
    np.testing.assert_allclose(clip[0, :, 16, 0], [0] * 8 + [128] * 16 + [0] * 8, atol=6)


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("upside_down", [False, True])
def test_videos_are_turned_and_mirrored_as_they_say(
    rotation: int, mirrored: bool, upside_down: bool, tmp_path: Path
) -> None:
    picture = bars(64, 128)
    picture[:16] = 200  # above
    path = write_video(tmp_path / "x.mp4", [picture], display=(rotation, mirrored, upside_down), qp="5")
    expected = np.rot90(picture, rotation // 90)  # counter-clockwise
    expected = expected[:: -1 if upside_down else 1, :: -1 if mirrored else 1]
    clip, facts = decode_clip(path, Preprocessing(1, expected.shape[0], expected.shape[1], "rgb", "pad"))
    assert (facts.height, facts.width) == expected.shape[:2]
    np.testing.assert_allclose(clip[0].astype(int), expected, atol=12)
