"""Model files: the same model gives the same bytes."""

import json
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras

from motionbench.core.dvc_files import run_again, training_stage
from motionbench.core.errors import UserError
from motionbench.models import feature_layers, layers  # noqa: F401 # registers what an archive may contain


def save_model(model: keras.Model, path: Path) -> None:
    """Write `model` as a Keras archive without its optimizer; the same model gives the same bytes."""
    # Rebuilt from its configuration, the model has no optimizer, whose state Keras would save too.
    uncompiled = type(model).from_config(model.get_config())
    uncompiled.set_weights(model.get_weights())
    uncompiled.save(unsettled := path.with_suffix(".unsettled.keras"))
    with zipfile.ZipFile(unsettled) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "metadata.json":
                content = json.dumps({**json.loads(content), "date_saved": ""}).encode()
            elif name == "config.json":
                content = _number_shared_objects(content)
            # A ZipInfo made from a name alone is dated 1980-01-01.
            target.writestr(zipfile.ZipInfo(name), content)
    unsettled.unlink()


def _number_shared_objects(config: bytes) -> bytes:
    """Number the objects that layers share by their order; Keras identifies them by their addresses in memory."""
    key = b'"shared_object_id": '
    addresses = list(dict.fromkeys(re.findall(key + rb"(\d+)", config)))
    return re.sub(key + rb"(\d+)", lambda match: key + b"%d" % addresses.index(match[1]), config)


def load_model(path: Path) -> keras.Model:
    """Read a Keras archive in safe mode, which runs no code from it.

    Raises:
        UserError: if the file is missing or damaged.
    """
    with _readable(path):
        return keras.saving.load_model(path, compile=False, safe_mode=True)


def load_weights(model: keras.Model, path: Path) -> None:
    """Give `model` the weights of a Keras archive of a network like it.

    Raises:
        UserError: if the file is missing or damaged.
    """
    with _readable(path):
        model.load_weights(path)


def read_network(path: Path) -> bytes:
    """Return what a Keras archive says about its network, weights aside: JSON, equal for networks that are.

    Raises:
        UserError: if the file is missing or damaged.
    """
    with _readable(path), zipfile.ZipFile(path) as archive:
        return archive.read("config.json")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        reason = "missing" if not path.exists() else f"not readable as a Keras archive ({type(error).__name__})"
        raise UserError(f"{path}: {reason}; train it again: {run_again(training_stage(path.parent.name))}") from error
