"""Which splits, or parts, a network is trained, validated and tested with."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from motionbench.core import paths
from motionbench.core.paths import ReplicateKey
from motionbench.data.splits import Clips, Split, features_path, read_dataset_info, read_split


class JoinedClips:
    """The clips of several parts, which stay on disk, as one array that is read by the numbers of clips."""

    def __init__(self, parts: Sequence[Clips]) -> None:
        self._parts = parts
        self._firsts = np.cumsum([0, *(len(part) for part in parts)])
        self.shape = (int(self._firsts[-1]), *parts[0].shape[1:])
        self.dtype = parts[0].dtype

    def __getitem__(self, numbers: NDArray[np.int64] | slice) -> Clips:
        """Return the clips with these numbers, in their order."""
        wanted = np.arange(self.shape[0])[numbers]
        clips = np.empty((len(wanted), *self.shape[1:]), self.dtype)
        owners = np.searchsorted(self._firsts, wanted, side="right") - 1
        for owner in np.unique(owners):
            clips[owners == owner] = self._parts[owner][wanted[owners == owner] - self._firsts[owner]]
        return clips


class JoinedSplit(NamedTuple):
    """Several parts as one split."""

    clips: JoinedClips
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]


AnySplit = Split | JoinedSplit


def replicate_keys(seeds: Sequence[int]) -> list[ReplicateKey]:
    """Return the keys of all replicates of a model: each of `seeds` in each fold of the clips.

    Raises:
        UserError: if it cannot be read how many folds there are.
    """
    return [ReplicateKey(seed, fold) for fold in read_dataset_info().fold_numbers() for seed in seeds]


def read_training_clips(fold: int | None, features: bool = False) -> tuple[AnySplit, Split]:
    """Open the clips to train and to validate with, or their features: the splits, or those of a fold.

    Raises:
        UserError: if a file is missing or damaged.
    """
    *train, validation = (read_split(folder, features) for folder in training_folders(fold))
    return join(train), validation


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
    train, validation = training_parts(fold, read_dataset_info().folds)
    return [paths.part_path(part) for part in (*train, validation)]


def training_files(fold: int | None, features: bool) -> list[Path]:
    """Return the files and folders that `read_training_clips` reads."""
    folders = training_folders(fold)
    return [*folders, *(features_path(folder) for folder in folders)] if features else folders


def training_parts(fold: int, folds: int) -> tuple[list[int], int]:
    """Return the parts that a fold trains on, and the next after that which it tests on: it validates on this one.

    >>> training_parts(3, folds=4)
    ([1, 2], 0)
    """
    validation = (fold + 1) % folds
    return [part for part in range(folds) if part not in (fold, validation)], validation


def read_test(fold: int | None) -> Split:
    """Open the clips to test with: the split, or part `fold`.

    Raises:
        UserError: if a file is missing or damaged.
    """
    return read_split(held_out_folder(fold))


def held_out_folder(fold: int | None) -> Path:
    """Return the folder of the clips to test with."""
    return paths.TEST if fold is None else paths.part_path(fold)
