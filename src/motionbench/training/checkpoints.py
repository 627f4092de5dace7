"""Checkpoints of replicates: one file each in .resume/, which DVC and git ignore."""

import json
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from motionbench.training.results import Epoch


class Checkpoint(NamedTuple):
    """A replicate after some epochs: everything that the next epochs depend on."""

    history: list[Epoch]
    epoch_seconds: list[float]
    variables: Sequence[NDArray[Any]]  # of the model, then of its optimizer
    best_weights: Sequence[NDArray[Any]]


def save_checkpoint(path: Path, key: str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically: a kill leaves the previous one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    about = json.dumps([key, checkpoint.history, checkpoint.epoch_seconds, len(checkpoint.variables)])
    with (new := path.with_suffix(".partial")).open("wb") as file:
        np.savez(file, np.array(about), *checkpoint.variables, *checkpoint.best_weights)
    new.replace(path)


def load_checkpoint(path: Path, key: str) -> Checkpoint | None:
    """Return the checkpoint at `path`; None if it is missing, damaged, or from another training."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            about, *arrays = archive.values()
        found, history, epoch_seconds, count = json.loads(about.item())
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error):
        return None
    return Checkpoint(history, epoch_seconds, arrays[:count], arrays[count:]) if found == key else None
