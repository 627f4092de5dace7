"""Replicates trained for real, in processes of their own, on clips small enough to take seconds."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import chdir
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from motionbench.core.errors import UserError
from motionbench.core.paths import TRAIN, VALIDATION, ReplicateKey, checkpoint_path
from motionbench.core.processes import describe_machine
from motionbench.data.splits import read_split
from motionbench.execution.engine import EventCallback, LocalEngine, local_engine, run_tasks
from motionbench.execution.runtime import importing_tensorflow
from motionbench.params.schema import Params
from motionbench.training.checkpoints import load_checkpoint
from motionbench.training.replicates import train_replicate
from motionbench.training.results import Epoch
from tests.conftest import DRAWN_DATASET, TINY
from tests.training.conftest import Load, draw_clips

ALL_CORES = joblib.cpu_count()  # in one process


@pytest.fixture(scope="module")
def engine() -> Iterator[LocalEngine]:
    """Processes that import TensorFlow once for all tests."""
    with local_engine() as engine:
        yield engine


@pytest.fixture
def clips(drawn: Path, tmp_path: Path) -> Path:
    """A folder with the tiny clips, for a test to write to."""
    (tmp_path / "data").symlink_to(drawn / "data")
    return tmp_path


def train(
    model_name: str, folder: Path, params: Params, number: int, on_event: EventCallback,
    are_current: Callable[[], bool] = lambda: True,
) -> Any:  # fmt: skip # not one argument a line
    """Train in a folder of this number, with a checkpoint of its own."""
    home = folder / str(number)
    home.mkdir(exist_ok=True)
    if not (home / "data").exists():
        (home / "data").symlink_to(folder / "data")
    with chdir(home):
        key, path = ReplicateKey(params.training.seeds[0]), Path("model.keras")
        replicate = train_replicate(model_name, key, params, path, "digest", are_current, on_event)
        return replicate, path.read_bytes()


def saved_epochs(model_name: str, folder: Path, params: Params, number: int) -> list[Any]:
    path = checkpoint_path(model_name, ReplicateKey(params.training.seeds[0]))
    saved = load_checkpoint(folder / str(number) / path, "digest")
    return saved.history if saved else []


CHANGES: list[dict[str, Any]] = [
    {},
    {},
    {"training.seeds": [7]},
    {"training.patience": 1},
    {"training.min_delta": 0.0},
    {"training.target_loss": 100.0},
    {"cnn_lstm.epochs": 3},
    {"cnn_lstm.batch_size": 3},
    {"cnn_lstm.learning_rate": 0.003},
    {"cnn_lstm.weight_decay": 0.5},
    {"cnn_lstm.learning_rate_schedule": "cosine"},
]
# A minimum that no epoch reaches, so that it is patience that ends the training.
IMPATIENT = TINY | {
    "cnn_lstm.epochs": 6,
    "training.patience": 3,
    "training.min_delta": 10.0,
    "training.target_loss": 0.0,
}
AUGMENTED = {
    "training.augmentation.flip": "upside_down",
    "training.augmentation.crop": 0.5,
    "training.augmentation.brightness": 0.5,
    "training.augmentation.time_jitter": 2,
}


@pytest.mark.slow
def test_every_training_parameter_changes_the_training(params_with: Load, engine: LocalEngine, clips: Path) -> None:
    tasks = [
        partial(train, "cnn_lstm", clips, params_with(IMPATIENT | change), number)
        for number, change in enumerate(CHANGES)
    ]
    events: list[Any] = []
    (base, base_bytes), (again, again_bytes), *others = run_tasks(engine, tasks, 1, events.append)
    assert base["history"] == again["history"]
    assert base_bytes == again_bytes
    assert [(epoch["seed"], epoch["epoch"]) for epoch in base["history"]] == [(0, 1), (0, 2), (0, 3), (0, 4)]
    for epoch in base["history"]:
        assert epoch["loss"] > 0 < epoch["validation_loss"]
        assert epoch["accuracy"] * 16 == pytest.approx(round(epoch["accuracy"] * 16))
    assert base["best"] == base["history"][0]
    assert base["machine"] == ", ".join(describe_machine())
    for change, (replicate, _) in zip(CHANGES[2:], others, strict=True):
        assert replicate["history"] != base["history"], change
        if "training.target_loss" in change:
            assert replicate["history"] == base["history"][:1]
    trained = [base, again, *(replicate for replicate, _ in others)]
    assert sorted(map(str, events)) == sorted(str(epoch) for replicate in trained for epoch in replicate["history"])


def train_until_an_edit(model_name: str, folder: Path, params: Params, number: int, _on_event: EventCallback) -> Any:
    epochs: list[Any] = []
    train(model_name, folder, params, number, epochs.append, are_current=lambda: not epochs)
    return saved_epochs(model_name, folder, params, number), epochs


@pytest.mark.slow
def test_epochs_of_other_code_or_clips_are_not_saved(params_with: Load, engine: LocalEngine, clips: Path) -> None:
    task = partial(train_until_an_edit, "cnn_lstm", clips, params_with(IMPATIENT), 99)
    [(saved, epochs)] = run_tasks(engine, [task], 1)
    assert saved == epochs[:1]
    assert len(epochs) > 1


class KilledError(Exception):
    """Ends a training in the middle of an epoch."""


def train_with_kills(model_name: str, folder: Path, params: Params, number: int, on_event: EventCallback) -> Any:
    def report_and_die(last: int, epoch: Any) -> None:
        saved = saved_epochs(model_name, folder, params, number)
        assert epoch in saved, "an epoch is saved before it is told, so that it is never trained again"
        if epoch["epoch"] == last:
            raise KilledError

    for last in (1, 2, 4):  # After the last one nothing is left to train.
        with pytest.raises(KilledError):
            train(model_name, folder, params, number, partial(report_and_die, last))
    return train(model_name, folder, params, number, on_event)


REGULARIZED = {
    "cnn_lstm.batch_normalization": True,
    "cnn_lstm.dropout": 0.5,
    "cnn_lstm.weight_decay": 0.5,
    "cnn_lstm.learning_rate_schedule": "cosine",
}


def train_on(model_name: str, folder: Path, params: Params, cores: int, on_event: EventCallback) -> Any:
    """Train where this number of cores is found; return the threads within and between operations, and the file."""
    joblib.cpu_count = lambda: cores
    _, content = train(model_name, folder, params, cores, on_event)
    from tensorflow.config import threading

    threads = threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads()
    return threads, content


@pytest.mark.slow
@pytest.mark.parametrize("model_name", ["cnn_lstm", "convlstm"])
def test_idle_cores_are_used_and_change_no_byte(model_name: str, params_with: Load, tmp_path: Path) -> None:
    params = params_with({"data.frames": 4, "synthetic.clips_per_class": 4, f"{model_name}.epochs": 1})
    folder = draw_clips(tmp_path, params)
    trained = []
    for cores in (1, 2, 4):
        with local_engine() as engine:
            trained += run_tasks(engine, [partial(train_on, model_name, folder, params, cores)], ALL_CORES)
    assert [threads for threads, _ in trained] == [(1, 1), (1, 2), (1, 4)]
    assert len({content for _, content in trained}) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_name", "changes"), [("cnn_lstm", {**REGULARIZED, **AUGMENTED}), ("convlstm", {"convlstm.epochs": 6})]
)
def test_a_killed_training_ends_with_the_same_bytes(
    model_name: str, changes: dict[str, Any], params_with: Load, engine: LocalEngine, clips: Path
) -> None:
    # Best is the first epoch, so that its weights must come from the checkpoint.
    params = params_with(IMPATIENT | changes)
    tasks = [partial(how, model_name, clips, params, number) for number, how in enumerate((train, train_with_kills))]
    events: list[Any] = []
    (unbroken, unbroken_bytes), (broken, broken_bytes) = run_tasks(engine, tasks, 1, events.append)
    assert broken_bytes == unbroken_bytes
    assert broken["history"] == unbroken["history"]
    assert len(broken["epoch_seconds"]) == 4
    assert sorted(map(str, events)) == sorted(map(str, 2 * unbroken["history"])), "epochs done before are told again"


def train_in_turn(model_name: str, folder: Path, params: dict[int, Params], on_event: EventCallback) -> list[bytes]:
    """Return the files of replicates that one process trains."""
    return [train(model_name, folder, each, number, on_event)[1] for number, each in params.items()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_name", "changes"), [("cnn_lstm", {**REGULARIZED, **AUGMENTED}), ("convlstm", {"convlstm.epochs": 2})]
)
def test_a_process_trains_replicates_in_turn_as_a_new_process_does(
    model_name: str, changes: dict[str, Any], params_with: Load, clips: Path
) -> None:
    def files_of(params: dict[int, Params]) -> list[bytes]:
        with local_engine() as new:
            [files] = run_tasks(new, [partial(train_in_turn, model_name, clips, params)], ALL_CORES)
        return files

    first, second = (params_with(TINY | changes | {"training.seeds": [seed]}) for seed in (1, 2))
    other = params_with(TINY | changes | {f"{model_name}.learning_rate": 0.1})
    files = files_of({0: first, 1: second, 2: first, 3: other})
    assert files == [files[0], *files_of({4: second}), files[0], *files_of({5: other})]


def fit(model_name: str, folder: Path, params: Params, _on_event: EventCallback) -> list[Epoch]:
    with importing_tensorflow():
        from motionbench.training.loop import build_replicate, fit_epochs
    split, validation = (read_split(folder / part) for part in (TRAIN, VALIDATION))
    section, key = params.model(model_name), ReplicateKey(3)
    model = build_replicate(model_name, section, split, key.seed)
    return [*fit_epochs(model, model_name, key, section, params.training, DRAWN_DATASET, split, validation)]


# So small a rate that the weights stay as they are.
AT_REST = TINY | {"cnn_lstm.epochs": 1, "cnn_lstm.learning_rate": 1e-30}


@pytest.mark.slow
def test_each_augmentation_changes_the_training_part_alone(params_with: Load, engine: LocalEngine, clips: Path) -> None:
    changes = [{}, *({key: value} for key, value in AUGMENTED.items())]
    tasks = [partial(fit, "cnn_lstm", clips, params_with(AT_REST | each)) for each in changes]
    (plain,), *augmented = run_tasks(engine, tasks, 1)
    for change, (epoch,) in zip(changes[1:], augmented, strict=True):
        assert epoch["loss"] != plain["loss"], change
        assert epoch["validation_loss"] == pytest.approx(plain["validation_loss"], rel=1e-6), change


@pytest.mark.slow
def test_balanced_classes_count_the_same_however_many_clips_they_have(
    params_with: Load, engine: LocalEngine, drawn: Path, tmp_path: Path
) -> None:
    shutil.copytree(drawn / "data", tmp_path / "data")
    for part, times in ((TRAIN, (1, 5, 2, 1)), (VALIDATION, (3, 1, 1, 2))):
        clips, labels, _ = read_split(drawn / part)
        often = np.repeat(np.arange(len(labels)), np.array(times)[labels])
        np.save(tmp_path / part / "clips.npy", clips[often])
        np.save(tmp_path / part / "labels.npy", labels[often])
    balanced = params_with(AT_REST | {"training.class_weights": "balanced"})
    folders = [(drawn, params_with(AT_REST)), (tmp_path, balanced), (tmp_path, params_with(AT_REST))]
    tasks = [partial(fit, "cnn_lstm", folder, params) for folder, params in folders]
    (even,), (weighted,), (uneven,) = run_tasks(engine, tasks, 1)
    for loss in ("loss", "validation_loss"):
        assert weighted[loss] == pytest.approx(even[loss], rel=1e-5)
        assert abs(uneven[loss] - even[loss]) > 1e-3
    for accuracy in ("accuracy", "validation_accuracy"):
        assert weighted[accuracy] == uneven[accuracy] != even[accuracy]


def test_a_loss_that_is_no_number_is_refused(params_with: Load, engine: LocalEngine, clips: Path) -> None:
    params = params_with(TINY | {"cnn_lstm.learning_rate": 1e38})
    message = r"^params.yaml: cnn_lstm.learning_rate: 1e\+38: the loss of seed 3 is no longer a number in epoch \d"
    with pytest.raises(UserError, match=message):
        run_tasks(engine, [partial(fit, "cnn_lstm", clips, params)], 1)
