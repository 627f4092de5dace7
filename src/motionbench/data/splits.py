"""Three disjoint splits of labelled clips, on disk."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from motionbench.data.frames import Clips, draw_sliced, draw_whole, draw_wrapped
from motionbench.data.patterns import MOTION_PATTERNS, NOTEBOOK_PATTERNS, PATTERNS, point_sizes
from motionbench.errors import UserError
from motionbench.files import write_json
from motionbench.params import DataParams

SPLITS = ("train", "validation", "test")
CLIPS_AT_ONCE = 8  # 1 MB of the source's clips, which the processor's cache holds: memory stays bounded.


class Split(NamedTuple):
    """Clips, uint8, shape (clips, frames, height, width, channels); labels, shape (clips,); the labels' names."""

    clips: Clips
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]


def write_split(folder: Path, name: str, data: DataParams) -> None:
    """Draw the clips of one split, class after class, and write clips.npy, labels.npy and class_names.json."""
    patterns, draw = {
        "corrected": (PATTERNS, draw_whole),
        "notebook": (NOTEBOOK_PATTERNS, draw_sliced),
        "motion": (MOTION_PATTERNS, draw_wrapped),
    }[data.variant]
    shape = (len(patterns) * data.clips_per_class, data.frames, data.height, data.width, 1)
    with (folder / "clips.npy").open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for label, pattern in enumerate(patterns.values()):
            # A stream of its own for each split and class: more clips of one never change those of another.
            random = np.random.default_rng([data.seed, SPLITS.index(name), label])
            trajectories = pattern(data, data.clips_per_class, random)
            sizes = point_sizes(data, data.clips_per_class, random)
            for first in range(0, data.clips_per_class, CLIPS_AT_ONCE):
                some = slice(first, first + CLIPS_AT_ONCE)
                draw(trajectories[some], data.height, data.width, sizes[some]).tofile(file)
    np.save(folder / "labels.npy", np.repeat(np.arange(len(patterns)), data.clips_per_class))
    write_json(folder / "class_names.json", list(patterns))


def read_split(folder: Path, data: DataParams) -> Split:
    """Open a split, its clips memory-mapped.

    Raises:
        UserError: if a file is missing, damaged or of another shape than `data` says.
    """
    clips = _read_array(folder / "clips.npy", mapped=True)
    labels = _read_array(folder / "labels.npy")
    class_names = _read_class_names(folder / "class_names.json")
    count = len(class_names) * data.clips_per_class
    for file, array, dtype, shape in (
        ("clips.npy", clips, np.uint8, (count, data.frames, data.height, data.width, 1)),
        ("labels.npy", labels, np.int64, (count,)),
    ):
        if array.dtype != dtype or array.shape != shape:
            raise UserError(
                f"{folder / file}: holds {array.dtype} {array.shape} where params.yaml's data section means "
                f"{np.dtype(dtype)} {shape}; {_REDRAW}"
            )
    if not ((labels >= 0) & (labels < len(class_names))).all():
        raise UserError(f"{folder / 'labels.npy'}: labels outside 0 to {len(class_names) - 1}; {_REDRAW}")
    return Split(clips, labels, class_names)


_REDRAW = "draw the clips again: dvc repro --force generate"


def _read_array(path: Path, *, mapped: bool = False) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("not a single array")
        return array
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing; {_REDRAW}") from error
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{path}: not readable ({error}); {_REDRAW}") from error


def _read_class_names(path: Path) -> tuple[str, ...]:
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing; {_REDRAW}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable ({error}); {_REDRAW}") from error
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: not a list of class names; {_REDRAW}")
    return tuple(names)
