"""The models, by the name of their section in params.yaml, and their files."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras

from motionbench.errors import UserError
from motionbench.models import cnn_lstm, convlstm

BUILDERS: Mapping[str, Callable[[Any, tuple[int, int, int, int], int], keras.Model]] = {
    "cnn_lstm": cnn_lstm.build,
    "convlstm": convlstm.build,
}


def save_model(model: keras.Model, path: Path) -> None:
    """Write `model` as a Keras archive without optimizer state and without the dates that Keras puts into it."""
    archive = io.BytesIO()
    keras.saving.save_model(model, dated := path.with_suffix(".dated.keras"), include_optimizer=False)
    with zipfile.ZipFile(dated) as source, zipfile.ZipFile(archive, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "metadata.json":
                content = json.dumps({**json.loads(content), "date_saved": ""}).encode()
            # A ZipInfo made from a name alone is dated 1980-01-01.
            target.writestr(zipfile.ZipInfo(name), content)
    dated.unlink()
    path.write_bytes(archive.getvalue())


def load_model(path: Path) -> keras.Model:
    """Read a Keras archive in safe mode, which runs no code from it.

    Raises:
        UserError: if the file is missing or damaged.
    """
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        reason = "missing" if not path.exists() else f"not readable as a Keras archive ({type(error).__name__})"
        raise UserError(f"{path}: {reason}; train it again: dvc repro --force train_{path.parent.name}") from error
