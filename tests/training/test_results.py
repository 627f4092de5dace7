from itertools import product
from pathlib import Path

import pandas as pd
import pytest

from motionbench.core.errors import UserError
from motionbench.core.files import read_json
from motionbench.core.paths import DVC_YAML, PARAMS, ReplicateKey, training_paths
from motionbench.training.replicates import leave_untrained
from motionbench.training.results import read_training, read_trainings, write_training
from tests.conftest import ROOT
from tests.training.made_up import SECTION, replicate


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
    assert training
    assert training.parameters == 123
    assert training.replicates["epoch"].tolist() == [2, 1]
    assert training.best_replicate == ReplicateKey(7)
    # The first replicate's first two epochs, and the second's only one.
    assert training.seconds == (4.0 + 2.0) / 2
    assert training.peak_megabytes == 500.0
    assert training.section == SECTION.model_dump(mode="json")
    assert training.machines == {ReplicateKey(5): "machine 5", ReplicateKey(7): "machine 7"}
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


def test_replicates_of_folds_are_known_by_both_numbers(written: tuple[Path, Path]) -> None:
    losses = {(0, 5): [0.5, 0.25], (0, 7): [0.375], (1, 5): [0.4, 0.125, 0.3], (1, 7): [0.2]}
    replicates = [replicate(seed, each, [1.0] * len(each), fold=fold) for (fold, seed), each in losses.items()]
    write_training(*written, replicates, SECTION)
    training = read_training("convlstm")
    assert training
    assert training.best_replicate == ReplicateKey(seed=5, fold=0), "losses of other folds are of other clips"
    assert training.replicates["epoch"].tolist() == [2, 1, 2, 1]
    assert training.machines == {ReplicateKey(seed, fold): f"machine {seed}" for fold, seed in losses}
    for (fold, seed), each in losses.items():
        curve = training.curves()[ReplicateKey(seed, fold)]
        assert curve[["epoch", "validation_loss"]].to_numpy().tolist() == [[*row] for row in enumerate(each, start=1)]
        assert not {"seed", "fold"} & set(curve)


def test_a_model_that_is_switched_off_has_files_without_figures(
    working_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leave_untrained("cnn3d")
    assert capsys.readouterr().out == "cnn3d: not trained; to switch it on, set cnn3d.enabled: true in params.yaml\n"
    files = {path.relative_to(working_directory).as_posix() for path in working_directory.rglob("*") if path.is_file()}
    assert files == {
        "models/cnn3d/not_trained.txt", "metrics/training/cnn3d/summary.json", "metrics/training/cnn3d/history.csv",
        "metrics/training_timing/cnn3d.json",
    }  # fmt: skip # not one a line
    assert pd.read_csv("metrics/training/cnn3d/history.csv")["validation_loss"].empty
    assert read_training("cnn3d") is None


def damage(path: Path, content: str | None) -> None:
    if content is None:
        path.unlink()
    else:
        path.write_text(content, encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *product(("replicates.csv", "timing"), (None, "", "{}", "[]")),
        *product(["summary.json"], (None, "", "[]")),
        *product(["history.csv"], (None, "")),
        ("replicates.csv", "seed,epoch,validation_loss\n"),
    ],
)
def test_damaged_results_are_refused_in_one_line(name: str, content: str | None, written: tuple[Path, Path]) -> None:
    folder, timing = written
    damage(timing if name == "timing" else folder / name, content)
    with pytest.raises(UserError, match=r"train again: dvc repro --single-item --force train_convlstm$") as refused:
        read_training("convlstm")
    assert str(refused.value).startswith(str(folder))
    assert str(refused.value).isprintable()


@pytest.mark.usefixtures("written")
def test_of_a_model_that_was_switched_off_there_are_no_figures_to_compare() -> None:
    leave_untrained("cnn3d")
    with pytest.raises(
        UserError, match=r"^metrics/training/cnn3d: holds no figures; train it: dvc repro --single-item --force train_c"
    ):
        read_trainings(["convlstm", "cnn3d"])
    assert list(read_trainings(["convlstm"])) == ["convlstm"]
