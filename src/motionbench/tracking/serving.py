"""How MLflow loads a logged model: its copy of this package reads the Keras archive beside it, no pickle involved."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

from motionbench.models.archive import load_model


def _load_pyfunc(path: str) -> SimpleNamespace:
    """Return an object with `predict`, as `mlflow.pyfunc.load_model` wants it."""
    model = load_model(Path(path))

    def predict(clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Classify clips, shape (clips, frames, height, width, channels), to probabilities (clips, classes)."""
        return np.asarray(model(clips, training=False))

    return SimpleNamespace(predict=predict)
