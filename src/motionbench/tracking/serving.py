"""How MLflow loads a logged model: its copy of this package reads the files beside it, no pickle involved."""

import json
import logging
import math
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from motionbench.core.errors import UserError
from motionbench.execution.runtime import importing_tensorflow

if TYPE_CHECKING:
    from motionbench.data.splits import Clips  # which needs packages that serving does not

LOGGER = logging.getLogger("mlflow.motionbench")  # MLflow's servers show what its loggers say
KERAS_REQUIREMENTS = ("keras", "numpy", "pandas", "pathspec", "pydantic", "ruamel.yaml", "tensorflow")
ONNX_REQUIREMENTS = ("numpy", "onnxruntime", "pandas")
BACKBONE = "backbone.keras"  # beside the archive of a model that reads features
MOST_CLASSES = 10  # in a sentence


class RefusedClips(MlflowException):
    """Clips that the model cannot mean. MLflow's server would print all of them before the reason."""

    def serialize_as_json(self) -> str:
        """Return the reason alone."""
        return json.dumps({"error_code": self.error_code, "message": self.args[0]})


def _load_pyfunc(path: str) -> SimpleNamespace:
    """Return an object with `predict` and `get_raw_model`, as `mlflow.pyfunc.load_model` wants it."""
    archive, file = Path(path), Path(path).with_suffix(".onnx")
    described = Model.load(str(archive.parents[1])).metadata or {}
    shape, class_names = tuple(described["clip_shape"]), described["class_names"]

    @cache
    def network() -> Any:
        """Return the Keras model, which imports TensorFlow.

        Raises:
            UserError: if a package is missing, since a model with an ONNX file does not require those of Keras.
        """
        try:
            with importing_tensorflow():
                from motionbench.models.archive import load_model
                from motionbench.models.backbone import load_backbone, with_backbone
        except ModuleNotFoundError as error:
            remedy = f"install what it needs: pip install {' '.join(KERAS_REQUIREMENTS)}"
            raise UserError(f"the Keras model needs {error.name}, which is not installed; {remedy}") from error
        model, backbone = load_model(archive), archive.with_name(BACKBONE)
        return with_backbone(model, load_backbone(backbone, described["side"]), shape) if backbone.exists() else model

    if file.exists():
        from motionbench.models.onnx_runtime import infer, open_session

        answer: Callable[[Clips], Any] = partial(infer, open_session(file))
    else:  # an earlier version of this project logged it, or it has a layer without a rule for ONNX
        model = network()
        from motionbench.models.cost import as_graph

        answer = as_graph(model)
    LOGGER.info(describe_model({**described, "classes": describe_classes(class_names)}))

    def predict(clips: Any) -> pd.DataFrame:
        """Return the probability of each class, a column each, for clips, whole numbers from 0 to 255.

        Raises:
            RefusedClips: if they have another shape, (clips, frames, height, width, channels), or other values.
        """
        try:
            checked = check_clips(clips, shape)
        except UserError as error:
            raise RefusedClips(str(error), INVALID_PARAMETER_VALUE) from error
        return pd.DataFrame(np.asarray(answer(checked)), columns=class_names)

    return SimpleNamespace(predict=predict, get_raw_model=network)


def describe_model(facts: Mapping[str, str]) -> str:
    """Say what is known of a model: its name, what it was trained on, commit and time of the run that logged it last.

    Args:
        facts: tags of a registered version, or the metadata of a logged model. One that an earlier version of this
            project logged has none.
    """
    classes = f": {facts['classes']}" if "classes" in facts else ""
    changed = " with uncommitted changes" if facts.get("git.dirty") == "true" else ""
    return "; ".join(
        [
            facts.get("model", "unknown model"),
            f"trained on {facts.get('source', 'unknown')} clips{classes}",
            *([f"logged at commit {facts['commit'][:8]}{changed}"] if "commit" in facts else []),
            *([f"{facts['started'][:19].replace('T', ' ')} UTC"] if "started" in facts else []),
        ]
    )


def describe_classes(names: Sequence[str]) -> str:
    """Return the names of classes, the first of many."""
    more = len(names) - MOST_CLASSES
    return ", ".join([*names[:MOST_CLASSES], *([f"{more} more"] if more > 0 else [])])


def check_clips(clips: Any, shape: tuple[int, ...]) -> "Clips":
    """Return clips of any numeric type as uint8; `shape` is that of one clip, (frames, height, width, channels).

    Or of texts, the bytes of a clip each in base64, which MLflow's server reads a hundred times as fast as numbers.

    Raises:
        UserError: if they have another shape, or values that are not whole numbers from 0 to 255. Floats that are all
            at most 1 were scaled, and would be taken for black.
    """
    expected = f"send whole numbers from 0 to 255 of shape (clips, {', '.join(map(str, shape))})"
    try:
        values = np.asarray(clips)
    except ValueError as error:
        raise UserError(f"clips of unequal shapes; {expected}") from error
    if values.dtype.kind == "U" and values.ndim == 1:
        try:
            values = np.array(
                [np.frombuffer(b64decode(each, validate=True), np.uint8).reshape(shape) for each in values]
            )
        except ValueError as error:
            raise UserError(
                f"a text that is not the {math.prod(shape)} bytes of a clip in base64; {expected}"
            ) from error
    if values.ndim == 0 or values.shape[1:] != shape or not len(values):
        raise UserError(f"an array of shape {str(values.shape)[:100]}; {expected}")
    if values.dtype.kind not in "uif":
        raise UserError(f"values of type {str(values.dtype)[:50]}; {expected}")
    if values.dtype.kind == "f" and ((values >= 0) & (values <= 1)).all():
        raise UserError(f"floats from 0 to 1; {expected}")
    if not ((values >= 0) & (values <= 255) & (values % 1 == 0)).all():
        raise UserError(f"values that are not whole or outside 0 to 255; {expected}")
    return values.astype(np.uint8)
