"""Videos become the right clips whatever their format, rate and orientation; those that cannot are refused with why."""

import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from motionbench.core.errors import UserError
from motionbench.data.decoding import Facts, Preprocessing, decode_clip, read_clip
from motionbench.reporting.figures import save_gif
from tests.conftest import ROOT
from tests.data.hostile_files import npy

CLIPS = Path(os.environ.get("MOTIONBENCH_CLIPS", ROOT.parent / "shared/clips"))
SMALL = Preprocessing(frames=8, height=12, width=16, colour="grey", resize="stretch")
STEP = 5  # of brightness from one frame of a test's video to the next


def write_video(
    path: Path,
    pictures: Iterable[NDArray[np.uint8]],
    *,
    codec: str = "libx264",
    layout: str = "yuv420p",
    times: Sequence[int] | None = None,
    aspect: Fraction = Fraction(1),
    rotation: float = 0,
    **options: str,
) -> Path:
    """Write pictures, shape (height, width, 3), as a video of 25 frames per second; `times` are in 1/25 s."""
    pictures = list(pictures)
    with av.open(path, "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = layout
        stream.codec_context.sample_aspect_ratio = aspect
        if rotation:
            stream.set_display_rotation(rotation)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=layout)
            frame.pts, frame.time_base = (number if times is None else times[number]), Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def brightening(count: int, height: int = 48, width: int = 64) -> list[NDArray[np.uint8]]:
    """Return pictures whose brightness tells their number."""
    return [np.full((height, width, 3), 20 + STEP * number, np.uint8) for number in range(count)]


def numbers(clip: NDArray[np.uint8]) -> list[int]:
    """Return the numbers of brightening pictures."""
    return [round((float(frame.mean()) - 20) / STEP) for frame in clip]


def middles(count: int, frames: int) -> list[int]:
    return [(2 * number + 1) * count // (2 * frames) for number in range(frames)]


def refusal(path: Path, preprocessing: Preprocessing = SMALL, **options: Any) -> str:
    with pytest.raises(UserError) as refused:
        decode_clip(path, preprocessing, **options)
    message = str(refused.value)
    assert message.isprintable(), "one line"
    assert len(message) < 400
    assert str(path) not in message
    return message


# Sampling

FORMATS: list[tuple[str, dict[str, Any]]] = [
    ("x.mp4", {}),
    ("x.mov", {"bf": "0"}),
    ("x.mkv", {}),
    ("open.mp4", {"x264-params": "open-gop=1"}),  # frames before a key frame that need those before it
    ("x.ts", {}),
    ("x.flv", {}),
    ("x.avi", {}),  # H.264 in an AVI: time stamps out of order
    ("mpeg4.avi", {"codec": "mpeg4", "qmax": "2"}),
    ("mpeg4.avi", {"codec": "mpeg4", "qmax": "2", "bf": "2"}),
    ("x.mpg", {"codec": "mpeg2video", "qmax": "2", "bf": "2"}),
    ("x.webm", {"codec": "libvpx"}),
    ("vp9.webm", {"codec": "libvpx-vp9"}),
    ("x.wmv", {"codec": "wmv2"}),
    ("x.avi", {"codec": "mjpeg", "layout": "yuvj420p"}),
    ("ffv1.mkv", {"codec": "ffv1"}),
]


@pytest.mark.parametrize(("name", "options"), FORMATS)
def test_every_format_gives_the_frames_in_the_middle_of_equal_segments(name: str, options: Any, tmp_path: Path) -> None:
    path = write_video(tmp_path / name, brightening(40), **options)
    for frames in (1, 8, 15, 40, 100):
        clip, facts = decode_clip(path, SMALL._replace(frames=frames))
        assert clip.shape == (frames, 12, 16, 1)
        assert clip.dtype == np.uint8
        assert numbers(clip) == middles(40, frames)
        assert facts == Facts(40, 1.6, 25, 64, 48, False, False)


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


# Colour and geometry


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


@pytest.mark.parametrize(("resize", "rows"), [("pad", [0] * 8 + [128] * 16 + [0] * 8), ("crop", [128] * 32)])
def test_padding_and_cropping_are_centred(resize: Any, rows: list[int], tmp_path: Path) -> None:
    path = write_video(tmp_path / "x.mp4", [bars(64, 128)])
    clip, _ = decode_clip(path, Preprocessing(1, 32, 32, "grey", resize))
    np.testing.assert_allclose(clip[0, :, 16, 0], rows, atol=6)
    left, right = (255, 0) if resize == "pad" else (128, 128)
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


def test_stretching_shows_all_of_the_picture(tmp_path: Path) -> None:
    path = write_video(tmp_path / "x.mp4", [bars(64, 128)])
    clip, _ = decode_clip(path, Preprocessing(1, 32, 32, "grey", "stretch"))
    np.testing.assert_allclose(clip[0, :, [1, 16, -2], 0].mean(axis=1), [255, 128, 0], atol=6)


def test_pixels_that_are_not_square_become_square(tmp_path: Path) -> None:
    path = write_video(tmp_path / "x.mkv", [bars(64, 64)], aspect=Fraction(2))
    clip, facts = decode_clip(path, Preprocessing(1, 32, 32, "grey", "pad"))
    assert (facts.width, facts.height) == (128, 64)
    np.testing.assert_allclose(clip[0, :, 16, 0], [0] * 8 + [128] * 16 + [0] * 8, atol=6)


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_videos_are_rotated_as_they_say(rotation: int, tmp_path: Path) -> None:
    picture = bars(64, 128)
    path = write_video(tmp_path / "x.mp4", [picture], rotation=rotation)
    expected = np.rot90(picture, rotation // 90)  # counter-clockwise
    clip, facts = decode_clip(path, Preprocessing(1, expected.shape[0], expected.shape[1], "rgb", "pad"))
    assert (facts.height, facts.width) == expected.shape[:2]
    np.testing.assert_allclose(clip[0].astype(int), expected, atol=12)


# GIFs and arrays


@pytest.mark.parametrize("frames", [[0, 1, 2, 3, 4], [0, 0, 0, 1, 1], [2, 2, 2, 2, 2], [0, 1, 0, 0, 2]])
def test_the_gifs_of_samples_give_back_their_clips(frames: list[int], tmp_path: Path) -> None:
    clip = np.random.default_rng(0).integers(0, 256, (5, 16, 20, 1), dtype=np.uint8)[frames]
    clip[-1, :, :, 0].flat[:256] = np.arange(256)  # every shade
    save_gif(clip, tmp_path / "clip.gif")
    for resize in ("pad", "crop", "stretch"):
        found = read_clip(tmp_path / "clip.gif", Preprocessing(5, 16, 20, "grey", resize))
        np.testing.assert_array_equal(found, clip[np.newaxis])


@pytest.mark.parametrize("name", ["clip", "clips", "arr_0"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_array_of_the_shape_of_clips_is_read_as_it_is(name: str, save: Any, tmp_path: Path) -> None:
    random_numbers = np.random.default_rng(0)
    for shape in ((8, 12, 16), (8, 12, 16, 1), (8, 12, 16, 3)):
        clip = random_numbers.integers(0, 256, shape, dtype=np.uint8)
        others = {} if name == "arr_0" else {"label": np.array(3)}
        save(tmp_path / "clip.npz", **{name: clip}, **others)
        found, facts = decode_clip(tmp_path / "clip.npz", SMALL._replace(colour="rgb" if shape[-1] == 3 else "grey"))
        assert found.tobytes() == clip.tobytes()
        assert facts == Facts(8, 0.8, 10, 16, 12, False, False)


def test_other_arrays_are_sampled_and_scaled_as_videos_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "clip.npz", np.stack(brightening(30))[..., 0])
    clip, facts = decode_clip(tmp_path / "clip.npz", SMALL._replace(colour="rgb"))
    assert clip.shape == (8, 12, 16, 3)
    assert clip[:, 0, 0, 1].tolist() == [20 + STEP * number for number in middles(30, 8)]
    assert facts.frames == 30
    piece, _ = decode_clip(tmp_path / "clip.npz", SMALL._replace(frames=5), start=1, end=1.5)
    assert numbers(piece) == [10, 11, 12, 13, 14]


def npz(member: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    with zipfile.ZipFile(file := io.BytesIO(), "w", compression) as archive:
        archive.writestr("clip.npy", member)
    return file.getvalue()


def saved(**arrays: Any) -> bytes:
    np.savez(file := io.BytesIO(), **arrays)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (saved(a=np.zeros(3), b=np.zeros(3)), "neither a single array nor one called clip"),
        (saved(), "neither a single array nor one called clip"),
        (saved(clip=np.zeros((4, 16, 20), np.float32)), r"holds float32 (4, 16, 20), not uint8"),
        (saved(clip=np.zeros((4, 16, 20, 2), np.uint8)), "holds uint8 (4, 16, 20, 2), not uint8"),
        (saved(clip=np.zeros((0, 16, 20), np.uint8)), "holds uint8 (0, 16, 20), not uint8"),
        (saved(clip=np.array([object()])), "holds object"),
        (npz(npy((10**6, 10**6, 10**6))), "frames of more than 100,000,000 bytes"),
        (npz(npy((1, 10**4, 10**3)), zipfile.ZIP_DEFLATED), "frames of 1000x10000 pixels: more than 8,300,000"),
        (npz(npy((4, 16, 20), content=bytes(1280), fortran=True)), "damaged"),
        (npz(npy((4, 16, 20), content=bytes(1279))), "damaged"),
        (npz(npy((4, 16, 20), content=bytes(1281))), "damaged"),
        (npz(npy((4, 16, 20), content=bytes(1280)), zipfile.ZIP_LZMA), "compressed otherwise than by numpy"),
        (npz(b"\x80\x04N."), "damaged"),
        (b"", "damaged"),
    ],
)
def test_other_npz_files_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "clip.npz").write_bytes(content)
    assert message in refusal(tmp_path / "clip.npz")


# Refusals


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
        ("x.mkv", {}, 0.4),
        ("x.mpg", {"codec": "mpeg2video"}, 0.1),
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
    narrow = write_video(tmp_path / "narrow.mp4", brightening(3, height=4, width=600))
    assert refusal(narrow) == "frames of 600x4 pixels: too narrow"


@pytest.mark.parametrize(
    "name", ["a b", "-dash", "ünïcödé 視頻", "a:b", "%03d", "%", "#?&", "concat:a|b", "it's", "line\nend"]
)
@pytest.mark.parametrize("suffix", [".mp4", ".MKV", ".gif", ".npz"])
def test_any_name_works(name: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(name + suffix)
    if suffix == ".gif":
        save_gif(np.arange(8, dtype=np.uint8)[:, None, None, None] * np.ones((1, 12, 16, 1), np.uint8), path)
    elif suffix == ".npz":
        np.savez(path, np.zeros((8, 12, 16), np.uint8))
    else:
        write_video(tmp_path / f"x{suffix}", brightening(8)).rename(path)
    assert decode_clip(path, SMALL)[1].frames == 8


def test_prediction_reads_the_same_clip_and_says_which_file_is_wrong(tmp_path: Path) -> None:
    path = write_video(tmp_path / "x.mp4", brightening(40))
    np.testing.assert_array_equal(read_clip(path, SMALL), decode_clip(path, SMALL)[0][np.newaxis])
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"x\.mp4: damaged, .*; give another file, or convert this one to MP4$"):
        read_clip(path, SMALL)


# Files of others

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


# Damage of any kind

FUZZER = """
import random, signal, sys
from pathlib import Path
from motionbench.core.errors import UserError
from motionbench.data.decoding import Preprocessing, decode_clip

folder, count = Path(sys.argv[1]), int(sys.argv[2])
preprocessing = Preprocessing(8, 12, 16, "rgb", "crop")
sound = sorted(folder.iterdir())
for number in range(count):
    random_numbers = random.Random(number)
    source = sound[number % len(sound)]
    content = bytearray(source.read_bytes())
    for _ in range(random_numbers.choice([0, 1, 3, 30])):
        content[random_numbers.randrange(len(content))] ^= 1 << random_numbers.randrange(8)
    if random_numbers.random() < 0.3:
        del content[random_numbers.randrange(len(content)) :]
    if random_numbers.random() < 0.2:
        start = random_numbers.randrange(len(content) + 1)
        content[start : start + 50] = random_numbers.randbytes(random_numbers.randrange(100))
    path = folder.parent / f"damaged{source.suffix}"
    path.write_bytes(content)
    times = random_numbers.choice([{}, {}, {"start": 0.3, "end": 0.9}, {"start": 0.5}])
    print(number, source.name, end=" ", flush=True)
    signal.alarm(20)
    try:
        clip, facts = decode_clip(path, preprocessing, **times)
        print("decoded", clip.shape, clip.dtype)
    except UserError as error:
        assert str(error).isprintable() and len(str(error)) < 400
        print("refused", error)
"""


@pytest.mark.slow
def test_any_damage_is_refused_or_gives_a_clip_in_time_and_without_a_crash(tmp_path: Path) -> None:
    sound = tmp_path / "sound"
    sound.mkdir()
    for number, (name, options) in enumerate(FORMATS):
        write_video(sound / f"{number}_{name}", brightening(25), g="8", **options)
    save_gif(np.random.default_rng(0).integers(0, 256, (10, 16, 20, 1), dtype=np.uint8), sound / "x.gif")
    np.savez_compressed(sound / "x.npz", np.stack(brightening(8))[..., 0])
    done = subprocess.run(
        [sys.executable, "-c", FUZZER, str(sound), "1000"],
        env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, ""), lines[-1]
    assert len(lines) == 1000
    decoded = [line for line in lines if "decoded (8, 12, 16, 3) uint8" in line]
    refused = [line for line in lines if " refused " in line]
    assert len(decoded) + len(refused) == 1000
    assert len(decoded) > 100
    assert len(refused) > 100
