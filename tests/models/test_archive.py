from functools import partial
from pathlib import Path

import numpy as np
import pytest

from motionbench.core.errors import UserError
from motionbench.data.splits import Clips
from motionbench.models.archive import load_model, load_weights, read_network, save_model
from motionbench.models.registry import MODEL_NAMES, build_model
from tests.conftest import TINY
from tests.models.conftest import SMALL_SHAPE, Load


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_the_same_model_gives_the_same_bytes(name: str, params_with: Load, tmp_path: Path, clips: Clips) -> None:
    model = build_model(name, params_with(TINY).model(name), SMALL_SHAPE, 4)
    for file in ("once.keras", "twice.keras"):
        save_model(model, tmp_path / file)
    assert (tmp_path / "once.keras").read_bytes() == (tmp_path / "twice.keras").read_bytes()
    assert sorted(path.name for path in tmp_path.glob("*.keras")) == ["once.keras", "twice.keras"]
    small = clips[:, :4, :16, :20]
    np.testing.assert_array_equal(load_model(tmp_path / "once.keras")(small), model(small))


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "no archive"])
def test_a_damaged_archive_is_refused_in_one_line(damage: str, params_with: Load, tmp_path: Path) -> None:
    path = tmp_path / "convlstm" / "seed-0.keras"
    path.parent.mkdir()
    model = build_model("convlstm", params_with(TINY).model("convlstm"), SMALL_SHAPE, 4)
    save_model(model, path)
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "truncated": content[:-100], "no archive": b"model"}[damage])
    for read in (load_model, read_network, partial(load_weights, model)):
        with pytest.raises(UserError) as refused:
            read(path)
        assert str(refused.value).endswith("train it again: dvc repro --force train_convlstm")
        assert "\n" not in str(refused.value)
