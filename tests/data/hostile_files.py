"""Damaged and hostile files, for the tests of what reads clips."""

import io
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from motionbench.core.errors import UserError
from motionbench.data.params import DataParams, Preprocessing
from motionbench.data.splits import write_split
from motionbench.data.synthetic.frames import draw_split
from motionbench.data.synthetic.params import SyntheticParams
from tests.conftest import ROOT

DATA = DataParams(source="synthetic", frames=4, height=16, width=20, colour="grey")
PREPROCESSING = Preprocessing(DATA.frames, DATA.height, DATA.width, DATA.colour, "pad")
SECTION = SyntheticParams(variant="corrected", seed=0, clips_per_class=2, point_size=6, jitter=0.0)


def clips_folder(folder: Path) -> None:
    folder.mkdir()
    write_split(folder, draw_split("train", SECTION.drawing(DATA)))


def npy(shape: Any, dtype: str = "|u1", content: bytes = b"", *, fortran: bool = False, version: int = 1) -> bytes:
    header = repr({"descr": dtype, "fortran_order": fortran, "shape": shape}).encode() + b"\n"
    return (
        b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(header)) + header + content
    )


def npz(member: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return an .npz file with one array, as the bytes of an .npy file."""
    with zipfile.ZipFile(file := io.BytesIO(), "w", compression) as archive:
        archive.writestr("clip.npy", member)
    return file.getvalue()


# Of a file: cut off at a share of it, bits flipped, bytes put in.
damages = st.tuples(
    st.none() | st.floats(0, 1),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), max_size=4),
    st.lists(
        st.tuples(st.floats(0, 1), st.binary(max_size=4) | st.sampled_from([b"\xff" * 4, b"PK", b","])), max_size=2
    ),
)


def damaged(content: bytes, damage: Any) -> bytes:
    length, flips, splices = damage
    changed = bytearray(content)
    for share, bit in flips:
        changed[int(share * len(changed))] ^= 1 << bit
    for share, inserted in splices:
        changed[int(share * len(changed)) :][: len(inserted)] = inserted
        start = int(share * len(changed))
        changed[start : start + len(inserted) // 2] = inserted
    return bytes(changed if length is None else changed[: int(length * len(changed))])


def read_or_refuse(read: Callable[[Path], Any], path: Path) -> Any:
    try:
        return read(path)
    except UserError as error:
        message = str(error)
    assert message.isprintable(), "one line"
    assert len(message) < 600
    return None


READER = f"""
import re, sys
from pathlib import Path
from motionbench.core.errors import UserError
from motionbench.data.params import Preprocessing
from motionbench.data.decoding import read_clip
from motionbench.data.splits import read_split
# Not ru_maxrss: that starts with what the process took that started this one.
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
before = peak()
for path in map(Path, sys.argv[1:]):
    try:
        read_split(path) if path.is_dir() else read_clip(path, {PREPROCESSING})
        print("accepted", path)
    except UserError as error:
        print(error)
print(peak() - before)
"""


def read_apart(*paths: Path) -> tuple[list[str], int]:
    """Read clip files and folders of splits in a process; return a line of each, and the kilobytes that it took."""
    done = subprocess.run(
        [sys.executable, "-c", READER, *map(str, paths)],
        env={"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    *lines, kilobytes = done.stdout.splitlines()
    return lines, int(kilobytes)
