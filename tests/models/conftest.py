"""Clips of the source's size and small ones, and models from seed 0."""

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest

from motionbench.data.params import ClipShape
from motionbench.data.splits import Clips
from motionbench.models.networks import build_model
from motionbench.models.registry import MODEL_NAMES, MODELS, CnnParams, GradientParams
from motionbench.params.schema import Params
from tests.conftest import TINY

Build = Callable[..., keras.Model]
CLIP_SHAPE = (20, 50, 130, 1)
WHOLE_CNN = {"time_distributed": "whole_cnn"}
VARIANTS = [*((name, {}) for name in MODEL_NAMES), ("cnn_lstm", WHOLE_CNN)]
EVERY_VARIANT = pytest.mark.parametrize(("name", "variant"), VARIANTS, ids=[*MODEL_NAMES, "cnn_lstm whole_cnn"])
CNNS, BY_GRADIENTS = (
    [name for name in MODEL_NAMES if issubclass(MODELS[name].params, params)] for params in (CnnParams, GradientParams)
)


@pytest.fixture(scope="session")
def clips() -> Clips:
    return np.random.default_rng(0).integers(0, 256, (2, *CLIP_SHAPE), dtype=np.uint8)


@pytest.fixture
def small(clips: Clips) -> Clips:
    return clips[:, :4, :16, :20]


@pytest.fixture
def build(params_with: Callable[[dict[str, Any]], Params]) -> Build:
    """Build a model of params.yaml with other values of its section, for clips of the source's size."""
    return partial(build_from, params_with({}), CLIP_SHAPE)


@pytest.fixture
def build_small(params_with: Callable[[dict[str, Any]], Params]) -> Build:
    """Build a tiny one, for small clips."""
    return partial(build_from, params_with(TINY), (4, 16, 20, 1))


def build_from(
    params: Params, clip_shape: ClipShape, name: str, *, seed: int = 0, shape: ClipShape | None = None, **changes: Any
) -> keras.Model:
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(seed)
    return build_model(name, params.model(name).model_copy(update=changes), shape or clip_shape, 4)
