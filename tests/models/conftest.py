"""Clips of the source's size, and a model's layers as the source's tables show them."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from motionbench.data.splits import Clips
from motionbench.params.schema import Params

Load = Callable[[dict[str, Any]], Params]
CLIP_SHAPE = (20, 50, 130, 1)
SMALL_SHAPE = (4, 16, 20, 1)  # as tests.conftest.TINY has it


@pytest.fixture(scope="session")
def clips() -> Clips:
    return np.random.default_rng(0).integers(0, 256, (2, *CLIP_SHAPE), dtype=np.uint8)


def layer_table(model: keras.Model) -> list[tuple[tuple[int, ...], int]]:
    """Return the output shape without the batch, and the parameters, of each layer."""
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.Rescaling)]
    return [(tuple(layer.output.shape[1:]), layer.count_params()) for layer in layers]
