from pathlib import Path
from typing import Any

import numpy as np

from motionbench.training.checkpoints import Checkpoint, load_checkpoint, save_checkpoint


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
