"""How far the training of each replicate has come: one file each in .resume/, which DVC and git ignore."""

import hashlib
import json
import shutil
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from motionbench.core.files import path_md5
from motionbench.core.paths import CHECKPOINTS
from motionbench.training.results import Epoch


class Checkpoint(NamedTuple):
    """A replicate after some epochs: all that the next ones depend on."""

    history: list[Epoch]
    epoch_seconds: list[float]
    variables: Sequence[NDArray[Any]]
    """Of the model, then of its optimizer."""
    best_weights: Sequence[NDArray[Any]]


def checkpoint_key(parameters: Mapping[str, Any], deps: Sequence[str]) -> str:
    """Return the digest of what determines a training: parameters, the clips and code it depends on, and libraries.

    Args:
        deps: files and folders, as dvc.yaml lists them for the stage.
    """
    md5s = [path_md5(Path(dep)) for dep in deps]
    versions = [version(name) for name in ("keras", "numpy", "tensorflow")]
    return hashlib.sha256(json.dumps([parameters, md5s, versions]).encode()).hexdigest()


def save_checkpoint(path: Path, key: str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in one step: a kill leaves the one before it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    about = json.dumps([key, checkpoint.history, checkpoint.epoch_seconds, len(checkpoint.variables)])
    with (new := path.with_suffix(".partial")).open("wb") as file:
        np.savez(file, np.array(about), *checkpoint.variables, *checkpoint.best_weights)
    new.replace(path)


def load_checkpoint(path: Path, key: str) -> Checkpoint | None:
    """Return the checkpoint at `path`; None if there is none, if it is damaged, or if another training left it."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            about, *arrays = archive.values()
        found, history, epoch_seconds, count = json.loads(about.item())
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error):
        return None
    return Checkpoint(history, epoch_seconds, arrays[:count], arrays[count:]) if found == key else None


def remove_checkpoints(model_name: str) -> None:
    """Remove the checkpoints of a model, whose training is over."""
    shutil.rmtree(CHECKPOINTS / model_name, ignore_errors=True)
