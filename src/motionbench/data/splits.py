"""Labelled clips on disk: three disjoint splits, or the parts from which folds are made."""

import csv
import io
import json
import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from motionbench.core import paths
from motionbench.core.errors import UserError, one_line
from motionbench.core.paths import ReplicateKey

if TYPE_CHECKING:
    import pandas as pd  # otherwise imported late: keeps error messages fast

SPLITS = ("train", "validation", "test")
Clips = NDArray[np.uint8]  # shape (clips, frames, height, width, channels)
CLASS_NAMES_BYTES = 1_000_000  # read at most
REDRAW = "make the clips again: dvc repro --force generate"


class SourceRecord(BaseModel, frozen=True):
    """What is known of the clips as a whole: data/folds/source.json."""

    source: str
    folds: int = Field(default=0, ge=0)  # 0: three splits
    resize: Literal["pad", "crop", "stretch"]  # how a video of another shape becomes a clip
    seconds: float  # the median duration of a clip
    warnings: list[str] = []
    skipped: dict[str, str] = {}  # by file, why it is not among the clips
    label_maps: dict[str, dict[str, str]] = Field(default={}, exclude_if=lambda maps: not maps)
    """By `label_maps.Change`, what labels become that it changes. A change that is missing here is not known."""
    duplicates: str | None = Field(default=None, exclude_if=lambda text: text is None)
    """A warning of clips that have the same pixels and come from different files; None if there are none."""

    def fold_numbers(self) -> Sequence[int | None]:
        """Return the numbers of the folds; without folds there is one training, whose number is None."""
        return range(self.folds) if self.folds else [None]


MEASURE: Any = Field(gt=0, lt=10**30)  # what single precision holds, in which scikit-learn's trees compare


class ClipRecord(BaseModel, extra="forbid", allow_inf_nan=False):
    """What is known of a clip that was made from a file: a row of clips.csv."""

    clip: str  # the file, and the times of a piece of it
    group: str
    frames: int = MEASURE
    seconds: float = MEASURE
    rate: float = MEASURE  # mean frames per second
    width: int = MEASURE  # as displayed
    height: int = MEASURE
    variable_rate: bool
    audio: bool


FolderOf = Callable[[str], Path]
"""Returns the folder of a part by its name: train, validation and test, or the number of a fold as text."""
Write = Callable[[FolderOf], SourceRecord]
"""Writes the clips of all parts, and returns what is known of them."""


class JoinedClips:
    """The clips of several parts, which stay on disk, as one array that is read by the numbers of clips."""

    def __init__(self, parts: Sequence[Clips]) -> None:
        self._parts = parts
        self._firsts = np.cumsum([0, *(len(part) for part in parts)])
        self.shape = (int(self._firsts[-1]), *parts[0].shape[1:])

    def __getitem__(self, numbers: NDArray[np.int64] | slice) -> Clips:
        """Return the clips with these numbers, in their order."""
        wanted = np.arange(self.shape[0])[numbers]
        clips = np.empty((len(wanted), *self.shape[1:]), np.uint8)
        owners = np.searchsorted(self._firsts, wanted, side="right") - 1
        for owner in np.unique(owners):
            clips[owners == owner] = self._parts[owner][wanted[owners == owner] - self._firsts[owner]]
        return clips


class Split(NamedTuple):
    """Clips, uint8, shape (clips, frames, height, width, channels); labels, shape (clips,); the labels' names."""

    clips: Clips
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]


class JoinedSplit(NamedTuple):
    """Several parts as one split."""

    clips: JoinedClips
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]


AnySplit = Split | JoinedSplit


def read_source() -> SourceRecord:
    """Read what is known of the clips as a whole.

    Raises:
        UserError: if the file is missing or damaged.
    """
    with _open(paths.SOURCE) as file:
        try:
            return SourceRecord.model_validate_json(file.read(CLASS_NAMES_BYTES))
        except ValidationError as error:
            raise ValueError("not what generate writes") from error


def replicate_keys(seeds: Sequence[int]) -> list[ReplicateKey]:
    """Return the keys of all replicates of a model: each of `seeds` in each fold of the clips.

    Raises:
        UserError: if it cannot be read how many folds there are.
    """
    return [ReplicateKey(seed, fold) for fold in read_source().fold_numbers() for seed in seeds]


def read_training(fold: int | None) -> tuple[AnySplit, Split]:
    """Open the clips to train and to validate with: the splits, or those of a fold.

    Fold i is tested on part i, validated on the next part and trained on the others.

    Raises:
        UserError: if a file is missing or damaged.
    """
    *train, validation = training_folders(fold)
    return join([read_split(folder) for folder in train]), read_split(validation)


def join(parts: Sequence[Split]) -> AnySplit:
    """Return parts as one split."""
    if len(parts) == 1:
        return parts[0]
    labels = np.concatenate([part.labels for part in parts])
    return JoinedSplit(JoinedClips([part.clips for part in parts]), labels, parts[0].class_names)


def training_folders(fold: int | None) -> list[Path]:
    """Return the folders of the clips that a training sees: those to train with, and the one to validate with.

    Raises:
        UserError: if it cannot be read how many folds there are.
    """
    if fold is None:
        return [paths.TRAIN, paths.VALIDATION]
    folds = read_source().folds
    validation = (fold + 1) % folds
    others = [part for part in range(folds) if part not in (fold, validation)]
    return [paths.fold_path(part) for part in (*others, validation)]


def read_test(fold: int | None) -> Split:
    """Open the clips to test with: the split, or part `fold`.

    Raises:
        UserError: if a file is missing or damaged.
    """
    return read_split(held_out_folder(fold))


def held_out_folder(fold: int | None) -> Path:
    """Return the folder of the clips to test with."""
    return paths.TEST if fold is None else paths.fold_path(fold)


def read_clip_table(folders: Sequence[Path]) -> "pd.DataFrame | None":
    """Return the clips.csv of these parts as one table, a row per clip in the order of the joined parts.

    Names of files and groups are as they are on disk: they may hold control characters.

    Returns:
        The columns are those of `ClipRecord`. None if no part has the file: its clips were not made from files.

    Raises:
        UserError: if a file is missing or damaged.
    """
    import pandas as pd

    if not any((folder / "clips.csv").exists() for folder in folders):
        return None
    table: list[ClipRecord] = []
    for folder in folders:
        clips = len(_map_array(folder / "labels.npy", np.int64, dimensions=1))
        with _open(folder / "clips.csv") as file:
            rows = csv.DictReader(io.TextIOWrapper(file, "utf-8", newline=""), strict=True)
            records = TypeAdapter(list[ClipRecord]).validate_python(list(rows))
            if len(records) != clips:
                raise ValueError(f"{len(records)} rows for {clips} clips")
        table += records
    return pd.DataFrame([record.model_dump() for record in table])


def part_folders(folder: Path) -> list[Path]:
    """Return the folders of clips in a folder that `generate` writes: itself, or one per fold, or none."""
    folds = sorted(folder.glob("*/clips.npy"), key=lambda file: int(file.parent.name))
    return [folder] if (folder / "clips.npy").exists() else [file.parent for file in folds]


@contextmanager
def clips_file(folder: Path, shape: tuple[int, ...]) -> Iterator[BinaryIO]:
    """Yield the file clips.npy in `folder`, to write clips of this shape to it, one after the other."""
    with (folder / "clips.npy").open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        yield file


def read_split(folder: Path) -> Split:
    """Open the clips in a folder, memory-mapped.

    Raises:
        UserError: if a file is missing or damaged.
    """
    with _open(folder / "class_names.json") as file:
        names = json.loads(file.read(CLASS_NAMES_BYTES).decode("utf-8"))
        texts = [name for name in names if isinstance(name, str) and len(name) in range(1, 101) and name.isprintable()]
        if not texts or texts != names or len(set(texts)) < len(texts):
            raise ValueError("class names must differ and have 1 to 100 printable characters")
    clips = _map_array(folder / "clips.npy", np.uint8, dimensions=5)
    labels = np.array(_map_array(folder / "labels.npy", np.int64, dimensions=1))
    if len(labels) != len(clips):
        raise UserError(f"{folder / 'labels.npy'}: {len(labels)} labels for {len(clips)} clips; {REDRAW}")
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
    except (OSError, TypeError, ValueError, RecursionError, csv.Error) as error:
        raise UserError(f"{path}: not readable ({one_line(error)}); {REDRAW}") from error


def _map_array(path: Path, dtype: type[np.generic], dimensions: int) -> NDArray[Any]:
    with _open(path) as file:
        shape, found = read_npy_header(file)
        if found != np.dtype(dtype) or len(shape) != dimensions or 0 in shape:
            raise ValueError(f"holds {str(found)[:50]} {str(shape)[:100]}, not {np.dtype(dtype)} of {dimensions} axes")
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
