"""Videos of all formats become clips, whoever wrote them; any damage is refused, or gives a clip."""

import errno
import io
import os
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from motionbench.core.errors import UserError
from motionbench.data import decoding
from motionbench.data.decoding import Facts, decode_clip, read_clip
from motionbench.data.params import Preprocessing
from motionbench.reporting.figures import save_gif
from tests.data.hostile_files import clips_folder, damaged, damages, npy, npz, read_apart, read_or_refuse
from tests.data.videos import FORMATS, SMALL, brightening, middles, numbers, write_video
from tests.fuzzing import some_examples


@pytest.mark.parametrize(("name", "options"), FORMATS)
def test_every_format_gives_the_frames_in_the_middle_of_equal_segments(name: str, options: Any, tmp_path: Path) -> None:
    path = write_video(tmp_path / name, brightening(40), **options)
    for frames in (1, 8, 15, 40, 100):
        clip, facts = decode_clip(path, SMALL._replace(frames=frames))
        assert clip.shape == (frames, 12, 16, 1)
        assert clip.dtype == np.uint8
        assert numbers(clip) == middles(40, frames)
        assert facts == Facts(40, 1.6, 25, 64, 48, False, False)


@pytest.mark.parametrize("frames", [[0, 1, 2, 3, 4], [0, 0, 0, 1, 1], [2, 2, 2, 2, 2], [0, 1, 0, 0, 2]])
def test_the_gifs_of_samples_give_back_their_clips(frames: list[int], tmp_path: Path) -> None:
    clip = np.random.default_rng(0).integers(0, 256, (5, 16, 20, 1), dtype=np.uint8)[frames]
    clip[-1, :, :, 0].flat[:256] = np.arange(256)  # every shade
    save_gif(clip, tmp_path / "clip.gif")
    for resize in ("pad", "crop", "stretch"):
        found, _ = decode_clip(tmp_path / "clip.gif", Preprocessing(5, 16, 20, "grey", resize))
        np.testing.assert_array_equal(found, clip)


@pytest.mark.parametrize(
    "name", ["a b", "-dash", "ünïcödé 視頻", "a:b", "%03d", "%", "#?&", "concat:a|b", "it's", "line\nend"]
)
@pytest.mark.parametrize("suffix", [".mp4", ".MKV", ".gif", ".npz", ".NPZ"])
def test_any_name_works(name: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(name + suffix)
    if suffix == ".gif":
        save_gif(np.arange(8, dtype=np.uint8)[:, None, None, None] * np.ones((1, 12, 16, 1), np.uint8), path)
    elif suffix in (".npz", ".NPZ"):
        np.savez(tmp_path / "x.npz", np.zeros((8, 12, 16), np.uint8))
        (tmp_path / "x.npz").rename(path)
    else:
        write_video(tmp_path / f"x{suffix}", brightening(8)).rename(path)
    assert decode_clip(path, SMALL)[1].frames == 8


def test_prediction_reads_the_same_clips_and_says_which_file_is_wrong(tmp_path: Path) -> None:
    path = write_video(tmp_path / "x.mp4", brightening(40))
    pieces: list[dict[str, Any]] = [{}, {"start": 0.4, "end": 0.8}]
    for times in pieces:
        clips, facts = read_clip(path, SMALL, **times)
        expected = decode_clip(path, SMALL, **times)
        assert clips.shape == (1, 8, 12, 16, 1)
        np.testing.assert_array_equal(clips[0], expected[0])
        assert facts == expected[1]
    with pytest.raises(UserError, match=r"x\.mp4: the start, 2\.000 s, is beyond the end .*; give another file"):
        read_clip(path, SMALL, start=2)
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"x\.mp4: damaged, .*; give another file, or convert this one to MP4$"):
        read_clip(path, SMALL)


@pytest.mark.parametrize("kind", [AttributeError, ValueError, ZeroDivisionError, RuntimeError])
def test_a_bug_of_ours_is_not_called_a_damaged_file(
    kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scaler(*_arguments: Any) -> Any:
        raise kind("a bug")

    monkeypatch.setattr(decoding, "scaler", scaler)
    with pytest.raises(kind, match="a bug"):
        decode_clip(write_video(tmp_path / "x.mp4", brightening(8)), SMALL)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of a process that can be taken back")
@pytest.mark.parametrize("lacking", ["memory", "open files", "open files for FFmpeg"])
def test_what_the_system_lacks_is_not_called_a_damaged_file(lacking: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / "x.mp4", brightening(3, 2160, 3840), codec="mpeg4")
    resource = pytest.importorskip("resource")
    lowest = os.dup(0)  # of the numbers of files that are free
    os.close(lowest)
    kind, most, number = {
        "memory": (resource.RLIMIT_AS, psutil.Process().memory_info().vms + 2**20, errno.ENOMEM),
        "open files": (resource.RLIMIT_NOFILE, lowest, errno.EMFILE),
        "open files for FFmpeg": (resource.RLIMIT_NOFILE, lowest + 1, errno.EMFILE),
    }[lacking]
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (most, before[1]))
    try:
        with pytest.raises(OSError, match=os.strerror(number)) as raised:
            decode_clip(path, SMALL, end=0.08)
    finally:
        resource.setrlimit(kind, before)
    assert raised.value.errno == number
    assert decode_clip(path, SMALL)[1].frames == 3


def test_files_that_claim_a_huge_size_take_no_memory(tmp_path: Path) -> None:
    bomb = zipfile.ZIP_DEFLATED
    contents = {
        "a.npz": npz(npy((4, 16, 20), content=bytes(4 * 10**7)), bomb),
        "b.npz": npz(npy((10**6, 100, 100), content=bytes(4 * 10**7)), bomb),
        "c.npz": npz(b"\x93NUMPY\x02\x00" + struct.pack("<I", 4 * 10**7) + b" " * 4 * 10**7, bomb),
        "d.gif": b"GIF89a" + struct.pack("<HH", 65520, 65520) + bytes(3) + b",;",
        "e.avi": avi_with_a_later_frame_of(65500, 65500, tmp_path),
        # FFmpeg shows what fits in the first frame.
        "f.gif": gif_with_a_later_frame_of(9000, 9000),
        "g.gif": gif_with_a_later_frame_of(65535, 65535),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    splits = {"labels.npy": npy((10**10,), "<i8"), "class_names.json": b"[" * 10**6}
    for name, content in splits.items():
        clips_folder(tmp_path / name)
        (tmp_path / name / name).write_bytes(content)
    lines, kilobytes = read_apart(*(tmp_path / name for name in (*contents, *splits)))
    assert [line.startswith("accepted") for line in lines] == 5 * [False] + 2 * [True] + 2 * [False], lines
    assert kilobytes < 20_000
    (tmp_path / "large.npz").write_bytes(npz(npy((1250, 200, 200), content=bytes(5 * 10**7)), bomb))
    lines, kilobytes = read_apart(tmp_path / "large.npz")
    assert lines == [f"accepted {tmp_path / 'large.npz'}"]
    assert kilobytes > 50_000, "the measure would tell"


def avi_with_a_later_frame_of(width: int, height: int, folder: Path) -> bytes:
    path = write_video(folder / "x.avi", brightening(3), codec="mjpeg", layout="yuvj420p")
    content = bytearray(path.read_bytes())
    header = b"\xff\xc0\x00\x11\x08"  # of a frame; height and width follow
    start = content.index(header, content.index(header) + 1) + len(header)
    content[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(content)


def gif_with_a_later_frame_of(width: int, height: int) -> bytes:
    save_colours(file := io.BytesIO(), disposal=2)
    content = bytearray(file.getvalue())
    start = content.index(b"\x2c", content.index(b"\x2c") + 1)
    content[start + 5 : start + 9] = struct.pack("<HH", width, height)
    return bytes(content)


def save_colours(file: Path | io.BytesIO, **options: Any) -> None:
    """Write a GIF of four frames: white, black, red and blue."""
    first, *others = [Image.new("RGB", (20, 16), colour) for colour in ("white", "black", "red", "blue")]
    first.save(file, "GIF", save_all=True, append_images=others, **options)


@pytest.fixture(scope="module")
def sound_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("sound")
    clip = np.random.default_rng(0).integers(0, 256, (4, 16, 20), dtype=np.uint8)
    np.savez(folder / "stored.npz", clip=clip)
    np.savez_compressed(folder / "compressed.npz", clip)
    # Smaller than a random clip: more of the damage hits what gives the file its form.
    np.savez_compressed(folder / "black.npz", np.zeros_like(clip))
    save_gif(clip[..., np.newaxis] // 128 * 255, folder / "sample.gif")
    save_colours(folder / "colour.gif", duration=50)
    for number, (name, options) in enumerate(FORMATS):
        write_video(folder / f"{number}_{name}", brightening(25), g="8", **options)
    return sorted(folder.iterdir())


@some_examples
@given(st.data(), damages, st.sampled_from([{}, {"start": 0.3, "end": 0.9}, {"start": 0.5}]))
def test_any_damage_is_refused_or_gives_a_clip(
    sound_files: list[Path], tmp_path_factory: Any, drawn: st.DataObject, damage: Any, times: Any
) -> None:
    sound = drawn.draw(st.sampled_from(sound_files))
    path = tmp_path_factory.getbasetemp() / f"damaged{sound.suffix}"
    path.write_bytes(damaged(sound.read_bytes(), damage))
    clip = read_or_refuse(lambda path: decode_clip(path, SMALL._replace(colour="rgb"), **times)[0], path)
    if clip is not None:
        assert (clip.shape, clip.dtype) == ((8, 12, 16, 3), np.uint8)
