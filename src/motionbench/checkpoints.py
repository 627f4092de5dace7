"""How far the training of each replicate has come: a file each in .resume/, which DVC and git leave alone."""

import hashlib
import json
import shutil
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from motionbench.training import Epoch

# Beside the outputs: DVC removes those of a stage before it runs it.
FOLDER = Path(".resume")


class Checkpoint(NamedTuple):
    """A replicate after some epochs: all that the next ones depend on."""

    history: "list[Epoch]"
    epoch_seconds: list[float]
    variables: Sequence[NDArray[Any]]
    """Of the model, then of its optimizer."""
    best_weights: Sequence[NDArray[Any]]


def checkpoint_key(parameters: Mapping[str, Any], data_md5s: Sequence[str]) -> str:
    """Return the digest of what determines a training: parameters, clips, this package's code, and libraries."""
    code = [path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.rglob("*.py"))]
    versions = [version(name) for name in ("keras", "numpy", "tensorflow")]
    return hashlib.sha256(json.dumps([parameters, data_md5s, code, versions]).encode()).hexdigest()


def checkpoint_path(model_name: str, seed: int) -> Path:
    """Return the place of a replicate's checkpoint."""
    return FOLDER / model_name / f"seed-{seed}.npz"


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
    shutil.rmtree(FOLDER / model_name, ignore_errors=True)
