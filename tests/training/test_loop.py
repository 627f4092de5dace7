"""Replicates trained for real, in processes of their own, on clips small enough to take seconds."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from motionbench.core.errors import UserError
from motionbench.core.paths import ReplicateKey
from motionbench.core.processes import describe_machine
from motionbench.data.splits import read_split
from motionbench.data.synthetic.frames import write_split
from motionbench.execution.engine import EventCallback, LocalEngine, local_engine, run_tasks
from motionbench.execution.runtime import importing_tensorflow
from motionbench.models.registry import ModelParams
from motionbench.params.schema import Params
from motionbench.training.checkpoints import load_checkpoint
from tests.conftest import SOURCE_RECORD, TINY, drawing

ALL_CORES = joblib.cpu_count()  # in one process
Load = Callable[[dict[str, Any]], Params]


@pytest.fixture(scope="module")
def engine() -> Iterator[LocalEngine]:
    """Processes that import TensorFlow once for all tests."""
    with local_engine() as engine:
        yield engine


@pytest.fixture
def splits(drawn: Path, tmp_path: Path) -> Path:
    """A folder with the tiny splits for training, for a test to write to."""
    for name in ("train", "validation"):
        (tmp_path / name).symlink_to(drawn / name)
    return tmp_path


@pytest.fixture(scope="module")
def drawn(params_with: Load, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("splits")
    for name in ("train", "validation"):
        (folder / name).mkdir()
        write_split(folder / name, name, drawing(params_with(TINY)))
    return folder


def train(
    model_name: str, folder: Path, params: Params, number: int, on_event: EventCallback,
    are_current: Callable[[], bool] = lambda: True,
) -> Any:  # fmt: skip
    with importing_tensorflow():
        from motionbench.training.loop import train_replicate
    splits = (read_split(folder / "train"), read_split(folder / "validation"))
    path = folder / f"{number}.keras"
    key = ReplicateKey(params.training.seeds[0])
    checkpoint = path.with_suffix(".npz")
    digest = str(number)
    replicate = train_replicate(
        model_name, key, params, SOURCE_RECORD, *splits, path, checkpoint, digest, on_event, are_current
    )
    return replicate, path.read_bytes()


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
def test_every_training_parameter_changes_the_training(params_with: Load, engine: LocalEngine, splits: Path) -> None:
    tasks = [
        partial(train, "cnn_lstm", splits, params_with(IMPATIENT | change), number)
        for number, change in enumerate(CHANGES)
    ]
    events: list[Any] = []
    (base, base_bytes), (again, again_bytes), *others = run_tasks(engine, tasks, 1, events.append)
    assert base["history"] == again["history"]
    assert base_bytes == again_bytes
    assert [epoch["epoch"] for epoch in base["history"]] == [1, 2, 3, 4]
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
    saved = load_checkpoint(folder / f"{number}.npz", str(number))
    return saved.history if saved else [], epochs


@pytest.mark.slow
def test_epochs_of_other_code_or_clips_are_not_saved(params_with: Load, engine: LocalEngine, splits: Path) -> None:
    task = partial(train_until_an_edit, "cnn_lstm", splits, params_with(IMPATIENT), 99)
    [(saved, epochs)] = run_tasks(engine, [task], 1)
    assert saved == epochs[:1]
    assert len(epochs) > 1


class KilledError(Exception):
    """Ends a training in the middle of an epoch."""


def train_with_kills(model_name: str, folder: Path, params: Params, number: int, on_event: EventCallback) -> Any:
    def report_and_die(last: int, epoch: Any) -> None:
        saved = load_checkpoint(folder / f"{number}.npz", str(number))
        assert saved
        assert epoch in saved.history, "an epoch is saved before it is told, so that it is never trained again"
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
    for name in ("train", "validation"):
        (tmp_path / name).mkdir()
        write_split(tmp_path / name, name, drawing(params))
    trained = []
    for cores in (1, 2, 4):
        with local_engine() as engine:
            trained += run_tasks(engine, [partial(train_on, model_name, tmp_path, params, cores)], ALL_CORES)
    assert [threads for threads, _ in trained] == [(1, 1), (1, 2), (1, 4)]
    assert len({content for _, content in trained}) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_name", "changes"), [("cnn_lstm", {**REGULARIZED, **AUGMENTED}), ("convlstm", {"convlstm.epochs": 6})]
)
def test_a_killed_training_ends_with_the_same_bytes(
    model_name: str, changes: dict[str, Any], params_with: Load, engine: LocalEngine, splits: Path
) -> None:
    # Best is the first epoch, so that its weights must come from the checkpoint.
    params = params_with(IMPATIENT | changes)
    tasks = [partial(how, model_name, splits, params, number) for number, how in enumerate((train, train_with_kills))]
    events: list[Any] = []
    (unbroken, unbroken_bytes), (broken, broken_bytes) = run_tasks(engine, tasks, 1, events.append)
    assert broken_bytes == unbroken_bytes
    assert broken["history"] == unbroken["history"]
    assert len(broken["epoch_seconds"]) == 4
    assert sorted(map(str, events)) == sorted(map(str, 2 * unbroken["history"])), "epochs done before are told again"


def train_in_turn(
    model_name: str, folder: Path, params: Sequence[Params], on_event: EventCallback
) -> tuple[list[bytes], int]:
    """Return the files of replicates that one process trains, and the number of models that it has traced for them."""
    with importing_tensorflow():
        from motionbench.training import loop
    files, traced = [], set()
    for number, each in enumerate(params):
        files.append(train(model_name, folder, each, number, on_event)[1])
        (folder / f"{number}.npz").unlink()
        traced |= set(loop._traced.values())
    return files, len(traced)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_name", "changes"), [("cnn_lstm", {**REGULARIZED, **AUGMENTED}), ("convlstm", {"convlstm.epochs": 2})]
)
def test_a_process_traces_a_model_once_and_trains_what_a_new_process_does(
    model_name: str, changes: dict[str, Any], params_with: Load, splits: Path
) -> None:
    def files_of(*params: Params) -> tuple[list[bytes], int]:
        with local_engine() as new:
            [result] = run_tasks(new, [partial(train_in_turn, model_name, splits, params)], ALL_CORES)
        return result

    first, second = (params_with(TINY | changes | {"training.seeds": [seed]}) for seed in (1, 2))
    other = params_with(TINY | changes | {f"{model_name}.learning_rate": 0.1})
    files, traced = files_of(first, second, first, other)
    ([second_alone], _), ([other_alone], _) = files_of(second), files_of(other)
    assert files == [files[0], second_alone, files[0], other_alone]
    assert traced == 2


def learning_rates_and_decay(section: ModelParams, _on_event: EventCallback) -> tuple[list[float], float]:
    """Return the learning rate before each step of two epochs, and what a weight is after them without gradients."""
    with importing_tensorflow():
        import keras

        from motionbench.training.loop import build_optimizer
    weight = keras.Variable([1.0])
    optimizer, rates = build_optimizer(section, 10), []
    for _ in range(6):
        rates.append(float(optimizer.learning_rate))
        optimizer.apply([keras.ops.zeros(1)], [weight])
    return rates, float(weight[0])


def test_schedule_and_weight_decay(params_with: Load, engine: LocalEngine) -> None:
    settings = {"learning_rate": 0.1, "epochs": 2, "batch_size": 4}
    section = params_with({}).model("convlstm").model_copy(update=settings)
    changes: list[dict[str, Any]] = [
        {}, {"weight_decay": 0.5}, {"weight_decay": 0.5, "learning_rate_schedule": "cosine"},
    ]  # fmt: skip
    tasks = [partial(learning_rates_and_decay, section.model_copy(update=each)) for each in changes]
    (constant, kept), (_, decayed), (cosine, less_decayed) = run_tasks(engine, tasks, ALL_CORES)
    assert constant == pytest.approx([0.1] * 6)
    assert kept == 1
    assert decayed == pytest.approx((1 - 0.1 * 0.5) ** 6)
    expected = [0.1 * (1 + np.cos(np.pi * step / 6)) / 2 for step in range(6)]
    assert cosine == pytest.approx(expected)
    assert less_decayed == pytest.approx(np.prod([1 - 0.5 * rate for rate in expected]))


def read_in_order(folder: Path, order: Any, _on_event: EventCallback) -> list[int]:
    with importing_tensorflow():
        from motionbench.training.loop import read_batches
    split = read_split(folder)
    batches = read_batches(split, 3, order)
    assert not batches.options().autotune.enabled
    batches = list(batches)
    assert [(len(clips), clips.dtype.name) for clips, _ in batches] == [(3, "uint8")] * 5 + [(1, "uint8")]
    content = {clip.tobytes(): number for number, clip in enumerate(split.clips)}
    for clips, labels in batches:
        assert labels.numpy().tolist() == split.labels[[content[clip.tobytes()] for clip in clips.numpy()]].tolist()
    return [content[clip.tobytes()] for clips, _ in batches for clip in clips.numpy()]


def orders(_on_event: EventCallback) -> list[list[int]]:
    with importing_tensorflow():
        from motionbench.training.loop import order_of_clips
    return [order_of_clips(16, *which).tolist() for which in ((1, 1), (1, 1), (1, 2), (2, 1))]


def test_each_epoch_reads_every_clip_once_in_its_own_order(engine: LocalEngine, splits: Path) -> None:
    [[first, again, next_epoch, other_seed]] = run_tasks(engine, [orders], 1)
    assert first == again
    assert len({tuple(order) for order in (first, next_epoch, other_seed)}) == 3
    assert sorted(first) == sorted(next_epoch) == list(range(16))
    tasks = [partial(read_in_order, splits / "train", order) for order in (None, np.array(first))]
    assert run_tasks(engine, tasks, ALL_CORES) == [list(range(16)), first]


def fit(model_name: str, folder: Path, params: Params, _on_event: EventCallback) -> list[dict[str, Any]]:
    with importing_tensorflow():
        from motionbench.training.loop import build_replicate, fit_epochs
    splits = (read_split(folder / "train"), read_split(folder / "validation"))
    section, key = params.model(model_name), ReplicateKey(3)
    model = build_replicate(model_name, section, splits[0], key.seed)
    fitted = fit_epochs(model, model_name, key, section, params.training, SOURCE_RECORD, *splits)
    return [dict(epoch) for epoch in fitted]


@pytest.mark.slow
def test_a_fit_has_all_its_epochs(params_with: Load, engine: LocalEngine, splits: Path) -> None:
    [epochs] = run_tasks(engine, [partial(fit, "cnn_lstm", splits, params_with(TINY))], 1)
    assert [(epoch["seed"], epoch["epoch"]) for epoch in epochs] == [(3, 1), (3, 2)]
    assert epochs[0]["loss"] != epochs[1]["loss"]
    for epoch in epochs:
        assert epoch["loss"] > 0 < epoch["validation_loss"]
        assert epoch["accuracy"] * 16 == pytest.approx(round(epoch["accuracy"] * 16))


# So small a rate that the weights stay as they are.
AT_REST = TINY | {"cnn_lstm.epochs": 1, "cnn_lstm.learning_rate": 1e-30}


@pytest.mark.slow
def test_each_augmentation_changes_the_training_part_alone(
    params_with: Load, engine: LocalEngine, splits: Path
) -> None:
    changes = [{}, *({key: value} for key, value in AUGMENTED.items())]
    tasks = [partial(fit, "cnn_lstm", splits, params_with(AT_REST | each)) for each in changes]
    (plain,), *augmented = run_tasks(engine, tasks, 1)
    for change, (epoch,) in zip(changes[1:], augmented, strict=True):
        assert epoch["loss"] != plain["loss"], change
        assert epoch["validation_loss"] == pytest.approx(plain["validation_loss"], rel=1e-6), change


@pytest.mark.slow
def test_balanced_classes_count_the_same_however_many_clips_they_have(
    params_with: Load, engine: LocalEngine, drawn: Path, tmp_path: Path
) -> None:
    for name, times in (("train", (1, 5, 2, 1)), ("validation", (3, 1, 1, 2))):
        shutil.copytree(drawn / name, tmp_path / name)
        clips, labels, _ = read_split(drawn / name)
        often = np.repeat(np.arange(len(labels)), np.array(times)[labels])
        np.save(tmp_path / name / "clips.npy", clips[often])
        np.save(tmp_path / name / "labels.npy", labels[often])
    balanced = params_with(AT_REST | {"training.class_weights": "balanced"})
    folders = [(drawn, params_with(AT_REST)), (tmp_path, balanced), (tmp_path, params_with(AT_REST))]
    tasks = [partial(fit, "cnn_lstm", folder, params) for folder, params in folders]
    (even,), (weighted,), (uneven,) = run_tasks(engine, tasks, 1)
    for loss in ("loss", "validation_loss"):
        assert weighted[loss] == pytest.approx(even[loss], rel=1e-5)
        assert abs(uneven[loss] - even[loss]) > 1e-3
    for accuracy in ("accuracy", "validation_accuracy"):
        assert weighted[accuracy] == uneven[accuracy] != even[accuracy]


def test_a_loss_that_is_no_number_is_refused(params_with: Load, engine: LocalEngine, splits: Path) -> None:
    params = params_with(TINY | {"cnn_lstm.learning_rate": 1e38})
    message = r"^params.yaml: cnn_lstm.learning_rate: 1e\+38: the loss of seed 3 is no longer a number in epoch \d"
    with pytest.raises(UserError, match=message):
        run_tasks(engine, [partial(fit, "cnn_lstm", splits, params)], 1)
