"""Replicates trained for real, in processes of their own, on clips small enough to take seconds."""

import os
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from joblib.externals.loky import get_reusable_executor
from motionbench.execution.parallel import Report, run_side_by_side

from motionbench.core.errors import UserError
from motionbench.data.sources import write_split
from motionbench.data.splits import read_split
from motionbench.execution.runtime import importing_tensorflow
from motionbench.params.schema import Params
from motionbench.training.checkpoints import Checkpoint, checkpoint_key, load_checkpoint, save_checkpoint
from tests.conftest import TINY

Load = Callable[[dict[str, Any]], Params]


def train(model_name: str, folder: Path, params: Params, number: int, report: Report) -> Any:
    with importing_tensorflow():
        from motionbench.training.loop import train_replicate
    splits = (read_split(folder / "train", params.data), read_split(folder / "validation", params.data))
    path = folder / f"{number}.keras"
    seed = params.training.seeds[0]
    replicate = train_replicate(
        model_name, seed, params.model(model_name), params.training, *splits, path,
        path.with_suffix(".npz"), str(number), report,
    )  # fmt: skip
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
]
# A minimum that no epoch reaches, so that it is patience that ends the training.
IMPATIENT = TINY | {
    "cnn_lstm.epochs": 6,
    "training.patience": 3,
    "training.min_delta": 10.0,
    "training.target_loss": 0.0,
}


def test_every_training_parameter_changes_the_training(params_with: Load, tmp_path: Path) -> None:
    for name in ("train", "validation"):
        (tmp_path / name).mkdir()
        write_split(tmp_path / name, name, params_with(TINY).data)
    tasks = [
        partial(train, "cnn_lstm", tmp_path, params_with(IMPATIENT | change), number)
        for number, change in enumerate(CHANGES)
    ]
    events: list[Any] = []
    (base, base_bytes), (again, again_bytes), *others = run_side_by_side(tasks, 1, events.append)
    assert base["history"] == again["history"]
    assert base_bytes == again_bytes
    assert [epoch["epoch"] for epoch in base["history"]] == [1, 2, 3, 4]
    assert base["best"] == base["history"][0]
    for change, (replicate, _) in zip(CHANGES[2:], others, strict=True):
        assert replicate["history"] != base["history"], change
        if "training.target_loss" in change:
            assert replicate["history"] == base["history"][:1]
    trained = [base, again, *(replicate for replicate, _ in others)]
    assert sorted(map(str, events)) == sorted(str(epoch) for replicate in trained for epoch in replicate["history"])


class KilledError(Exception):
    """Ends a training in the middle of an epoch."""


def train_with_kills(model_name: str, folder: Path, params: Params, number: int, report: Report) -> Any:
    def report_and_die(last: int, epoch: Any) -> None:
        # After the epoch, before its checkpoint: the last but one is what is left.
        if epoch["epoch"] == last:
            raise KilledError

    for last in (1, 2, 4):
        with pytest.raises(KilledError):
            train(model_name, folder, params, number, partial(report_and_die, last))
    return train(model_name, folder, params, number, report)


@pytest.mark.parametrize("model_name", ["cnn_lstm", "convlstm"])
def test_a_killed_training_goes_on_and_ends_with_the_same_bytes(
    model_name: str, params_with: Load, tmp_path: Path
) -> None:
    # Best is the first epoch, so that its weights must come from the checkpoint.
    params = params_with(IMPATIENT | {"convlstm.epochs": 6})
    for name in ("train", "validation"):
        (tmp_path / name).mkdir()
        write_split(tmp_path / name, name, params.data)
    tasks = [partial(how, model_name, tmp_path, params, number) for number, how in enumerate((train, train_with_kills))]
    events: list[Any] = []
    (unbroken, unbroken_bytes), (broken, broken_bytes) = run_side_by_side(tasks, 1, events.append)
    assert broken_bytes == unbroken_bytes
    assert broken["history"] == unbroken["history"]
    assert len(broken["epoch_seconds"]) == 4
    assert sorted(map(str, events)) == sorted(map(str, 2 * unbroken["history"])), "epochs done before are told again"


def test_only_a_whole_checkpoint_of_the_same_training_is_used(tmp_path: Path) -> None:
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


def test_what_determines_a_training_makes_the_key() -> None:
    key = checkpoint_key({"a": 1}, ["1", "2"])
    assert key == checkpoint_key({"a": 1}, ["1", "2"])
    assert len({key, checkpoint_key({"a": 2}, ["1", "2"]), checkpoint_key({"a": 1}, ["1", "3"])}) == 3


def read_in_order(folder: Path, params: Params, order: Any, _report: Report) -> list[int]:
    with importing_tensorflow():
        from motionbench.training.loop import read_batches
    split = read_split(folder, params.data)
    batches = list(read_batches(split, 3, order))
    assert [(len(clips), clips.dtype.name) for clips, _ in batches] == [(3, "uint8")] * 5 + [(1, "uint8")]
    content = {clip.tobytes(): number for number, clip in enumerate(split.clips)}
    for clips, labels in batches:
        assert labels.numpy().tolist() == split.labels[[content[clip.tobytes()] for clip in clips.numpy()]].tolist()
    return [content[clip.tobytes()] for clips, _ in batches for clip in clips.numpy()]


def orders(_report: Report) -> list[list[int]]:
    with importing_tensorflow():
        from motionbench.training.loop import order_of_clips
    return [order_of_clips(16, *which).tolist() for which in ((1, 1), (1, 1), (1, 2), (2, 1))]


def test_each_epoch_reads_every_clip_once_in_an_order_that_seed_and_epoch_name(
    params_with: Load, tmp_path: Path
) -> None:
    params = params_with(TINY)
    write_split(tmp_path, "train", params.data)
    [[first, again, next_epoch, other_seed]] = run_side_by_side([orders], 1)
    assert first == again
    assert len({tuple(order) for order in (first, next_epoch, other_seed)}) == 3
    assert sorted(first) == sorted(next_epoch) == list(range(16))
    tasks = [partial(read_in_order, tmp_path, params, order) for order in (None, np.array(first))]
    assert run_side_by_side(tasks, 1) == [list(range(16)), first]


def intra_op_threads(threads: int, _report: Report) -> int:
    with importing_tensorflow():
        import tensorflow as tf

        from motionbench.execution.runtime import fix_threads
    fix_threads(threads)
    return int(tf.config.threading.get_intra_op_parallelism_threads())


def span(_report: Report) -> tuple[float, float]:
    started = time.monotonic()
    time.sleep(0.5)
    return started, time.monotonic()


def test_threads_bound_what_a_replicate_uses_and_how_many_run_at_once() -> None:
    get_reusable_executor(reuse=True).shutdown(kill_workers=True)
    assert run_side_by_side([partial(intra_op_threads, 2)], 2) == [2]
    get_reusable_executor(reuse=True).shutdown(kill_workers=True)
    spans = sorted(run_side_by_side([span] * 3, threads=joblib.cpu_count()))
    assert all(first[1] <= second[0] for first, second in pairwise(spans))


def fail(_report: Report) -> None:
    raise UserError("params.yaml: one line")


def die(_report: Report) -> None:
    os._exit(1)


def test_the_failure_of_a_task_is_raised_in_the_parent() -> None:
    with pytest.raises(UserError, match="one line"):
        run_side_by_side([span, fail], 1)
    with pytest.raises(Exception, match=r"terminated|exit"):
        run_side_by_side([die], 1)
    assert len(run_side_by_side([span], 1)) == 1, "the next call starts anew"


def test_an_interruption_ends_the_tasks() -> None:
    def interrupt(_event: object) -> None:
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_side_by_side([report_and_sleep], 1, interrupt)
    assert time.monotonic() - started < 30, "the task would sleep for a minute"


def report_and_sleep(report: Report) -> None:
    report({"epoch": 1})
    time.sleep(60)


def evaluate(folder: Path, params: Params, _report: Report) -> Any:
    with importing_tensorflow():
        from motionbench.evaluation.scoring import measure_cost, score
        from motionbench.execution.runtime import fix_threads
        from motionbench.models.archive import save_model
        from motionbench.models.registry import build_model
    fix_threads(1)
    split = read_split(folder, params.data)
    model = build_model("cnn_lstm", params.cnn_lstm, split.clips.shape[1:], len(split.class_names))
    # All weights zero but one bias: everything is taken for class 2.
    model.set_weights([np.zeros(weight.shape) for weight in model.get_weights()])
    model.layers[-1].bias.assign([0, 0, 1, 0])
    save_model(model, folder / "model.keras")
    return score(folder / "model.keras", split, 1, params.perturbations), measure_cost(folder / "model.keras", split, 1)


def test_scores_are_those_worked_out_by_hand(params_with: Load, tmp_path: Path) -> None:
    params = params_with(TINY)
    write_split(tmp_path, "test", params.data)
    [(scores, cost)] = run_side_by_side([partial(evaluate, tmp_path, params)], 1)
    assert (scores["correct"], scores["clips"], scores["accuracy"]) == (4, 16, 0.25)
    assert scores["confusion"] == [[0, 0, 4, 0]] * 4
    assert scores["classes"]["descending"] == {"precision": 0.25, "recall": 1.0, "f1": pytest.approx(0.4)}
    assert scores["classes"]["sine"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    right = {(each["condition"], each["level"]): each["right"] for each in scores["conditions"]}
    assert len(right) == 17
    # Of each class, the first two clips: conditions.clips_per_class.
    assert right["pixel_noise", 0.1] == [False] * 4 + [True] * 2 + [False] * 2
    # Where up and down are swapped, what was ascending is class 2, descending.
    assert right["upside_down", 1] == [False] * 2 + [True] * 2 + [False] * 4
    for quartiles in (cost["latency_milliseconds"], cost["clips_per_second"]):
        assert len(quartiles) == 3
        assert 0 < quartiles[0] <= quartiles[1] <= quartiles[2]
    assert cost["flops"] == 76_360
