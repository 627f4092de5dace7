"""User-supplied clips, one per file: checked before memory is allocated, and no code in them is run."""

import math
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence
from PIL.GifImagePlugin import GifImageFile

from motionbench.core.errors import UserError
from motionbench.data.params import DataParams
from motionbench.data.splits import Clips, read_npy_header

MAX_FILE_BYTES = 10_000_000  # or twice a clip's
MAX_SCALE = 8  # of a GIF that is larger than the clip


def read_clip(path: Path, data: DataParams) -> Clips:
    """Return the clip in an .npz or .gif file, uint8, shape (1, frames, height, width, 1).

    An .npz file holds one array or one called clip or clips, uint8, shape (frames, height, width) or (frames, height,
    width, 1). A GIF has that many frames, which are converted to grey, at the clip's size or a whole multiple of it. A
    frame shown longer counts as several equal frames, since most programs save them so.

    Raises:
        UserError: if the file is missing, damaged, or holds anything else.
    """
    expected = f"expected {data.frames} frames of {data.height}x{data.width} pixels"
    readers = {".npz": _read_npz, ".gif": _read_gif}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: not a clip: {expected} in a file that ends in {' or '.join(readers)}")
    try:
        if not path.is_file():
            raise UserError("no such file")
        most = max(MAX_FILE_BYTES, 2 * data.frames * data.height * data.width)
        if path.stat().st_size > most:
            raise UserError(f"larger than {most:,} bytes")
        frames = reader(path, data)
    except UserError as error:
        raise UserError(f"{path}: {error}; {expected}") from error
    except Exception as error:  # Damaged files can make the parsers raise anything.
        raise UserError(f"{path}: not readable as {path.suffix} ({type(error).__name__}); {expected}") from error
    return frames.reshape(1, data.frames, data.height, data.width, 1)


def check_clips(clips: Any, shape: tuple[int, ...]) -> Clips:
    """Return clips of any numeric type as uint8; `shape` is that of one clip, (frames, height, width, channels).

    Raises:
        UserError: if they have another shape, or values that are not whole numbers from 0 to 255. Floats that are all
            at most 1 were scaled, and would be taken for black.
    """
    expected = f"send whole numbers from 0 to 255 of shape (clips, {', '.join(map(str, shape))})"
    try:
        values = np.asarray(clips)
    except ValueError as error:
        raise UserError(f"clips of unequal shapes; {expected}") from error
    if values.ndim == 0 or values.shape[1:] != shape or not len(values):
        raise UserError(f"an array of shape {str(values.shape)[:100]}; {expected}")
    if values.dtype.kind not in "uif":
        raise UserError(f"values of type {str(values.dtype)[:50]}; {expected}")
    if values.dtype.kind == "f" and ((values >= 0) & (values <= 1)).all():
        raise UserError(f"floats from 0 to 1; {expected}")
    if not ((values >= 0) & (values <= 255) & (values % 1 == 0)).all():
        raise UserError(f"values that are not whole or outside 0 to 255; {expected}")
    return values.astype(np.uint8)


def _read_npz(path: Path, data: DataParams) -> NDArray[np.uint8]:
    shape = (data.frames, data.height, data.width)
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
            found, dtype = read_npy_header(file)
            if dtype != np.uint8 or found not in (shape, (*shape, 1)):
                raise UserError(f"holds {str(dtype)[:50]} {str(found)[:100]}, not uint8 {shape}")
            # Reading one byte more than expected detects a wrong length and verifies the checksum.
            content = file.read(math.prod(shape) + 1)
    return np.frombuffer(content, np.uint8).reshape(shape)


def _read_gif(path: Path, data: DataParams) -> NDArray[np.uint8]:
    with _bounded_images(MAX_SCALE**2 * data.height * data.width), GifImageFile(path) as image:
        scale = image.width // data.width
        if image.size != (scale * data.width, scale * data.height) or not 1 <= scale <= MAX_SCALE:
            raise UserError(f"frames have {image.height}x{image.width} pixels, not 1 to {MAX_SCALE} times as many")
        count = image.n_frames
        if count > data.frames:
            raise UserError(f"has {count} frames")
        frames, durations = [], []
        for frame in ImageSequence.Iterator(image):
            frames.append(np.asarray(frame.convert("L"))[::scale, ::scale])
            durations.append(frame.info.get("duration", 0))
    if count == data.frames:
        return np.stack(frames)
    repeats = np.array(durations) * data.frames / max(1, sum(durations))
    if sum(durations) == 0 or (repeats % 1).any():
        raise UserError(f"has {count} frames")
    return np.repeat(frames, repeats.astype(int), axis=0)


@contextmanager
def _bounded_images(pixels: int) -> Iterator[None]:
    """Let Pillow refuse images with more pixels: any frame of a GIF may claim any size."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = pixels
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before
