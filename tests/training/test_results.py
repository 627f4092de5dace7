from itertools import product
from pathlib import Path

import pandas as pd
import pytest

from motionbench.core.errors import UserError
from motionbench.core.files import read_json
from motionbench.core.paths import DVC_YAML, PARAMS, ReplicateKey, training_paths
from motionbench.models.registry import ModelParams
from motionbench.training.results import Epoch, Replicate, read_training, write_training
from tests.conftest import ROOT

SECTION = ModelParams(filters=(2,), kernel_sizes=(3,), epochs=3, batch_size=8, learning_rate=0.01)


def replicate(seed: int, losses: list[float], seconds: list[float], megabytes: float) -> Replicate:
    history = [
        Epoch(seed=seed, epoch=epoch, loss=1.0, accuracy=0.5, validation_loss=loss, validation_accuracy=1 - loss)
        for epoch, loss in enumerate(losses, start=1)
    ]
    return Replicate(
        history=history,
        best=min(history, key=lambda epoch: epoch["validation_loss"]),
        parameters=123,
        summary="layers\n",
        epoch_seconds=seconds,
        peak_megabytes=megabytes,
    )


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Metrics and timing of two replicates of the ConvLSTM in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    for path in (DVC_YAML, PARAMS):  # They say which stage trains the model.
        path.symlink_to(ROOT / path)
    _, folder, timing = training_paths("convlstm")
    folder.mkdir(parents=True)
    timing.parent.mkdir(parents=True)
    replicates = [replicate(5, [0.5, 0.25, 0.375], [3.0, 1.0, 1.0], 400.0), replicate(7, [0.125], [2.0], 500.0)]
    write_training(folder, timing, replicates, SECTION)
    return folder, timing


@pytest.mark.usefixtures("written")
def test_what_was_written_is_read() -> None:
    training = read_training("convlstm")
    assert training.parameters == 123
    assert training.best_epochs == [2, 1]
    assert training.best == ReplicateKey(7)
    # The first replicate's first two epochs, and the second's only one.
    assert training.seconds == (4.0 + 2.0) / 2
    assert training.peak_megabytes == 500.0
    assert training.section == SECTION.model_dump(mode="json")
    assert training.history[["seed", "epoch", "validation_loss"]].to_numpy().tolist() == [
        [5, 1, 0.5],
        [5, 2, 0.25],
        [5, 3, 0.375],
        [7, 1, 0.125],
    ]


def test_the_summary_is_the_mean_of_the_best_epochs(written: tuple[Path, Path]) -> None:
    folder, timing = written
    assert read_json(folder / "summary.json") == {
        "parameters": 123,
        "best_epoch": 1.5,
        "validation_loss": 0.1875,
        "validation_accuracy": 0.8125,
    }
    assert pd.read_csv(folder / "replicates.csv")["seed"].tolist() == [5, 7]
    assert (folder / "model_summary.txt").read_text(encoding="utf-8") == "layers\n"
    timings = read_json(timing)
    assert timings["training_seconds"] == 3.5
    assert timings["first_epoch_seconds"] == 2.5
    assert timings["epoch_seconds"] == 1.5
    assert timings["replicate_seconds"] == [5.0, 2.0]


def damage(path: Path, content: str | None) -> None:
    if content is None:
        path.unlink()
    else:
        path.write_text(content, encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *product(("summary.json", "replicates.csv", "timing"), (None, "", "{}", "[]")),
        *product(["history.csv"], (None, "")),
        ("replicates.csv", "seed,epoch,validation_loss\n"),
    ],
)
def test_damaged_results_are_refused_in_one_line(name: str, content: str | None, written: tuple[Path, Path]) -> None:
    folder, timing = written
    damage(timing if name == "timing" else folder / name, content)
    with pytest.raises(UserError, match=r"train again: dvc repro --force train_convlstm$") as refused:
        read_training("convlstm")
    assert str(refused.value).startswith(str(folder))
    assert str(refused.value).isprintable()
