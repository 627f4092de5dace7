import re

import pytest

from motionbench.core.paths import ReplicateKey
from motionbench.execution.progress import epoch_progress, trial_progress

KEYS = [ReplicateKey(0), ReplicateKey(1)]
EPOCH = {"seed": 1, "epoch": 2, "loss": 0.5, "accuracy": 0.75, "validation_loss": 0.25, "validation_accuracy": 1.0}


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have rich take the captured output for a terminal."""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "200")


def without_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_without_a_terminal_each_epoch_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with epoch_progress("convlstm", KEYS, epochs=3) as show:
        show(KEYS[1], EPOCH)
    line = "convlstm seed 1 epoch 2: loss 0.5000, validation loss 0.2500, validation accuracy 1.0000\n"
    assert capsys.readouterr().out == line


@pytest.mark.usefixtures("terminal")
def test_on_a_terminal_each_replicate_has_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with epoch_progress("convlstm", KEYS, epochs=3) as show:
        show(KEYS[1], EPOCH)
    shown = without_colours(capsys.readouterr().out)
    assert "convlstm seed 0" in shown
    assert "2/3 validation loss 0.250 accuracy 1.000" in shown
    assert "epoch 2:" not in shown


def test_without_a_terminal_each_trial_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with trial_progress("first", total=40) as show:
        show(0, 0, None, "")
        show(3, 1, 0.125, "trial 2: pruned")
    assert capsys.readouterr().out == "first: trial 2: pruned (3 of 40 done)\n"


@pytest.mark.usefixtures("terminal")
def test_on_a_terminal_a_study_has_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with trial_progress("first", total=40) as show:
        show(3, 1, 0.125, "trial 2: pruned")
    shown = without_colours(capsys.readouterr().out)
    assert "3/40 1 pruned, best 0.125" in shown
    assert "trial 2" not in shown
