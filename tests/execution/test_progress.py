import re

import pytest

from motionbench.core.paths import ReplicateKey
from motionbench.execution.progress import clip_progress, epoch_progress, trial_progress

KEYS = [ReplicateKey(seed, fold) for fold in range(3) for seed in range(2)]
EPOCH = {"epoch": 2, "loss": 0.5, "accuracy": 0.75, "validation_loss": 0.25, "validation_accuracy": 1.0}


def show_all() -> None:
    """Show two epochs of replicates, with folds and without, two trials and two clips."""
    for keys in (KEYS, [ReplicateKey(0), ReplicateKey(1)]):
        with epoch_progress("convlstm", keys, epochs=3) as show_epoch:
            show_epoch(keys[len(keys) // 2], EPOCH)
    with trial_progress("first", total=40) as show_trial:
        show_trial(0, 0, None, "")
        show_trial(3, 1, 0.125, "trial 2: pruned")
    with clip_progress("generate", 3, "clips decoded") as show_clip:
        show_clip()
        show_clip()


def test_without_a_terminal_each_epoch_and_trial_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    show_all()
    epoch = "epoch 2: loss 0.5000, validation loss 0.2500, validation accuracy 1.0000"
    assert capsys.readouterr().out.splitlines() == [
        f"convlstm fold 1 seed 1 {epoch}",
        f"convlstm seed 1 {epoch}",
        "first: trial 2: pruned (3 of 40 done)",
    ]


def test_on_a_terminal_there_are_bars(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TTY_COMPATIBLE", "1"), ("COLUMNS", "200")):  # rich takes the captured output for a terminal
        monkeypatch.setenv(name, value)
    show_all()
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().out).splitlines()
    bars = [line for line in lines if "2/3 validation loss 0.250 accuracy 1.000" in line]
    assert {line.partition(" \N{BOX DRAWINGS HEAVY HORIZONTAL}")[0].strip() for line in bars} == {
        "convlstm fold 1 seed 1",
        "convlstm seed 1",
    }, "and no other"
    assert any(line.startswith("convlstm seed 0") and "0/3" in line for line in lines)
    for shown in ("3/40 1 pruned, best 0.125", "2/3 clips decoded"):
        assert any(shown in line for line in lines)
    assert not any(printed in line for line in lines for printed in ("epoch 2:", "trial 2"))
