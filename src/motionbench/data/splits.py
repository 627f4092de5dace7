"""A data set on disk, written and read: labelled clips in three splits, or in the parts of which folds are made."""

import csv
import io
import json
import math
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from motionbench.core.errors import UserError, one_line
from motionbench.core.files import atomic_outputs, write_json
from motionbench.core.paths import CLIPS, DATASET_INFO, FEATURES
from motionbench.data.params import Resize

if TYPE_CHECKING:
    import pandas as pd  # otherwise imported late: keeps error messages fast

SPLITS = ("train", "validation", "test")
Clips = NDArray[np.uint8]  # shape (clips, frames, height, width, channels)
CLASS_NAMES_BYTES = 1_000_000  # read at most
REDRAW = "make the clips again: dvc repro --force generate"


class DatasetInfo(BaseModel, frozen=True):
    """What is known of the clips as a whole: data/folds/source.json."""

    source: str
    folds: int = Field(default=0, ge=0)  # 0: three splits
    resize: Resize  # how a video of another shape becomes a clip
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


class NewSplit(NamedTuple):
    """A split to write. Its clips are made while it is written, since they may not fit into memory.

    Attributes:
        batches: the clips, some at a time: uint8, shape (clips, frames, height, width, channels).
        labels: of all clips, shape (clips,).
        records: of all clips; None if they were not made from files.
    """

    class_names: Sequence[str]
    labels: NDArray[np.int64]
    batches: Iterable[Clips]
    records: Sequence[ClipRecord] | None = None


class NewDataset(NamedTuple):
    """A data set to write. Without folds the splits are those of `SPLITS`; else the parts, by number, as text."""

    info: DatasetInfo
    splits: Mapping[str, NewSplit]


class Split(NamedTuple):
    """Clips, uint8, shape (clips, frames, height, width, channels); labels, shape (clips,); the labels' names."""

    clips: Clips
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]


def write_dataset(dataset: NewDataset) -> None:
    """Write data/train, data/validation, data/test and data/folds; a kill leaves each of them old or new."""
    with atomic_outputs(*CLIPS) as (*folders, folds):
        new = dict(zip(SPLITS, folders, strict=True))
        for name, split in dataset.splits.items():
            write_split(new.get(name, folds / name), split)
        write_json(folds / DATASET_INFO.name, dataset.info.model_dump())


def write_split(folder: Path, split: NewSplit) -> None:
    """Write a split: clips.npy, labels.npy, class_names.json and, of clips from files, clips.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    # Not with tofile, whose error on a full disk does not name the reason.
    with (folder / "clips.npy").open("wb") as file:
        for batch in split.batches:
            if not file.tell():
                shape = (len(split.labels), *batch.shape[1:])
                header = {"descr": np.lib.format.dtype_to_descr(batch.dtype), "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(batch.data)
    np.save(folder / "labels.npy", split.labels)
    write_json(folder / "class_names.json", list(split.class_names))
    if split.records is not None:
        _table_of(split.records).to_csv(folder / "clips.csv", index=False)


def _table_of(records: Iterable[ClipRecord]) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame([record.model_dump() for record in records])


def read_dataset_info() -> DatasetInfo:
    """Read what is known of the clips as a whole.

    Raises:
        UserError: if the file is missing or damaged.
    """
    with _open(DATASET_INFO) as file:
        try:
            return DatasetInfo.model_validate_json(file.read())
        except ValidationError as error:
            raise ValueError("not what generate writes") from error


def read_clip_table(folders: Sequence[Path]) -> "pd.DataFrame | None":
    """Return the clips.csv of these parts as one table, a row per clip in the order of the joined parts.

    Names of files and groups are as they are on disk: they may hold control characters.

    Returns:
        The columns are those of `ClipRecord`. None if no part has the file: its clips were not made from files.

    Raises:
        UserError: if a file is missing or damaged.
    """
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
    return _table_of(table)


def features_path(folder: Path) -> Path:
    """Return the file with the features of the clips in a folder."""
    return FEATURES / f"{folder.name}.npy"


def read_split(folder: Path, features: bool = False) -> Split:
    """Open the clips in a folder, or their features, memory-mapped.

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
    if features:
        clips = _map_array(path := features_path(folder), np.float16, dimensions=5)
        if len(labels) != len(clips):
            raise UserError(f"{path}: of {len(clips)} clips, not {len(labels)}; make it again: dvc repro --force embed")
    if not ((labels >= 0) & (labels < len(texts))).all():
        raise UserError(f"{folder / 'labels.npy'}: labels outside 0 to {len(texts) - 1}; {REDRAW}")
    return Split(clips, labels, tuple(texts))


def part_folders(folder: Path) -> list[Path]:
    """Return the folders of clips in a folder that `generate` writes: itself, or one per fold, or none."""
    folds = sorted(folder.glob("*/clips.npy"), key=lambda file: int(file.parent.name))
    return [folder] if (folder / "clips.npy").exists() else [file.parent for file in folds]


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
