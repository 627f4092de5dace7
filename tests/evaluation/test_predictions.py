"""The table of predictions: written and read, and what it says where it cannot be used."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from motionbench.core.errors import UserError
from motionbench.core.paths import ANSWERS, MODELS
from motionbench.evaluation.predictions import (
    UNCHANGED,
    Condition,
    Predictions,
    made_from,
    read_predictions,
    write_predictions,
)

CLIPS = {"data/train": "1", "data/test": "2", "data/folds": "3"}
LABELS = np.array([0, 1, 2, 0, 1])
NAMES = ("still", "up", "up and down")


def answers(clips: int, seed: int) -> np.ndarray:
    """Probabilities of two replicates."""
    return np.random.default_rng(seed).dirichlet(np.ones(3), (2, clips)).astype(np.float32)


def condition(name: str, level: float, clips: list[int], labels: list[int], seed: int) -> Condition:
    probabilities = {model: answers(len(clips), seed + number) for number, model in enumerate(("cnn_lstm", "cnn3d"))}
    return Condition(name, level, np.array(clips), np.array(labels), probabilities)


@pytest.fixture
def predictions(working_directory: Path) -> Predictions:
    """Those of two models, which are there; nothing is written yet."""
    for name in ("cnn_lstm", "cnn3d"):
        (working_directory / MODELS / name).mkdir(parents=True)
        for seed in (3, 1):
            (working_directory / MODELS / name / f"seed-{seed}.keras").write_text(f"{name} {seed}", encoding="utf-8")
    ANSWERS.parent.mkdir()
    return Predictions(
        class_names=NAMES,
        frames=20,
        seeds=(3, 1),
        perturbation_seed=7,
        folds=np.array([0, 0, 0, 1, 1]),
        files=np.array(["a.mp4", "b\n.mp4", "c.mp4", "d.mp4", "ü.mp4"], object),
        groups=np.array(["x", "x", "", "y", "y"], object),
        unchanged=condition(UNCHANGED, 0.0, [0, 1, 2, 3, 4], LABELS.tolist(), 0),
        perturbed=[
            condition("speed", 0.5, [1, 3], [1, 0], 10),
            condition("speed", 2.0, [1, 3], [1, 0], 20),
            condition("upside_down", 1.0, [0, 4], [0, 2], 30),
        ],
        md5s=made_from(CLIPS),
    )


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Condition | Predictions):
        return all(same(*each) for each in zip(one, other, strict=True))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(same(*each) for each in zip(one, other, strict=True))
    return bool(np.array_equal(one, other))


def test_what_is_written_is_read(predictions: Predictions) -> None:
    write_predictions(ANSWERS, predictions)
    assert same(read_predictions(CLIPS), predictions)


def test_without_files_groups_folds_and_perturbations_there_are_no_such_rows(predictions: Predictions) -> None:
    plain = predictions._replace(folds=None, files=None, groups=None, perturbed=[])
    write_predictions(ANSWERS, plain)
    assert same(read_predictions(CLIPS), plain)
    assert not {"file", "group", "fold"} & set(pq.read_schema(ANSWERS).names)


def test_the_table_is_the_same_bytes_each_time(predictions: Predictions) -> None:
    write_predictions(Path("one"), predictions)
    write_predictions(Path("other"), predictions)
    assert Path("one").read_bytes() == Path("other").read_bytes()


def test_a_row_is_what_one_replicate_answers_to_one_clip(predictions: Predictions) -> None:
    write_predictions(ANSWERS, predictions)
    table = pd.read_parquet(ANSWERS)
    assert list(table) == [
        "model", "seed", "fold", "clip", "file", "group", "label", "condition", "level", "predicted",
        *(f"probability {name}" for name in NAMES),
    ]  # fmt: skip
    assert len(table) == 2 * 2 * (5 + 3 * 2)
    chosen = table.query("model == 'cnn3d' and seed == 1 and condition == 'upside_down' and clip == 4")
    [row] = chosen.to_dict("records")
    probabilities = predictions.perturbed[2].probabilities["cnn3d"][1, 1]
    assert [row[f"probability {name}"] for name in NAMES] == probabilities.tolist()
    assert (row["label"], row["fold"], row["file"], row["group"], row["level"]) == (2, 1, "ü.mp4", "y", 1.0)
    assert row["predicted"] == probabilities.argmax()
    assert table["probability still"].dtype == np.float32


def test_right_answers_are_those_that_name_the_label_under_a_condition(predictions: Predictions) -> None:
    probabilities = np.eye(3, dtype=np.float32)[[[0, 1, 2, 0, 0], [0, 2, 2, 1, 1]]]
    unchanged = predictions.unchanged._replace(probabilities={"cnn_lstm": probabilities})
    assert unchanged.predicted("cnn_lstm").tolist() == [[0, 1, 2, 0, 0], [0, 2, 2, 1, 1]]
    assert unchanged.right("cnn_lstm").tolist() == [[True, True, True, True, False], [True, False, True, False, True]]
    # The same clips as they are, where perturbed ones are compared with them.
    few = unchanged.only(np.array([1, 4]))
    assert few.clips.tolist() == [1, 4]
    assert few.labels.tolist() == [1, 1]
    assert few.right("cnn_lstm").tolist() == [[True, False], [False, True]]


def rewritten(change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(ANSWERS)), ANSWERS)


def column(table: pa.Table, name: str, values: Any) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, pa.array(values))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda: ANSWERS.write_bytes(b""), id="empty"),
        pytest.param(lambda: ANSWERS.write_bytes(ANSWERS.read_bytes()[:-100]), id="cut off"),
        pytest.param(lambda: ANSWERS.write_bytes(b"x" * 5000), id="not Parquet"),
        pytest.param(lambda: rewritten(lambda table: table.replace_schema_metadata({})), id="without metadata"),
        pytest.param(
            lambda: rewritten(lambda table: table.replace_schema_metadata({b"motionbench": b"[]"})), id="other metadata"
        ),
        pytest.param(lambda: rewritten(lambda table: table.slice(0, len(table) - 1)), id="a row is missing"),
        pytest.param(lambda: rewritten(lambda table: table.slice(0, 0)), id="no rows"),
        pytest.param(lambda: rewritten(lambda table: table.take(np.arange(len(table))[::-1])), id="another order"),
        pytest.param(lambda: rewritten(lambda table: table.drop_columns(["seed"])), id="a column is missing"),
        pytest.param(lambda: rewritten(lambda table: table.append_column("x", table["seed"])), id="another column"),
        pytest.param(
            lambda: rewritten(lambda table: column(table, "predicted", np.zeros(len(table), int))), id="other answers"
        ),
        pytest.param(lambda: rewritten(lambda table: column(table, "label", np.full(len(table), 9))), id="no class"),
        pytest.param(lambda: rewritten(lambda table: column(table, "clip", np.full(len(table), -1))), id="no clip"),
        pytest.param(
            lambda: rewritten(
                lambda table: column(table, "probability up", np.full(len(table), np.nan, dtype=np.float32))
            ),
            id="not a number",
        ),
    ],
)
def test_a_table_that_evaluate_has_not_written_is_refused_in_one_line(
    damage: Callable[[], None], predictions: Predictions
) -> None:
    write_predictions(ANSWERS, predictions)
    damage()
    with pytest.raises(UserError, match=r"^data/predictions\.parquet: not readable \(") as refused:
        read_predictions(CLIPS)
    assert str(refused.value).endswith("; make it again: dvc repro evaluate")


@pytest.mark.usefixtures("predictions")
def test_a_missing_table_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"^data/predictions\.parquet: missing; make it again: dvc repro evaluate$"):
        read_predictions(CLIPS)


def test_a_table_of_other_clips_or_models_is_refused_in_one_line(predictions: Predictions) -> None:
    write_predictions(ANSWERS, predictions)

    def refused(clips: dict[str, str] = CLIPS) -> str:
        with pytest.raises(UserError, match=r"; make it again: dvc repro evaluate$") as error:
            read_predictions(clips)
        return str(error.value)

    assert "was made with another data/test than is there now" in refused(CLIPS | {"data/test": "4"})
    assert "was made with another data/folds than" in refused(CLIPS | {"data/folds": "4"})
    read_predictions(CLIPS | {"data/train": "4"})
    other = MODELS / "cnn3d/seed-1.keras"
    other.write_text("trained again", encoding="utf-8")
    assert f"was made with another {other} than" in refused()
    other.unlink()
    assert f"was made with another {other} than" in refused()
    other.write_text("cnn3d 1", encoding="utf-8")
    read_predictions(CLIPS)
    (MODELS / "convlstm").mkdir()
    (MODELS / "convlstm/not_trained.txt").touch()
    read_predictions(CLIPS)
    (MODELS / "convlstm/seed-3.keras").touch()
    assert "was made with another models/convlstm/seed-3.keras than" in refused()
