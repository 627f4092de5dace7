"""The table of predictions: written and read, and what it says where it cannot be used."""

import csv
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from motionbench.core.errors import UserError
from motionbench.core.files import write_json
from motionbench.core.paths import DATASET_INFO, MODELS, PREDICTIONS, TEST, ReplicateKey, part_path, replicate_path
from motionbench.data.splits import ClipRecord
from motionbench.evaluation.predictions import (
    KEY,
    UNCHANGED,
    Condition,
    Predictions,
    check_predictions,
    made_from,
    read_predictions,
    write_predictions,
)
from tests.conftest import DRAWN_DATASET

CLIPS = {"data/train": "1", "data/test": "2", "data/folds": "3"}
LABELS = np.array([0, 1, 2, 0, 1])
KEYS = [ReplicateKey(seed, fold) for seed in (3, 1) for fold in (0, 1)]
NAMES = ("still", "up", "up and down")
CONDITIONS = [("speed", 0.5), ("speed", 2.0), ("upside_down", 1.0)]


def random_probabilities(clips: int, seed: int) -> np.ndarray:
    """Probabilities of two replicates."""
    return np.random.default_rng(seed).dirichlet(np.ones(3), (2, clips)).astype(np.float32)


def condition(name: str, level: float, clips: list[int], labels: list[int], seed: int) -> Condition:
    probabilities = {
        model: random_probabilities(len(clips), seed + number) for number, model in enumerate(("cnn_lstm", "cnn3d"))
    }
    return Condition(name, level, np.array(clips), np.array(labels), probabilities)


def write_part(folder: Path, labels: np.ndarray) -> None:
    folder.mkdir(parents=True)
    np.save(folder / "clips.npy", np.zeros((len(labels), 20, 2, 2, 1), np.uint8))
    np.save(folder / "labels.npy", labels)
    write_json(folder / "class_names.json", NAMES)


@pytest.fixture
def predictions(working_directory: Path) -> Predictions:
    """Those of two models, which are there, as the clips are; nothing is written yet."""
    for name in ("cnn_lstm", "cnn3d"):
        (working_directory / MODELS / name).mkdir(parents=True)
        for key in KEYS:
            replicate_path(MODELS / name, key).write_text(f"{name} {key}", encoding="utf-8")
    files = np.array(["a.mp4", "b\n.mp4", "c.mp4", "d.mp4", "ü.mp4"], object)
    groups = np.array(["x", "x", "", "y", "y"], object)
    for part, clips in enumerate((slice(3), slice(3, 5))):
        write_part(part_path(part), LABELS[clips])
        with (part_path(part) / "clips.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(ClipRecord.model_fields)
            rows = zip(files[clips], groups[clips], strict=True)
            writer.writerows([*row, 20, 1, 20, 8, 8, False, False] for row in rows)
    maps = {"flipped": {"up": "up and down", "up and down": "up"}}
    write_json(DATASET_INFO, {**DRAWN_DATASET.model_dump(), "source": "folder", "folds": 2, "label_maps": maps})
    return Predictions(
        class_names=NAMES,
        frames=20,
        seeds=(3, 1),
        perturbation_seed=7,
        folds=np.array([0, 0, 0, 1, 1]),
        files=files,
        groups=groups,
        unchanged=condition(UNCHANGED, 0.0, [0, 1, 2, 3, 4], LABELS.tolist(), 0),
        perturbed=[
            condition("speed", 0.5, [1, 3], [1, 0], 10),
            condition("speed", 2.0, [1, 3], [1, 0], 20),
            condition("upside_down", 1.0, [0, 4], [0, 2], 30),
        ],
        md5s=made_from(CLIPS),
    )


def read(clips: dict[str, str] = CLIPS, conditions: Sequence[tuple[str, float]] = CONDITIONS) -> Predictions:
    """Read and check the table, where these are the perturbations of params.yaml."""
    settings: Any = SimpleNamespace(seed=7, settings=lambda _source: conditions)
    predictions = read_predictions()
    check_predictions(predictions, clips, settings)
    return predictions


def test_what_is_written_is_read(predictions: Predictions) -> None:
    write_predictions(PREDICTIONS, predictions)
    write_predictions(Path("again"), read())
    assert Path("again").read_bytes() == PREDICTIONS.read_bytes()


def test_without_files_groups_folds_and_perturbations_there_are_no_such_rows(predictions: Predictions) -> None:
    write_part(TEST, LABELS)
    write_json(DATASET_INFO, DRAWN_DATASET.model_dump())
    for path in list(MODELS.glob("*/fold-*.keras")):
        path.rename(path.with_name(path.name.split("-", 2)[2]))  # without the fold
    plain = predictions._replace(folds=None, files=None, groups=None, perturbed=[], md5s=made_from(CLIPS))
    write_predictions(PREDICTIONS, plain)
    assert (read(conditions=[]).files, read(conditions=[]).perturbed) == (None, [])
    assert not {"file", "group", "fold"} & set(pq.read_schema(PREDICTIONS).names)


def test_a_row_is_what_one_replicate_predicts_of_one_clip(predictions: Predictions) -> None:
    write_predictions(PREDICTIONS, predictions)
    table = pd.read_parquet(PREDICTIONS)
    assert list(table) == [
        "model", "seed", "fold", "clip", "file", "group", "label", "condition", "level", "predicted",
        *(f"probability {name}" for name in NAMES),
    ]  # fmt: skip # what belongs together on one line
    assert len(table) == 2 * 2 * (5 + 3 * 2)
    chosen = table.query("model == 'cnn3d' and seed == 1 and condition == 'upside_down' and clip == 4")
    [row] = chosen.to_dict("records")
    probabilities = predictions.perturbed[2].probabilities["cnn3d"][1, 1]
    assert [row[f"probability {name}"] for name in NAMES] == probabilities.tolist()
    assert (row["label"], row["fold"], row["file"], row["group"], row["level"]) == (2, 1, "ü.mp4", "y", 1.0)
    assert row["predicted"] == probabilities.argmax()
    assert table["probability still"].dtype == np.float32


def test_right_predictions_are_those_of_the_label_under_a_condition(predictions: Predictions) -> None:
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
    pq.write_table(change(pq.read_table(PREDICTIONS)), PREDICTIONS)


def retyped(name: str, kind: str) -> None:
    rewritten(lambda table: table.set_column(table.column_names.index(name), name, table[name].cast(kind)))


def flipped(content: bytes) -> bytes:
    """Flip a bit of the last column that changes a probability so little that only the checksums tell."""
    metadata = pq.ParquetFile(PREDICTIONS).metadata.row_group(0)
    last = metadata.column(metadata.num_columns - 1)
    values = pq.read_table(PREDICTIONS)[last.path_in_schema].to_numpy()
    first = last.dictionary_page_offset or last.data_page_offset
    for place in range(first, first + last.total_compressed_size):
        changed = bytearray(content)
        changed[place] ^= 1
        with suppress(OSError, pa.ArrowException):
            others = pq.read_table(pa.BufferReader(bytes(changed)))[last.path_in_schema].to_numpy()
            if 0 < np.abs(others - values).max() < 1e-4:
                return bytes(changed)
    raise AssertionError("no such bit")


def column(table: pa.Table, name: str, values: Any) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, pa.array(values))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda: PREDICTIONS.write_bytes(PREDICTIONS.read_bytes()[:-100]), id="cut off"),
        pytest.param(lambda: rewritten(lambda table: table.replace_schema_metadata({})), id="without metadata"),
        pytest.param(
            lambda: rewritten(lambda table: table.replace_schema_metadata({b"motionbench": b"[]"})), id="other metadata"
        ),
        pytest.param(lambda: rewritten(lambda table: table.slice(0, 0)), id="no rows"),
        pytest.param(lambda: rewritten(lambda table: table.take(np.arange(len(table))[::-1])), id="another order"),
        pytest.param(lambda: rewritten(lambda table: table.drop_columns(["seed"])), id="a column is missing"),
        pytest.param(lambda: rewritten(lambda table: table.append_column("x", table["seed"])), id="another column"),
        pytest.param(
            lambda: rewritten(lambda table: column(table, "predicted", np.zeros(len(table), int))),
            id="others predicted",
        ),
        *(
            pytest.param(partial(retyped, name, kind), id=f"{name} as {kind}")
            for name, kind in (("label", "float64"), ("clip", "float64"), ("level", "string"), ("seed", "int32"))
        ),
        pytest.param(lambda: PREDICTIONS.write_bytes(flipped(PREDICTIONS.read_bytes())), id="a bit flipped"),
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
    write_predictions(PREDICTIONS, predictions)
    damage()
    with pytest.raises(UserError, match=r"^data/predictions\.parquet: damaged or changed \(") as refused:
        read()
    assert str(refused.value).endswith("; make it again: dvc repro --single-item --force evaluate")


@pytest.mark.usefixtures("predictions")
def test_a_missing_table_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"^data/predictions\.parquet: missing; make it: dvc repro evaluate$"):
        read()


def scaled(table: pa.Table) -> pa.Table:
    for name in NAMES:
        table = column(table, f"probability {name}", table[f"probability {name}"].to_numpy() * 7 - 2)
    return table


def facts(**changes: Any) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        return table.replace_schema_metadata({KEY: json.dumps(json.loads(table.schema.metadata[KEY]) | changes)})

    return change


def other_labels(table: pa.Table, condition: str = "") -> pa.Table:
    chosen = [condition in name for name in table["condition"].to_pylist()]
    return column(table, "label", np.where(chosen, (table["label"].to_numpy() + 1) % 3, table["label"].to_numpy()))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda table: table.filter(pc.less(table["clip"], 4)), "rows, not", id="a clip is missing"),
        pytest.param(scaled, "below 0 or not numbers, or whose sum is not 1", id="not probabilities"),
        pytest.param(other_labels, "another label than", id="other labels"),
        pytest.param(lambda table: column(table, "label", np.full(len(table), 9)), "another label than", id="no class"),
        pytest.param(partial(other_labels, condition="up"), "another label of upside_down", id="other labels of some"),
        pytest.param(facts(perturbation_seed=8), "other perturbations than params.yaml; ", id="another seed of them"),
        pytest.param(facts(frames=99), "another number of frames than", id="other frames"),
        pytest.param(lambda table: column(table, "fold", np.zeros(len(table), int)), "another fold", id="other folds"),
        pytest.param(
            lambda table: column(table, "group", pa.array(["z"] * len(table))), "another group", id="other groups"
        ),
        pytest.param(lambda table: column(table, "file", table["group"]), "another file", id="other files"),
        pytest.param(
            lambda table: column(table, "seed", table["seed"].to_numpy() + 1),
            "other models than are there now: models/cnn3d/fold-0-seed-1.keras", id="other seeds",
        ),
        pytest.param(
            lambda table: column(table, "model", pc.replace_substring(table["model"].cast("string"), "3d", "9d")),
            "other models than are there now: models/cnn3d/fold-0-seed-1.keras", id="other models",
        ),
        pytest.param(
            lambda table: column(
                table, "condition", pc.replace_substring(table["condition"].cast("string"), "speed", "backwards")
            ),
            "has other perturbations than params.yaml; ", id="other perturbations",
        ),
    ],
)  # fmt: skip # what belongs together on one line
def test_a_table_of_which_something_was_left_out_or_changed_is_refused_in_one_line(
    change: Callable[[pa.Table], pa.Table], said: str, predictions: Predictions
) -> None:
    write_predictions(PREDICTIONS, predictions)
    rewritten(change)
    with pytest.raises(UserError, match=r"^data/predictions\.parquet: .*evaluate$") as refused:
        read()
    assert said in str(refused.value)


def test_a_table_without_some_of_the_clips_and_models_or_in_another_order_is_refused(predictions: Predictions) -> None:
    def refused(**changes: Any) -> str:
        write_predictions(PREDICTIONS, predictions._replace(**changes))
        with pytest.raises(UserError, match=r"^data/predictions\.parquet: .*evaluate$") as error:
            read()
        return str(error.value)

    unchanged, perturbed = predictions.unchanged, predictions.perturbed
    assert "another label than" in refused(unchanged=unchanged.only(np.arange(3)), perturbed=[])
    assert "not all clips as they are" in refused(perturbed=[each.only(each.clips[::-1]) for each in perturbed])

    def without(each: Condition, model: int, seed: int) -> Condition:
        kept = list(each.probabilities.items())[:model]
        return each._replace(probabilities={name: values[:seed] for name, values in kept})

    fewer = {"unchanged": without(unchanged, 1, 2), "perturbed": [without(each, 1, 2) for each in perturbed]}
    assert "other models than are there now: models/cnn3d/fold-0-seed-1.keras" in refused(**fewer)
    fewer = {"unchanged": without(unchanged, 2, 1), "perturbed": [without(each, 2, 1) for each in perturbed]}
    assert "other models than are there now: models/cnn3d/fold-0-seed-1.keras" in refused(**fewer, seeds=(3,))


def test_a_table_of_other_clips_or_models_is_refused_in_one_line(predictions: Predictions) -> None:
    write_predictions(PREDICTIONS, predictions)

    def refused(clips: dict[str, str] = CLIPS) -> str:
        with pytest.raises(UserError, match=r"; make it again: dvc repro --single-item --force evaluate$") as error:
            read(clips)
        return str(error.value)

    assert "was made with another data/test than is there now" in refused(CLIPS | {"data/test": "4"})
    assert "was made with another data/folds than" in refused(CLIPS | {"data/folds": "4"})
    read(CLIPS | {"data/train": "4"})
    other = MODELS / "cnn3d/fold-0-seed-1.keras"
    other.write_text("trained again", encoding="utf-8")
    assert f"was made with another {other} than" in refused()
    other.unlink()
    assert f"was made with another {other} than" in refused()
    other.write_text("cnn3d fold 0 seed 1", encoding="utf-8")
    read()
    (MODELS / "convlstm").mkdir()
    (MODELS / "convlstm/not_trained.txt").touch()
    read()
    (MODELS / "convlstm/seed-3.keras").touch()
    assert "was made with another models/convlstm/seed-3.keras than" in refused()
