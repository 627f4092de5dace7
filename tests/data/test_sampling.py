"""Clips have the frames that are on screen in the middle of equal segments of time, also those of a piece."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from motionbench.data.decoding import decode_clip
from motionbench.reporting.figures import save_gif
from tests.data.videos import FORMATS, SMALL, brightening, numbers, refusal, write_video


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv"])
@pytest.mark.parametrize("bframes", ["0", "2"])
def test_frames_are_sampled_by_the_time_they_are_on_screen(name: str, bframes: str, tmp_path: Path) -> None:
    times = [0, 1, 2, 3, 4, 20, 30, 31]
    path = write_video(tmp_path / name, brightening(8), times=times, bf=bframes)
    clip, facts = decode_clip(path, SMALL._replace(frames=32))
    assert numbers(clip) == [0, 1, 2, 3] + 16 * [4] + 10 * [5] + [6, 7]
    assert facts.variable_rate
    assert (facts.frames, facts.seconds, facts.rate) == (8, 32 / 25, 6.25)


def test_a_rate_that_ticks_round_is_constant(tmp_path: Path) -> None:
    path = write_video(tmp_path / "x.mkv", brightening(30), times=range(30), codec="libvpx")
    assert not decode_clip(path, SMALL)[1].variable_rate


@pytest.mark.parametrize(("name", "options"), FORMATS)
def test_pieces_have_the_frames_of_the_whole(name: str, options: Any, tmp_path: Path) -> None:
    path = write_video(tmp_path / name, brightening(45), **options, g="10")
    whole, _ = decode_clip(path, SMALL._replace(frames=45))
    for first, last in ((0, 10), (7, 12), (23, 24), (20, 40), (40, 45)):
        preprocessing = SMALL._replace(frames=last - first)
        piece, facts = decode_clip(path, preprocessing, start=first / 25, end=last / 25)
        np.testing.assert_array_equal(piece, whole[first:last])
        assert (facts.frames, facts.seconds) == (last - first, (last - first) / 25)
    end, _ = decode_clip(path, SMALL._replace(frames=5), start=40 / 25)
    np.testing.assert_array_equal(end, whole[40:])
    start, _ = decode_clip(path, SMALL._replace(frames=5), end=5 / 25)
    np.testing.assert_array_equal(start, whole[:5])


@pytest.mark.parametrize("name", ["x.mp4", "x.avi", "x.gif", "x.npz"])
def test_times_outside_the_video_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "x.npz":
        np.savez(path, np.zeros((10, 12, 16), np.uint8))
    elif name == "x.gif":
        save_gif(np.arange(10, dtype=np.uint8)[:, None, None, None] + np.zeros((1, 12, 16, 1), np.uint8), path)
    else:
        write_video(path, brightening(25))
    assert decode_clip(path, SMALL, start=0.2, end=1.03)[1].seconds == pytest.approx(0.83)
    assert "start, 1.500 s, is beyond the end of the video, 1.000 s" in refusal(path, start=1.5)
    assert "start, 1.000 s, is beyond the end of the video, 1.000 s" in refusal(path, start=1.0, end=1.01)
    assert "is beyond the end of the video, 1.000 s" in refusal(path, start=1e300, end=2e300)
    assert "end, 1.300 s, is beyond the end of the video, 1.000 s" in refusal(path, start=0.5, end=1.3)
    assert "the end, 0.5 s, is not after the start, 0.5 s" in refusal(path, start=0.5, end=0.5)
    for start in (-1.0, float("nan"), float("inf")):
        assert "not a number of seconds from 0" in refusal(path, start=start)
    assert "not after the start, 0 s" in refusal(path, end=float("nan"))


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv"])
def test_a_piece_of_a_long_video_is_read_alone(name: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / name, [picture for _ in range(8) for picture in brightening(25)], g="10")
    expected, _ = decode_clip(path, SMALL, start=4, end=5)
    with av.open(path) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for number, (position, size) in enumerate(packets):
        if 20 <= number < 70 or number >= 140:
            assert position
            content[position + 8 : position + size] = bytes(size - 8)
    path.write_bytes(content)
    assert "damaged" in refusal(path)
    np.testing.assert_array_equal(decode_clip(path, SMALL, start=4, end=5)[0], expected)
