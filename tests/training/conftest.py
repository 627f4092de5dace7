"""Clips small enough to train on in seconds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from motionbench.core.files import write_json
from motionbench.core.paths import SOURCE, TRAIN, VALIDATION
from motionbench.data.synthetic.frames import write_split
from motionbench.params.schema import Params
from tests.conftest import SOURCE_RECORD, TINY, drawing

Load = Callable[[dict[str, Any]], Params]


def draw_clips(folder: Path, params: Params) -> Path:
    """Draw the clips for training, and return the folder."""
    for part in (TRAIN, VALIDATION):
        (folder / part).mkdir(parents=True)
        write_split(folder / part, part.name, drawing(params))
    (folder / SOURCE).parent.mkdir()
    write_json(folder / SOURCE, SOURCE_RECORD.model_dump())
    return folder


@pytest.fixture(scope="session")
def drawn(params_with: Load, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny clips; tests must leave it as it is."""
    return draw_clips(tmp_path_factory.mktemp("drawn"), params_with(TINY))
