"""Files that are damaged, cut off or no video are refused with the reason."""

import gc
import io
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from motionbench.core.errors import UserError
from motionbench.data.decoding import decode_clip
from motionbench.reporting.figures import save_gif
from tests.data.videos import FORMATS, SMALL, brightening, refusal, write_video


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.new("L", (64, 48)).save(picture, "PNG")
    target = write_video(tmp_path / "target.mp4", brightening(5))
    contents = {
        "empty.mp4": b"",
        "text.mp4": b"A text that FFmpeg would play as one, with a line's end.\n" * 100,
        "picture.mp4": picture.getvalue(),
        "picture.gif": picture.getvalue(),
        "picture%03d.jpg": picture.getvalue(),
        "playlist.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n".encode(),
        "playlist.mp4": f"ffconcat version 1.0\nfile '{target.name}'\n".encode(),
        "zeros.avi": bytes(10_000),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        assert any(reason in refusal(tmp_path / name) for reason in ("no video", "cut off")), name
    assert refusal(tmp_path / "missing.mp4") == "no such file"
    assert refusal(tmp_path) == "no such file"
    assert refusal(Path("testsrc=duration=1")) == "no such file"


def test_sound_alone_is_refused_and_sound_with_a_picture_is_noted(tmp_path: Path) -> None:
    with av.open(tmp_path / "sound.mp4", "w") as container:
        sound: Any = container.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), "fltp", "mono")
        frame.rate = 44100
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    assert refusal(tmp_path / "sound.mp4") == "no video in it"
    with av.open(tmp_path / "both.mkv", "w") as container:
        sound = container.add_stream("aac", rate=44100, layout="mono")
        video: Any = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for number, picture in enumerate(brightening(5)):
            image = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            image.pts, image.time_base = number, Fraction(1, 25)
            container.mux(video.encode(image))
        container.mux(video.encode(None))
        frame.pts = None
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    # The sound is longer than the video, which is not cut off for it.
    assert decode_clip(tmp_path / "both.mkv", SMALL)[1].audio


@pytest.mark.parametrize(
    ("name", "options"), [item for item in FORMATS if not item[0].endswith((".mpg", ".ts", ".wmv"))] + [("x.gif", {})]
)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_videos_that_were_cut_off_are_refused(name: str, options: Any, share: float, tmp_path: Path) -> None:
    path = tmp_path / name
    pictures = np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3), dtype=np.uint8)
    if name == "x.gif":
        save_gif(pictures[..., :1], path)
    else:
        write_video(path, pictures, **options)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert any(word in refusal(path) for word in ("cut off", "no frame"))


@pytest.mark.parametrize(
    # Where frames are independent, or the codec finds a meaning in anything, FFmpeg does not tell.
    ("name", "options"),
    [item for item in FORMATS if item[1].get("codec") not in ("libvpx", "libvpx-vp9", "ffv1", "wmv2")],
)
def test_damage_in_the_middle_is_noticed(
    name: str, options: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3), dtype=np.uint8)
    content = bytearray(write_video(tmp_path / name, pictures, **options).read_bytes())
    middle = slice(len(content) // 2, len(content) * 6 // 10)
    content[middle] = bytes(len(content[middle]))
    (tmp_path / name).write_bytes(content)
    capfd.readouterr()  # what the encoders say
    assert any(word in refusal(tmp_path / name) for word in ("cut off", "damaged"))
    assert capfd.readouterr() == ("", ""), "FFmpeg's messages reach no terminal"


def test_a_last_frame_that_was_cut_off_is_noticed(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3), dtype=np.uint8)
    path = write_video(tmp_path / "x.avi", pictures, codec="libvpx")  # its decoder says nothing
    with av.open(path) as container:
        *_, last = [packet for packet in container.demux(video=0) if packet.size]
        assert last.pos
        path.write_bytes(path.read_bytes()[: last.pos + last.size // 2])
    assert refusal(path) == "damaged or cut off"


@pytest.mark.parametrize(
    ("name", "options", "most"),
    [
        ("x.avi", {"codec": "mpeg4"}, 0.12),
        ("x.avi", {"codec": "mjpeg", "layout": "yuvj420p"}, 0.1),
    ],
)
def test_few_bits_that_flip_change_a_clip_unnoticed(name: str, options: Any, most: float, tmp_path: Path) -> None:
    random_numbers = np.random.default_rng(0)
    pictures = random_numbers.integers(0, 256, (20, 6, 8, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    path = write_video(tmp_path / name, pictures, **options)
    content, clip = path.read_bytes(), decode_clip(path, SMALL)[0].astype(int)
    unnoticed = 0
    for _ in range(200):
        damaged = bytearray(content)
        for place in random_numbers.integers(len(content) // 4, len(content) * 9 // 10, 3):
            damaged[place] ^= 1 << random_numbers.integers(8)
        path.write_bytes(damaged)
        with suppress(UserError):
            unnoticed += int(np.abs(decode_clip(path, SMALL)[0] - clip).max() > 10)
    assert 0 < unnoticed < most * 200  # FFmpeg cannot tell all of it; without its checks, there would be more


def test_an_avi_may_have_two_frames_fewer_than_it_says(tmp_path: Path) -> None:
    content = write_video(tmp_path / "x.avi", brightening(20), codec="mpeg4").read_bytes()
    header = content.index(b"strh") + 8 + 32  # the number of frames in the stream's header
    assert content[header] == 20
    for claimed in (22, 23):
        (tmp_path / "x.avi").write_bytes(content[:header] + bytes([claimed]) + content[header + 1 :])
        if claimed == 22:
            assert decode_clip(tmp_path / "x.avi", SMALL)[1].frames == 20
        else:
            assert "0.920 s long as it says, but it ends after 0.800 s" in refusal(tmp_path / "x.avi")


def test_large_and_narrow_frames_are_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "x.mp4", brightening(3))
    assert decode_clip(path, SMALL, max_pixels=48 * 64)[1].frames == 3
    assert refusal(path, max_pixels=48 * 64 - 1) == "frames of 64x48 pixels: more than 3,071"
    wide = write_video(tmp_path / "wide.mp4", brightening(3, height=1000, width=514))  # FFmpeg adds borders to these
    assert decode_clip(wide, SMALL, max_pixels=1000 * 514)[1].frames == 3
    narrow = write_video(tmp_path / "narrow.mp4", brightening(3, height=4, width=600))
    assert refusal(narrow) == "frames of 600x4 pixels: too narrow"


def test_frames_do_not_pile_up_where_a_process_seldom_collects(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", brightening(5))

    def frames() -> int:
        return sum(isinstance(each, av.VideoFrame) for each in gc.get_objects())

    gc.collect()
    before = frames()
    gc.disable()
    try:
        for _ in range(5):
            decode_clip(path, SMALL)
        assert frames() <= before + 5, "those of the last file"
    finally:
        gc.enable()
