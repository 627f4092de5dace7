"""The predictions of all replicates of all held-out clips, as they are and perturbed: data/predictions.parquet.

A row is what one replicate predicts of one clip under one condition. With folds, each clip is predicted once per seed,
by the replicate that has not seen it.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from motionbench.core.dvc_files import run_again
from motionbench.core.errors import UserError, one_line
from motionbench.core.files import file_md5s
from motionbench.core.paths import FOLDS, MODELS, PARAMS, PREDICTIONS, TEST, ReplicateKey, replicate_path
from motionbench.data.folds import AnySplit, held_out_folder, join, read_test
from motionbench.data.perturbations import perturbed_labels
from motionbench.data.splits import DatasetInfo, read_clip_table, read_dataset_info
from motionbench.models.registry import MODEL_NAMES
from motionbench.params.schema import PerturbationsParams

UNCHANGED = "unchanged"
PROBABILITY = "probability "  # and the class: the name of a column
KEY = b"motionbench"
ROUNDING = 1e-3  # of a sum of probabilities
REDO = f"make it again: {run_again('evaluate')}"


class Condition(NamedTuple):
    """What was done to clips, and the models' predictions of them."""

    name: str  # of the perturbation, or UNCHANGED
    level: float
    clips: NDArray[np.int64]  # their numbers among all held-out clips, in ascending order
    labels: NDArray[np.int64]  # the class of each, as it is now
    probabilities: dict[str, NDArray[np.float32]]  # by model, shape (seeds, clips, classes)

    def predicted(self, model: str) -> NDArray[np.int64]:
        """Return the class that is predicted, shape (seeds, clips)."""
        return np.asarray(self.probabilities[model].argmax(axis=-1))

    def right(self, model: str) -> NDArray[np.bool_]:
        """Return whether each prediction is right, shape (seeds, clips)."""
        return np.asarray(self.probabilities[model].argmax(axis=-1) == self.labels)

    def only(self, clips: NDArray[np.int64]) -> "Condition":
        """Return the same of some of the clips."""
        places = np.searchsorted(self.clips, clips)
        probabilities = {name: each[:, places] for name, each in self.probabilities.items()}
        return self._replace(clips=clips, labels=self.labels[places], probabilities=probabilities)


class Predictions(NamedTuple):
    """The whole table."""

    class_names: tuple[str, ...]
    frames: int  # of a clip
    seeds: tuple[int, ...]
    perturbation_seed: int
    folds: NDArray[np.int64] | None  # in which each clip was held out, shape (clips,)
    files: NDArray[Any] | None  # that clips were made from; None: they are drawn
    groups: NDArray[Any] | None  # the name of each clip's group; None: each clip is a group of its own
    unchanged: Condition
    perturbed: list[Condition]
    md5s: dict[str, str]  # of the clips and models behind it, by path

    @property
    def labels(self) -> NDArray[np.int64]:
        """Return the class of each clip, shape (clips,)."""
        return self.unchanged.labels

    @property
    def models(self) -> list[str]:
        """Return the names of the models."""
        return list(self.unchanged.probabilities)


class HeldOut(NamedTuple):
    """The held-out clips that are there now."""

    split: AnySplit
    parts: NDArray[np.int64]  # the number of each clip's part, shape (clips,)
    files: NDArray[Any] | None  # as in `Predictions`
    groups: NDArray[Any] | None


def read_held_out(dataset: DatasetInfo) -> HeldOut:
    """Open the held-out clips.

    Raises:
        UserError: if a file is missing or damaged.
    """
    folds = dataset.fold_numbers()
    tests = [read_test(fold) for fold in folds]
    table = read_clip_table([held_out_folder(fold) for fold in folds])
    return HeldOut(
        split=join(tests), parts=np.repeat(np.arange(len(tests)), [len(test.labels) for test in tests]),
        files=None if table is None else table["clip"].to_numpy(object),
        groups=None if table is None or table["group"].is_unique else table["group"].to_numpy(object),
    )  # fmt: skip # what belongs together on one line


def made_from(clips: Mapping[str, str]) -> dict[str, str]:
    """Return the md5s of the held-out clips among those of `clips`, and of the models that are there now, by path."""
    held_out = {str(path): clips.get(str(path), "missing") for path in (TEST, FOLDS)}
    models = {path: md5 for name in MODEL_NAMES for path, md5 in file_md5s(MODELS / name).items()}
    return held_out | {path: md5 for path, md5 in models.items() if path.endswith(".keras")}


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write the table; the same predictions give the same bytes."""
    table = pa.table(dict(_columns(predictions)))
    facts = {
        "class_names": predictions.class_names,
        "frames": predictions.frames,
        "perturbation_seed": predictions.perturbation_seed,
        "md5s": predictions.md5s,
        "rows": len(table),
    }
    table = table.replace_schema_metadata({KEY: json.dumps(facts)})
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)


def _columns(predictions: Predictions) -> Iterator[tuple[str, pa.Array]]:
    """Yield the columns of the table, whose rows are by model, condition, seed and clip."""
    blocks = [
        (model, number, condition)
        for model in predictions.models
        for condition in (predictions.unchanged, *predictions.perturbed)
        for number in range(len(predictions.seeds))
    ]
    clips = np.concatenate([condition.clips for _, _, condition in blocks])

    def of_blocks(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
        """Return a column of a value for each block."""
        sizes = [len(condition.clips) for _, _, condition in blocks]
        return pa.array(np.repeat(np.array(values, kind.to_pandas_dtype()), sizes), kind)

    yield "model", of_blocks([model for model, _, _ in blocks], pa.string())
    yield "seed", of_blocks([predictions.seeds[number] for _, number, _ in blocks], pa.int64())
    if predictions.folds is not None:
        yield "fold", pa.array(predictions.folds[clips], pa.int64())
    yield "clip", pa.array(clips, pa.int64())
    for name, texts in (("file", predictions.files), ("group", predictions.groups)):
        if texts is not None:
            yield name, pa.array(texts[clips], pa.string())
    yield "label", pa.array(np.concatenate([condition.labels for _, _, condition in blocks]), pa.int64())
    yield "condition", of_blocks([condition.name for _, _, condition in blocks], pa.string())
    yield "level", of_blocks([condition.level for _, _, condition in blocks], pa.float64())
    yield "predicted", pa.array(np.concatenate([each.predicted(model)[number] for model, number, each in blocks]))
    for place, name in enumerate(predictions.class_names):
        parts = [each.probabilities[model][number, :, place] for model, number, each in blocks]
        yield f"{PROBABILITY}{name}", pa.array(np.concatenate(parts), pa.float32())


def read_predictions() -> Predictions:
    """Read the table.

    Raises:
        UserError: if it is missing or damaged, or if `write_predictions` has not written it.
    """
    try:
        texts = ["model", "condition", "file", "group"]
        table = pq.read_table(PREDICTIONS, memory_map=False, read_dictionary=texts, page_checksum_verification=True)
        facts = json.loads(table.schema.metadata[KEY])
        if len(table) != facts["rows"]:
            raise ValueError(f"{len(table)} rows, not {facts['rows']}")
        names, models = tuple(map(str, facts["class_names"])), table["model"].unique().to_pylist()
        columns = [table[f"{PROBABILITY}{name}"].to_numpy() for name in names]
        probabilities = np.stack(columns, axis=-1).reshape(len(models), -1, len(names))
        if not (probabilities.min() >= 0 and np.abs(probabilities.sum(axis=-1) - 1).max() <= ROUNDING):
            raise ValueError("probabilities that are below 0 or not numbers, or whose sum is not 1")
        first = table.slice(0, len(table) // len(models))
        seeds = tuple(first["seed"].unique().to_pylist())
        conditions, start = [], 0
        keys = Counter(zip(first["condition"].to_pylist(), first["level"].to_pylist(), strict=True))
        for (name, level), rows in keys.items():
            size = rows // len(seeds)
            of_models = probabilities[:, start : start + rows].reshape(len(models), len(seeds), size, len(names))
            clips, labels = (first[column].to_numpy()[start : start + size] for column in ("clip", "label"))
            conditions.append(Condition(name, level, clips, labels, dict(zip(models, of_models, strict=True))))
            start += rows
        unchanged, *perturbed = conditions
        numbers = np.arange(len(unchanged.clips))
        ascending = all((np.diff(each.clips) > 0).all() and np.isin(each.clips, numbers).all() for each in conditions)
        if unchanged[:2] != (UNCHANGED, 0) or not ascending:
            raise ValueError("not all clips as they are")
        folds, files, groups = (
            first[name].to_numpy()[: len(numbers)] if name in table.column_names else None
            for name in ("fold", "file", "group")
        )
        predictions = Predictions(
            names, int(facts["frames"]), seeds, int(facts["perturbation_seed"]), folds, files, groups, unchanged,
            perturbed, dict(facts["md5s"]),
        )  # fmt: skip # in the order of its fields
        _check_columns(table, predictions)
    except FileNotFoundError as error:
        raise UserError(f"{PREDICTIONS}: missing; make it: dvc repro evaluate") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, pa.ArrowException) as error:
        raise UserError(f"{PREDICTIONS}: damaged or changed ({one_line(error)}); {REDO}") from error
    return predictions


def _check_columns(table: pa.Table, predictions: Predictions) -> None:
    """Check that a table is the one of `predictions`, column by column: whole tables take twice the memory."""
    names = []
    for name, column in _columns(predictions):
        found = table[name].cast(column.type) if pa.types.is_dictionary(table[name].type) else table[name]
        if not found.equals(pa.chunked_array([column])):
            raise ValueError(f"column {name}: not as evaluate writes it")
        names.append(name)
    if names != table.column_names:
        raise ValueError(f"columns {', '.join(table.column_names)}: not as evaluate writes them")


def check_predictions(predictions: Predictions, clips: Mapping[str, str], settings: PerturbationsParams) -> None:
    """Check that predictions are those of the models that are there now, of the clips and perturbations.

    Args:
        clips: md5s of what `generate` made, by path.
        settings: of the perturbations, from params.yaml.

    Raises:
        UserError: if they are not, or if a file of the clips is missing or damaged.
    """
    for what in _other_than_now(predictions, made_from(clips), settings):
        raise UserError(f"{PREDICTIONS}: {what}; {REDO}")


def _other_than_now(predictions: Predictions, md5s: Mapping[str, str], settings: PerturbationsParams) -> Iterator[str]:
    """Yield what predictions have that the clips, models and parameters which are there now do not have."""
    for path in (*predictions.md5s, *md5s):
        if predictions.md5s.get(path) != md5s.get(path):
            yield f"was made with another {path} than is there now"
    # What it says it was made from may be true of another table: one whose rows somebody chose or changed.
    dataset = read_dataset_info()
    here = read_held_out(dataset)
    values: dict[str, tuple[Any, Any]] = {
        "list of classes": (predictions.class_names, here.split.class_names),
        "number of frames": (predictions.frames, here.split.clips.shape[1]),
        "label": (predictions.labels, here.split.labels),
        "fold": (predictions.folds, here.parts if dataset.folds else None),
        "file": (predictions.files, here.files),
        "group": (predictions.groups, here.groups),
    }
    for name, (written, now) in values.items():
        if not np.array_equal(written, now):
            yield f"has another {name} than the clips that are there now"
    keys = [ReplicateKey(seed, fold) for seed in predictions.seeds for fold in dataset.fold_numbers()]
    predicting = {replicate_path(MODELS / name, key).as_posix() for name in predictions.models for key in keys}
    if others := sorted(predicting ^ {path for path in md5s if path.endswith(".keras")}):
        yield f"has other models than are there now: {others[0]}"
    conditions = [(each.name, each.level) for each in predictions.perturbed]
    if (conditions, predictions.perturbation_seed) != ([*settings.settings(dataset)], settings.seed):
        yield f"has other perturbations than {PARAMS}"
    for name, _, clips, labels, _ in predictions.perturbed:
        if not np.array_equal(
            labels, perturbed_labels(here.split.labels[clips], here.split.class_names, name, dataset)
        ):
            yield f"has another label of {name} than the clips that are there now"
