"""Clip files of others: what is sound is read, all else is refused in one line, before it takes memory."""

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from motionbench.core.errors import UserError
from motionbench.data.clip_files import read_clip
from motionbench.reporting.figures import save_gif
from tests.data.hostile_files import DATA, damaged, damages, npy, read_apart, read_or_refuse
from tests.fuzzing import some_examples

CLIP = np.random.default_rng(0).integers(0, 256, (4, 16, 20), dtype=np.uint8)


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as refused:
        read_clip(path, DATA)
    assert str(refused.value).isprintable(), "one line"
    assert len(str(refused.value)) < 600
    return str(refused.value)


@pytest.mark.parametrize("name", ["clip", "clips", "arr_0"])
@pytest.mark.parametrize("shape", [(4, 16, 20), (4, 16, 20, 1)])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_clip_in_an_npz_file_is_read(name: str, shape: Any, save: Any, tmp_path: Path) -> None:
    save(tmp_path / "clip.NPZ", **{name: CLIP.reshape(shape)})
    (tmp_path / "clip.NPZ.npz").rename(tmp_path / "clip.NPZ")
    np.testing.assert_array_equal(read_clip(tmp_path / "clip.NPZ", DATA)[0, ..., 0], CLIP)
    if name != "arr_0":
        save(tmp_path / "more.npz", **{name: CLIP.reshape(shape), "label": np.array(3)})
        assert read_clip(tmp_path / "more.npz", DATA).shape == (1, 4, 16, 20, 1)


def test_gifs_are_read_also_where_equal_frames_are_one(tmp_path: Path) -> None:
    merged = CLIP[[0, 0, 0, 1]]
    for clip in (CLIP, merged, CLIP[[0, 0, 0, 0]]):
        save_gif(clip[..., np.newaxis], tmp_path / "clip.gif")
        np.testing.assert_array_equal(read_clip(tmp_path / "clip.gif", DATA)[0, ..., 0], clip)


def save_frames(path: Path, frames: list[Image.Image], **options: Any) -> None:
    frames[0].save(path, "GIF", save_all=True, append_images=frames[1:], **options)


def test_a_coloured_gif_is_taken_as_grey(tmp_path: Path) -> None:
    colours = [Image.new("RGB", (20, 16), colour) for colour in ("white", "black", "red", "blue")]
    save_frames(tmp_path / "clip.gif", colours)
    clip = read_clip(tmp_path / "clip.gif", DATA)
    assert clip.dtype == np.uint8
    assert clip[0, :, 0, 0, 0].tolist() == [255, 0, 76, 29]


def npz(**arrays: Any) -> bytes:
    np.savez(file := io.BytesIO(), **arrays)
    return file.getvalue()


def npz_of(member: bytes, compression: int = zipfile.ZIP_STORED, name: str = "clip.npy") -> bytes:
    with zipfile.ZipFile(file := io.BytesIO(), "w", compression) as archive:
        archive.writestr(name, member)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npz(a=CLIP, b=CLIP), "neither a single array nor one called clip"),
        (npz(clip=CLIP, clips=CLIP), "neither a single array nor one called clip"),
        (npz(), "neither a single array nor one called clip"),
        (npz(clip=CLIP.astype(np.float32)), r"holds float32 \(4, 16, 20\), not uint8"),
        (npz(clip=CLIP[:3]), r"holds uint8 \(3, 16, 20\), not uint8"),
        (npz(clip=CLIP[np.newaxis]), "not uint8"),
        (npz(clip=np.array([object()])), "holds object"),
        (npz_of(npy((10**6, 10**6, 10**6))), "not uint8"),
        (npz_of(npy((4, 16, 20), content=CLIP.tobytes(), fortran=True)), "not readable as .npz"),
        (npz_of(npy((4, 16, 20), content=CLIP.tobytes(), version=2)), "not readable as .npz"),
        (npz_of(npy((4, 16, 20), content=CLIP.tobytes()[:-1])), "not readable as .npz"),
        (npz_of(npy((4, 16, 20), content=CLIP.tobytes() + b"0")), "not readable as .npz"),
        (npz_of(npy((4, 16, 20), content=CLIP.tobytes()), zipfile.ZIP_LZMA), "compressed otherwise than by numpy"),
        (npz_of(b"\x80\x04N."), "not readable as .npz"),
        (b"", "not readable as .npz"),
    ],
)
def test_other_npz_files_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "clip.npz").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_clip(tmp_path / "clip.npz", DATA)
    assert refusal(tmp_path / "clip.npz").endswith("; expected 4 frames of 16x20 pixels")


def test_other_gifs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.gif"
    for size, frames, options, message in (
        ((20, 17), 4, {}, "frames have 17x20 pixels"),
        ((40, 16), 4, {}, "frames have 16x40 pixels"),
        ((180, 144), 4, {}, "frames have 144x180 pixels, not 1 to 8 times"),
        ((20, 16), 5, {}, "has 5 frames"),
        ((20, 16), 3, {"duration": 100}, "has 3 frames"),
        ((20, 16), 1, {}, "has 1 frames"),
    ):
        save_frames(path, [Image.new("L", size, 50 * shade) for shade in range(frames)], **options)
        assert message in refusal(path)
    Image.new("L", (20, 16)).save(path, "PNG")
    assert "not readable as .gif (SyntaxError)" in refusal(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "clip.npz")
    (tmp_path / "folder.gif").mkdir()
    assert "no such file" in refusal(tmp_path / "folder.gif")
    assert "in a file that ends in .npz or .gif" in refusal(tmp_path / "clip\n\x1b[31m.mp4")
    with (tmp_path / "large.npz").open("wb") as file:
        file.truncate(10**12)
    assert "larger than 10,000,000 bytes" in refusal(tmp_path / "large.npz")


def gif_with_a_later_frame_of(width: int, height: int) -> bytes:
    save_frames(file := io.BytesIO(), [Image.new("L", (20, 16), shade) for shade in (0, 90, 160, 250)], disposal=2)  # type: ignore[arg-type] # files too
    content = bytearray(file.getvalue())
    start = content.index(b"\x2c", content.index(b"\x2c") + 1)
    content[start + 5 : start + 9] = struct.pack("<HH", width, height)
    return bytes(content)


def test_files_that_claim_a_huge_size_take_no_memory(tmp_path: Path) -> None:
    bomb = zipfile.ZIP_DEFLATED
    contents = {
        "a.npz": npz_of(npy((4, 16, 20), content=bytes(4 * 10**7)), bomb),
        "b.npz": npz_of(npy((10**6, 10**4), content=bytes(4 * 10**7)), bomb),
        "c.npz": npz_of(b"\x93NUMPY\x02\x00" + struct.pack("<I", 4 * 10**7) + b" " * 4 * 10**7, bomb),
        "d.gif": gif_with_a_later_frame_of(9000, 9000),
        "e.gif": gif_with_a_later_frame_of(65535, 65535),
        "f.gif": b"GIF89a" + struct.pack("<HH", 65520, 65520) + bytes(3) + b",",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    lines, kilobytes = read_apart(*(tmp_path / name for name in contents))
    assert len(lines) == 6
    assert not any(line.startswith("accepted") for line in lines)
    assert kilobytes < 20_000


@pytest.fixture(scope="module")
def sound_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("sound")
    np.savez(folder / "stored.npz", clip=CLIP)
    np.savez_compressed(folder / "compressed.npz", CLIP)
    # Smaller than a random clip: more of the damage hits what gives the file its form.
    np.savez_compressed(folder / "black.npz", np.zeros_like(CLIP))
    save_gif(CLIP[..., np.newaxis] // 128 * 255, folder / "sample.gif")
    colours = ("white", "black", "red", "blue")
    save_frames(folder / "colour.gif", [Image.new("RGB", (20, 16), colour) for colour in colours], duration=50)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@some_examples
@given(st.sampled_from(["stored.npz", "compressed.npz", "black.npz", "sample.gif", "colour.gif"]), damages)
def test_damaged_clips_are_read_or_refused(sound_files: Any, tmp_path_factory: Any, name: str, damage: Any) -> None:
    path = tmp_path_factory.getbasetemp() / f"damaged{Path(name).suffix}"
    path.write_bytes(damaged(sound_files[name], damage))
    clip = read_or_refuse(read_clip, path)
    if clip is not None:
        assert (clip.shape, clip.dtype) == ((1, 4, 16, 20, 1), np.uint8)
