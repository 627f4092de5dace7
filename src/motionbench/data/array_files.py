"""Arrays of frames in .npz files: refused before they take memory."""

import math
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from motionbench.core.errors import UserError
from motionbench.data.splits import read_npy_header
from motionbench.data.video_files import check_size

# What parsers raise where a file is damaged. Anything else, such as an AttributeError, is a bug of this project.
DAMAGED = (ArithmeticError, EOFError, RuntimeError, ValueError, struct.error, zipfile.BadZipFile, zlib.error)
MAX_ARRAY_BYTES = 100_000_000  # of the frames, and of the file


def read_array(path: Path, max_pixels: int) -> NDArray[np.uint8]:
    """Return the frames in an .npz file, shape (frames, height, width) if grey, or (frames, height, width, 3).

    Raises:
        UserError: if it is damaged, holds something else, or if that is too large.
    """
    try:
        return _read(path, max_pixels)
    except DAMAGED as error:
        raise UserError(f"damaged or no array ({type(error).__name__})") from error


def _read(path: Path, max_pixels: int) -> NDArray[np.uint8]:
    if path.stat().st_size > MAX_ARRAY_BYTES:
        raise UserError(f"larger than {MAX_ARRAY_BYTES:,} bytes")
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) != 1:
            members = [member for member in members if member.filename in ("clip.npy", "clips.npy")]
        if len(members) != 1:
            raise UserError("holds neither a single array nor one called clip or clips")
        [member] = members
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UserError("compressed otherwise than by numpy")
        with archive.open(member) as file:
            shape, dtype = read_npy_header(file)
            if dtype != np.uint8 or len(shape) not in (3, 4) or shape[3:] not in ((), (1,), (3,)) or 0 in shape:
                expected = "uint8 (frames, height, width) or (frames, height, width, 1 or 3)"
                raise UserError(f"holds {str(dtype)[:50]} {str(shape)[:100]}, not {expected}")
            if math.prod(shape) > MAX_ARRAY_BYTES:
                raise UserError(f"frames of more than {MAX_ARRAY_BYTES:,} bytes")
            check_size(shape[2], shape[1], max_pixels)
            # Reading one byte more than expected detects a wrong length and verifies the checksum.
            content = file.read(math.prod(shape) + 1)
    return np.frombuffer(content, np.uint8).reshape(shape[:3] if shape[3:] == (1,) else shape)
