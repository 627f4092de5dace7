"""Arrays of frames become clips as videos do; files that hold something else are refused."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motionbench.data.decoding import Facts, decode_clip
from tests.data.hostile_files import npy, npz
from tests.data.videos import SMALL, STEP, brightening, middles, numbers, refusal


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


def saved(**arrays: Any) -> bytes:
    np.savez(file := io.BytesIO(), **arrays)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (saved(a=np.zeros(3), b=np.zeros(3)), "neither a single array nor one called clip"),
        (saved(clip=np.zeros((4, 16, 20), np.uint8), clips=np.zeros((4, 16, 20), np.uint8)), "neither a single array"),
        (saved(), "neither a single array nor one called clip"),
        (saved(clip=np.zeros((4, 16, 20), np.float32)), r"holds float32 (4, 16, 20), not uint8"),
        (saved(clip=np.zeros((4, 16, 20, 2), np.uint8)), "holds uint8 (4, 16, 20, 2), not uint8"),
        (saved(clip=np.zeros((0, 16, 20), np.uint8)), "holds uint8 (0, 16, 20), not uint8"),
        (saved(clip=np.array([object()])), "holds object"),
        (npz(npy((10**6, 10**6, 10**6))), "frames of more than 100,000,000 bytes"),
        (npz(npy((1, 10**4, 10**3)), zipfile.ZIP_DEFLATED), "frames of 1000x10000 pixels: more than 8,300,000"),
        (npz(npy((4, 16, 20), content=bytes(1280), fortran=True)), "damaged"),
        (npz(npy((4, 16, 20), content=bytes(1280), version=2)), "damaged"),
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


def test_a_file_larger_than_any_array_allowed_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "large.npz").open("wb") as file:
        file.truncate(10**12)
    assert refusal(tmp_path / "large.npz") == "larger than 100,000,000 bytes"
