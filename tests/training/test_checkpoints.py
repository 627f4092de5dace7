from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motionbench.core.paths import ReplicateKey, checkpoint_path
from motionbench.training.checkpoints import (
    Checkpoint,
    load_checkpoint,
    remove_checkpoints,
    save_checkpoint,
)


def test_only_whole_checkpoints_of_the_same_training_are_used(tmp_path: Path) -> None:
    path = tmp_path / "model/seed-0.npz"
    weights = [np.arange(6.0).reshape(2, 3), np.array(7, dtype=np.int64)]
    history: Any = [{"seed": 0, "epoch": 1, "loss": 0.1 + 0.2}]
    assert load_checkpoint(path, "key") is None
    save_checkpoint(path, "key", Checkpoint(history, [0.5], weights, weights[:1]))
    loaded = load_checkpoint(path, "key")
    assert loaded
    assert (loaded.history, loaded.epoch_seconds) == (history, [0.5])
    for ours, theirs in zip([*weights, weights[0]], [*loaded.variables, *loaded.best_weights], strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    assert load_checkpoint(path, "another") is None
    content = path.read_bytes()
    for damaged in (
        b"",
        content[:-9],
        content[:200],
        b"PK" + bytes(200),
        content[:400] + bytes([content[400] ^ 1]) + content[401:],
    ):
        path.write_bytes(damaged)
        assert load_checkpoint(path, "key") is None
    np.savez(path, np.array([object()]))
    assert load_checkpoint(path, "key") is None, "a pickle"


def test_only_the_checkpoints_of_one_model_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ours, others = (checkpoint_path(name, ReplicateKey(0)) for name in ("convlstm", "cnn_lstm"))
    for path in (ours, others):
        save_checkpoint(path, "key", Checkpoint([], [], [], []))
    remove_checkpoints("convlstm")
    assert load_checkpoint(ours, "key") is None
    assert load_checkpoint(others, "key") is not None
    remove_checkpoints("convlstm")  # though there are none
