"""Three disjoint splits of labelled clips, on disk."""

import json
import math
import os
import warnings
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from motionbench.core.errors import UserError
from motionbench.data.params import DataParams

SPLITS = ("train", "validation", "test")
Clips = NDArray[np.uint8]
"""Shape (clips, frames, height, width, channels)."""
CLASS_NAMES_BYTES = 1_000_000  # read at most


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
    class_names = _read_class_names(folder / "class_names.json")
    count = len(class_names) * data.clips_per_class
    clips = _map_array(folder / "clips.npy", np.uint8, (count, data.frames, data.height, data.width, 1))
    labels = np.array(_map_array(folder / "labels.npy", np.int64, (count,)))
    if not ((labels >= 0) & (labels < len(class_names))).all():
        raise UserError(f"{folder / 'labels.npy'}: labels outside 0 to {len(class_names) - 1}; {_REDRAW}")
    return Split(clips, labels, class_names)


_REDRAW = "draw the clips again: dvc repro --force generate"


def _map_array(path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> NDArray[Any]:
    try:
        with path.open("rb") as file:
            found = read_npy_header(file)
            if found != (shape, np.dtype(dtype)):
                raise UserError(
                    f"{path}: holds {str(found[1])[:50]} {str(found[0])[:100]} where params.yaml's data section means "
                    f"{np.dtype(dtype)} {shape}; {_REDRAW}"
                )
            if os.fstat(file.fileno()).st_size != file.tell() + math.prod(shape) * np.dtype(dtype).itemsize:
                raise ValueError("cut off or too long")
            return np.memmap(file, dtype, "r", file.tell(), shape)
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing; {_REDRAW}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable ({error}); {_REDRAW}") from error


def read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read the start of an .npy file, up to its first number, and return shape and type of the array.

    `numpy.load` would take as much memory as the header claims.

    Raises:
        ValueError: if it is not the header of an array in C order, as `numpy.save` writes it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert np.lib.format.read_magic(file) == (1, 0)
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
            assert not fortran_order
    except Exception as error:  # NumPy has the header evaluated as Python, and raises whatever comes of it.
        raise ValueError("not an array as numpy.save writes it") from error
    return shape, dtype


def _read_class_names(path: Path) -> tuple[str, ...]:
    try:
        with path.open("rb") as file:
            names = json.loads(file.read(CLASS_NAMES_BYTES).decode("utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing; {_REDRAW}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable ({error}); {_REDRAW}") from error
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: not a list of class names; {_REDRAW}")
    if len(set(names)) < len(names) or not all(name and name.isprintable() and len(name) <= 100 for name in names):
        raise UserError(f"{path}: class names must differ and have 1 to 100 printable characters; {_REDRAW}")
    return tuple(names)
