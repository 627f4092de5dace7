import re

import pytest

from motionbench.core.paths import ReplicateKey
from motionbench.execution.progress import clip_progress, epoch_progress, trial_progress

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


def test_with_folds_a_line_names_fold_and_seed(capsys: pytest.CaptureFixture[str]) -> None:
    keys = [ReplicateKey(seed, fold) for fold in range(3) for seed in range(2)]
    with epoch_progress("convlstm", keys, epochs=3) as show:
        show(keys[3], {**EPOCH, "fold": 1})
    assert capsys.readouterr().out.startswith("convlstm fold 1 seed 1 epoch 2: loss 0.5000, validation loss 0.2500")


@pytest.mark.usefixtures("terminal")
def test_with_folds_each_replicate_of_each_fold_has_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    keys = [ReplicateKey(seed, fold) for fold in range(3) for seed in range(2)]
    with epoch_progress("convlstm", keys, epochs=3) as show:
        show(keys[3], {**EPOCH, "fold": 1})
    bars = [line for line in without_colours(capsys.readouterr().out).splitlines() if "2/3" in line]
    assert bars
    assert all(line.startswith("convlstm fold 1 seed 1") for line in bars), "and no other"


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


@pytest.mark.usefixtures("terminal")
def test_on_a_terminal_the_decoded_clips_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    with clip_progress(3) as show:
        show()
        show()
    assert "2/3 clips decoded" in without_colours(capsys.readouterr().out)


def test_without_a_terminal_decoded_clips_are_no_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with clip_progress(3) as show:
        show()
    assert capsys.readouterr().out == ""
