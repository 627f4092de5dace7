"""Three disjoint splits of labelled clips, on disk."""

import json
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from motionbench.core.errors import UserError
from motionbench.data.params import DataParams

SPLITS = ("train", "validation", "test")
Clips = NDArray[np.uint8]  # shape (clips, frames, height, width, channels)
CLASS_NAMES_BYTES = 1_000_000  # read at most
REDRAW = "draw the clips again: dvc repro --force generate"


class Split(NamedTuple):
    """Clips, uint8, shape (clips, frames, height, width, channels); labels, shape (clips,); the labels' names."""

    clips: Clips
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]


def read_split(folder: Path, data: DataParams) -> Split:
    """Open a split, its clips memory-mapped.

    Raises:
        UserError: if a file is missing, damaged or of another shape than `data` says.
    """
    with _open(folder / "class_names.json") as file:
        names = json.loads(file.read(CLASS_NAMES_BYTES).decode("utf-8"))
        texts = [name for name in names if isinstance(name, str) and len(name) in range(1, 101) and name.isprintable()]
        if not texts or texts != names or len(set(texts)) < len(texts):
            raise ValueError("class names must differ and have 1 to 100 printable characters")
    count = len(texts) * data.clips_per_class
    clips = _map_array(folder / "clips.npy", np.uint8, (count, data.frames, data.height, data.width, 1))
    labels = np.array(_map_array(folder / "labels.npy", np.int64, (count,)))
    if not ((labels >= 0) & (labels < len(texts))).all():
        raise UserError(f"{folder / 'labels.npy'}: labels outside 0 to {len(texts) - 1}; {REDRAW}")
    return Split(clips, labels, tuple(texts))


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing; {REDRAW}") from error
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable ({error}); {REDRAW}") from error


def _map_array(path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> NDArray[Any]:
    with _open(path) as file:
        found, found_dtype = read_npy_header(file)
        if (found, found_dtype) != (shape, np.dtype(dtype)):
            expected = f"where params.yaml's data section means {np.dtype(dtype)} {shape}"
            raise ValueError(f"holds {str(found_dtype)[:50]} {str(found)[:100]} {expected}")
        if os.fstat(file.fileno()).st_size != file.tell() + math.prod(shape) * np.dtype(dtype).itemsize:
            raise ValueError("cut off or too long")
        mapped: NDArray[Any] = np.memmap(file, dtype, "r", file.tell(), shape)
    return mapped


def read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read the header of an .npy file and return shape and type of the array.

    `numpy.load` would allocate as much memory as the header claims.

    Raises:
        ValueError: if it is not the header of an array in C order, as `numpy.save` writes it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert np.lib.format.read_magic(file) == (1, 0)
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
            assert not fortran_order
    except Exception as error:  # NumPy evaluates the header as Python, which may raise anything.
        raise ValueError("not an array as numpy.save writes it") from error
    return shape, dtype
