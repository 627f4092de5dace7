"""Clips small enough to train on in seconds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from motionbench.core.files import write_json
from motionbench.core.paths import DATASET_INFO, TRAIN, VALIDATION
from motionbench.data.splits import write_split
from motionbench.data.synthetic.frames import draw_split
from motionbench.params.schema import Params
from tests.conftest import DRAWN_DATASET, TINY, drawing

Load = Callable[[dict[str, Any]], Params]


def draw_clips(folder: Path, params: Params) -> Path:
    """Draw the clips for training, and return the folder."""
    for part in (TRAIN, VALIDATION):
        (folder / part).mkdir(parents=True)
        write_split(folder / part, draw_split(part.name, drawing(params)))
    (folder / DATASET_INFO).parent.mkdir()
    write_json(folder / DATASET_INFO, DRAWN_DATASET.model_dump())
    return folder


@pytest.fixture(scope="session")
def drawn(params_with: Load, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny clips; tests must leave it as it is."""
    return draw_clips(tmp_path_factory.mktemp("drawn"), params_with(TINY))
