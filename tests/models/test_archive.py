from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motionbench.core.errors import UserError
from motionbench.data.splits import Clips
from motionbench.models.archive import load_model, load_weights, read_network, save_model
from motionbench.models.cost import count_flops
from tests.models.conftest import EVERY_VARIANT, Build


@EVERY_VARIANT
def test_the_same_model_gives_the_same_bytes_and_opens_again(
    name: str, variant: dict[str, Any], build_small: Build, small: Clips, tmp_path: Path
) -> None:
    model = build_small(name, standardize=True, batch_normalization=True, dropout=0.5, **variant)
    model(small, training=True)  # moves statistics and the state of the random numbers
    save_model(model, tmp_path / "once.keras")
    model(small, training=True)
    model.set_weights(load_model(tmp_path / "once.keras").get_weights())
    save_model(model, tmp_path / "twice.keras")
    assert (tmp_path / "once.keras").read_bytes() == (tmp_path / "twice.keras").read_bytes()
    assert sorted(path.name for path in tmp_path.glob("*.keras")) == ["once.keras", "twice.keras"]
    np.testing.assert_array_equal(load_model(tmp_path / "once.keras")(small), model(small))
    assert count_flops(model) == count_flops(build_small(name, **variant)), "neither counts"


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "no archive"])
def test_a_damaged_archive_is_refused_in_one_line(damage: str, build_small: Build, tmp_path: Path) -> None:
    path = tmp_path / "convlstm" / "seed-0.keras"
    path.parent.mkdir()
    model = build_small("convlstm")
    save_model(model, path)
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "truncated": content[:-100], "no archive": b"model"}[damage])
    for read in (load_model, read_network, partial(load_weights, model)):
        with pytest.raises(UserError) as refused:
            read(path)
        assert str(refused.value).endswith("train it again: dvc repro --single-item --force train_convlstm")
        assert "\n" not in str(refused.value)
