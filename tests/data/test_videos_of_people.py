"""Videos as cameras, recorders and programs leave them: what players play is read, in pieces and annotated too."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from motionbench.data.decoding import decode_clip
from motionbench.reporting.timeline import annotate_video
from tests.data.videos import SMALL, brightening, middles, numbers, refusal, write_video

MPEG2 = {"codec": "mpeg2video", "qmax": "2", "bf": "2"}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("x.ts", {}),
        ("x.ts", {"codec": "libx265", "x265-params": "log-level=none"}),
        ("x.ts", MPEG2),
        ("x.mpg", MPEG2),
        ("x.vob", MPEG2),
    ],
)
def test_joined_videos_are_read_whole_and_in_pieces(name: str, options: Any, tmp_path: Path) -> None:
    path = write_video(tmp_path / name, brightening(45), **options)
    path.write_bytes(
        path.read_bytes() + write_video(tmp_path / f"_{name}", brightening(40)[::-1], **options).read_bytes()
    )
    shown = [*range(45), *reversed(range(40))]
    assert numbers(decode_clip(path, SMALL._replace(frames=85))[0]) == shown
    pieces = ((0, 10), (20, 40), (40, 50), (60, 70), (75, 85))
    for first, last in pieces:
        clip, facts = decode_clip(path, SMALL._replace(frames=last - first), start=first / 25, end=last / 25)
        assert (numbers(clip), facts.frames) == (shown[first:last], last - first)
    assert numbers(decode_clip(path, SMALL._replace(frames=5), start=80 / 25)[0]) == shown[80:]


@pytest.mark.parametrize("options", [{"x264-params": "open-gop=1:keyint=10:scenecut=0"}, {**MPEG2, "g": "10"}])
def test_what_was_recorded_from_the_middle_on_begins_with_its_first_key_frame(options: Any, tmp_path: Path) -> None:
    path = write_video(tmp_path / "x.ts", brightening(40), **options)
    content = path.read_bytes()
    path.write_bytes(content[len(content) // 188 // 2 * 188 :])
    clip, facts = decode_clip(path, SMALL)
    first = 40 - facts.frames
    assert 5 < first < 35
    assert numbers(clip) == [first + middle for middle in middles(facts.frames, 8)]
    again, piece = decode_clip(path, SMALL, end=facts.seconds)
    np.testing.assert_array_equal(again, clip)
    assert piece == facts


def test_a_piece_may_need_what_was_said_long_before_it(tmp_path: Path) -> None:
    pictures = brightening(40)
    runs = []
    for number, some in enumerate((pictures[:25], pictures[15:])):
        settings = f"sps-id={number}:keyint=25:scenecut=0:bframes=0"  # the number of the parameters
        options: Any = {"x264-params": settings}
        with av.open(write_video(tmp_path / "x.ts", some, **options)) as container:
            runs.append([bytes(packet) for packet in container.demux(video=0) if packet.size])
    first, others = runs
    bare = [others[0][others[0].rindex(b"\0\0\1") :], *others[1:]]  # without parameters: those of `others` hold
    with av.open(tmp_path / "x.mkv", "w") as target:
        stream: Any = target.add_stream("h264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.extradata = first[0][: first[0].rindex(b"\0\0\1")]
        for number, content in enumerate([*first, *others, *first, *first, *bare]):
            packet = av.Packet(content)
            packet.stream, packet.time_base, packet.pts, packet.dts = stream, Fraction(1, 25), number, number
            packet.is_keyframe = number % 25 == 0
            target.mux(packet)
    shown = [*range(25), *range(15, 40), *range(25), *range(25), *range(15, 40)]
    assert numbers(decode_clip(tmp_path / "x.mkv", SMALL._replace(frames=125))[0]) == shown
    clip, _ = decode_clip(tmp_path / "x.mkv", SMALL._replace(frames=10), start=95 / 25, end=105 / 25)
    assert numbers(clip) == shown[95:105]


def test_a_gif_needs_no_last_byte_and_may_have_bytes_after_it(tmp_path: Path) -> None:
    path = tmp_path / "x.gif"
    noise = np.random.default_rng(0).integers(0, 256, (3, 16, 16), np.uint8)  # with many a byte that is like the end's
    first, *others = map(Image.fromarray, noise)
    first.save(path, save_all=True, append_images=others, duration=100)
    whole, (clip, facts) = path.read_bytes(), decode_clip(path, SMALL)
    for content in (whole[:-1], whole + b"after it " * 200):
        path.write_bytes(content)
        again, same = decode_clip(path, SMALL)
        np.testing.assert_array_equal(again, clip)
        assert same == facts
    for length in range(len(whole) - 400, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert refusal(path) == "cut off"


def write_with_cover(path: Path, codec: str, frames: list[Any], **options: Any) -> Path:
    """Write frames of sound or video behind a cover: a white picture, upright."""
    with av.open(path, "w", format="mp4" if path.suffix == ".m4a" else None) as container:
        cover: Any = container.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt, cover.disposition = 100, 50, "yuvj420p", Disposition.attached_pic
        stream: Any = container.add_stream(codec, **options)
        container.start_encoding()
        picture = av.VideoFrame.from_ndarray(np.full((100, 50, 3), 255, np.uint8)).reformat(format="yuvj420p")
        container.mux([*cover.encode(picture), *cover.encode(None)])
        for frame in [*frames, None]:
            container.mux(stream.encode(frame))
    return path


def test_the_cover_of_music_is_no_video(tmp_path: Path) -> None:
    sound = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), "fltp", "mono")
    sound.rate = 44100
    assert refusal(write_with_cover(tmp_path / "x.m4a", "aac", [sound], rate=44100, layout="mono")) == "no video in it"


def with_cover(path: Path) -> Path:
    frames = [av.VideoFrame.from_ndarray(picture).reformat(format="yuv420p") for picture in brightening(25)]
    return write_with_cover(path, "libx264", frames, rate=25, width=64, height=48, pix_fmt="yuv420p")


def with_empty_packets(path: Path) -> Path:
    return write_video(path, brightening(20), codec="mpeg4", times=[*range(10), *range(15, 25)])


def with_a_title_in_latin_1(path: Path) -> Path:
    video = write_video(path.with_stem("video"), brightening(25), codec="mpeg4")
    with av.open(video) as source, av.open(path, "w") as target:
        target.metadata["title"] = "title"
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    path.write_bytes(path.read_bytes().replace(b"title", "títul".encode("latin-1")))
    return path


@pytest.mark.parametrize(
    ("write", "name"), [(with_cover, "x.mkv"), (with_empty_packets, "x.avi"), (with_a_title_in_latin_1, "x.avi")]
)
def test_what_is_read_can_be_annotated(write: Any, name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name)
    clip, facts = decode_clip(path, SMALL._replace(frames=25))
    annotate_video(path, tmp_path / "annotated.mp4", np.array([0.0, 1.0]), [""])
    with av.open(tmp_path / "annotated.mp4") as container:
        frames: list[Any] = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    assert (facts.width, facts.height, facts.seconds) == (64, 48, 1)
    assert numbers(np.stack(frames)[:, :240]) == numbers(clip)
