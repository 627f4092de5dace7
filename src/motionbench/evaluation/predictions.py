"""The answers of all replicates to all held-out clips, as they are and perturbed: one table, data/predictions.parquet.

A row is what one replicate answers to one clip under one condition. With folds, each clip is answered once per seed, by
the replicate that has not seen it.
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

from motionbench.core.errors import UserError, one_line
from motionbench.core.files import file_md5s
from motionbench.core.paths import FOLDS, MODELS, PARAMS, PREDICTIONS, TEST, ReplicateKey, replicate_path
from motionbench.data.perturbations import perturbed_labels
from motionbench.data.splits import (
    AnySplit,
    SourceRecord,
    held_out_folder,
    join,
    read_clip_table,
    read_source,
    read_test,
)
from motionbench.models.registry import MODEL_NAMES
from motionbench.params.schema import PerturbationsParams

UNCHANGED = "unchanged"
PROBABILITY = "probability "  # and the class: the name of a column
KEY = b"motionbench"
ROUNDING = 1e-3  # of a sum of probabilities
REDO = "make it again: dvc repro --single-item --force evaluate"


class Condition(NamedTuple):
    """What was done to clips, and the probabilities that the models answered with."""

    name: str  # of the perturbation, or UNCHANGED
    level: float
    clips: NDArray[np.int64]  # their numbers among all held-out clips, in ascending order
    labels: NDArray[np.int64]  # the right answer to each, as it is now
    probabilities: Mapping[str, NDArray[np.float32]]  # by model, shape (seeds, clips, classes)

    def predicted(self, model: str) -> NDArray[np.int64]:
        """Return the number of the class that each answer names, shape (seeds, clips)."""
        return np.asarray(self.probabilities[model].argmax(axis=-1))

    def right(self, model: str) -> NDArray[np.bool_]:
        """Return whether each answer is right, shape (seeds, clips)."""
        return np.asarray(self.predicted(model) == self.labels)

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


def read_held_out(source: SourceRecord) -> HeldOut:
    """Open the held-out clips.

    Raises:
        UserError: if a file is missing or damaged.
    """
    folds = source.fold_numbers()
    tests = [read_test(fold) for fold in folds]
    table = read_clip_table([held_out_folder(fold) for fold in folds])
    return HeldOut(
        split=join(tests), parts=np.repeat(np.arange(len(tests)), [len(test.labels) for test in tests]),
        files=None if table is None else table["clip"].to_numpy(object),
        groups=None if table is None or table["group"].is_unique else table["group"].to_numpy(object),
    )  # fmt: skip


def made_from(clips: Mapping[str, str]) -> dict[str, str]:
    """Return the md5s of the held-out clips among those of `clips`, and of the models that are there now, by path."""
    held_out = {str(path): clips.get(str(path), "missing") for path in (TEST, FOLDS)}
    models = {path: md5 for name in MODEL_NAMES for path, md5 in file_md5s(MODELS / name).items()}
    return held_out | {path: md5 for path, md5 in models.items() if path.endswith(".keras")}


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write the table; the same predictions give the same bytes."""
    facts = {
        "class_names": predictions.class_names,
        "frames": predictions.frames,
        "perturbation_seed": predictions.perturbation_seed,
        "md5s": predictions.md5s,
        "rows": _count_rows(predictions),
    }
    table = pa.table(dict(_columns(predictions))).replace_schema_metadata({KEY: json.dumps(facts)})
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)


def read_predictions(clips: Mapping[str, str]) -> Predictions:
    """Read the table of the clips and models that are there now.

    Args:
        clips: md5s of what `generate` made, by path.

    Raises:
        UserError: if the table is missing or damaged, or is not of these clips and models; if a file of the clips is.
    """
    try:
        texts = ["model", "condition", "file", "group"]
        table = pq.read_table(PREDICTIONS, memory_map=False, read_dictionary=texts, page_checksum_verification=True)
        predictions = _from_table(table)
        _check_columns(table, predictions)
    except FileNotFoundError as error:
        raise UserError(f"{PREDICTIONS}: missing; make it: dvc repro evaluate") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, pa.ArrowException) as error:
        raise UserError(f"{PREDICTIONS}: damaged or changed ({one_line(error)}); {REDO}") from error
    now = made_from(clips)
    for path in (*predictions.md5s, *now):
        if predictions.md5s.get(path) != now.get(path):
            raise UserError(f"{PREDICTIONS}: was made with another {path} than is there now; {REDO}")
    # What it says it was made from may be true of another table: one whose rows somebody chose or changed.
    for what in _other_than_here(predictions, set(now)):
        raise UserError(f"{PREDICTIONS}: {what}; {REDO}")
    return predictions


def check_conditions(predictions: Predictions, settings: PerturbationsParams) -> None:
    """Check that a table has the perturbations of params.yaml.

    Raises:
        UserError: if it has others.
    """
    written = [(each.name, each.level) for each in predictions.perturbed], predictions.perturbation_seed
    if written != ([*settings.settings(read_source())], settings.seed):
        raise UserError(f"{PREDICTIONS}: has other perturbations than {PARAMS}; {REDO}")


def _other_than_here(predictions: Predictions, paths: set[str]) -> Iterator[str]:
    """Yield what a table has that the clips and models which are there now do not have.

    Args:
        paths: of the clips and models.
    """
    source = read_source()
    here = read_held_out(source)
    values: dict[str, tuple[Any, Any]] = {
        "list of classes": (predictions.class_names, here.split.class_names),
        "number of frames": (predictions.frames, here.split.clips.shape[1]),
        "label": (predictions.labels, here.split.labels),
        "fold": (predictions.folds, here.parts if source.folds else None),
        "file": (predictions.files, here.files),
        "group": (predictions.groups, here.groups),
    }
    for name, (written, now) in values.items():
        if not np.array_equal(written, now):
            yield f"has another {name} than the clips that are there now"
    for name, _, clips, labels, _ in predictions.perturbed:
        try:
            now = perturbed_labels(here.split.labels[clips], here.split.class_names, name, source)
        except KeyError:
            yield f"has a perturbation that these clips cannot have: {name}"
        else:
            if not np.array_equal(labels, now):
                yield f"has another label of {name} than the clips that are there now"
    keys = [ReplicateKey(seed, fold) for seed in predictions.seeds for fold in source.fold_numbers()]
    answered = {replicate_path(MODELS / name, key).as_posix() for name in predictions.models for key in keys}
    if others := sorted(answered ^ {path for path in paths if path.endswith(".keras")}):
        yield f"has other models than are there now: {others[0]}"


def _count_rows(predictions: Predictions) -> int:
    conditions = (predictions.unchanged, *predictions.perturbed)
    return len(predictions.models) * len(predictions.seeds) * sum(len(each.clips) for each in conditions)


def _columns(predictions: Predictions) -> Iterator[tuple[str, pa.Array]]:
    """Yield the columns of the table, whose rows are by model, condition, seed and clip."""
    conditions = (predictions.unchanged, *predictions.perturbed)
    models, seeds = predictions.models, predictions.seeds
    sizes = [len(each.clips) for each in conditions]
    rows = sum(sizes) * len(seeds)  # of a model

    def of_clips(values: Sequence[NDArray[Any]]) -> NDArray[Any]:
        return np.tile(np.concatenate([np.tile(each, len(seeds)) for each in values]), len(models))

    clips = of_clips([each.clips for each in conditions])
    yield "model", pa.array(np.repeat(np.array(models, object), rows), pa.string())
    yield "seed", pa.array(np.tile(np.concatenate([np.repeat(seeds, size) for size in sizes]), len(models)))
    if predictions.folds is not None:
        yield "fold", pa.array(predictions.folds[clips])
    yield "clip", pa.array(clips)
    for name, values in (("file", predictions.files), ("group", predictions.groups)):
        if values is not None:
            yield name, pa.array(values[clips], pa.string())
    yield "label", pa.array(of_clips([each.labels for each in conditions]))
    for name in ("name", "level"):
        of_each = [np.repeat(np.array([getattr(each, name)]), len(each.clips)) for each in conditions]
        yield {"name": "condition"}.get(name, name), pa.array(of_clips(of_each))
    blocks = [(each, name) for name in models for each in conditions]
    yield "predicted", pa.array(np.concatenate([each.predicted(name).ravel() for each, name in blocks]))
    for number, name in enumerate(predictions.class_names):
        column = np.concatenate([each.probabilities[model][..., number].ravel() for each, model in blocks])
        yield f"{PROBABILITY}{name}", pa.array(column)


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


def _from_table(table: pa.Table) -> Predictions:
    """Return what a table says. If `write_predictions` has not written it, that may be anything."""
    if KEY not in (table.schema.metadata or {}):
        raise ValueError("evaluate has not written it")
    facts = json.loads(table.schema.metadata[KEY])
    names, models = tuple(map(str, facts["class_names"])), table["model"].unique().to_pylist()
    first = table.slice(0, len(table) // len(models))
    seeds = tuple(first["seed"].unique().to_pylist())
    columns = [table[f"{PROBABILITY}{name}"].to_numpy() for name in names]
    probabilities = np.stack(columns, axis=-1).reshape(len(models), len(first), len(names))
    if not np.isfinite(probabilities).all():
        raise ValueError("a probability is not a number")
    if probabilities.min() < 0 or np.abs(probabilities.sum(axis=-1) - 1).max() > ROUNDING:
        raise ValueError("probabilities that are below 0, or whose sum is not 1")
    if len(table) != facts["rows"]:
        raise ValueError(f"{len(table)} rows, not {facts['rows']}")
    conditions, start = [], 0
    keys = Counter(zip(first["condition"].to_pylist(), first["level"].to_pylist(), strict=True))
    for (name, level), rows in keys.items():
        block, size = first.slice(start, rows), rows // len(seeds)
        shape = (len(models), len(seeds), size, len(names))
        answers = probabilities[:, start : start + rows].reshape(shape)
        clips, labels = (block[column].to_numpy()[:size] for column in ("clip", "label"))
        if labels.dtype != np.int64 or clips.dtype != np.int64:
            raise ValueError("numbers of clips or classes that are not whole")
        if labels.min() < 0 or labels.max() >= len(names) or clips.min() < 0 or (np.diff(clips) < 1).any():
            raise ValueError("numbers of clips or classes that cannot be")
        conditions.append(Condition(name, level, clips, labels, dict(zip(models, answers, strict=True))))
        start += rows
    unchanged, *perturbed = conditions
    clips = len(unchanged.clips)
    if (
        (unchanged.name, unchanged.level) != (UNCHANGED, 0)
        or clips != unchanged.clips[-1] + 1
        or any(each.clips[-1] >= clips for each in perturbed)
    ):
        raise ValueError("not all clips as they are")
    folds, files, groups = (
        first[name].to_numpy()[:clips] if name in table.column_names else None for name in ("fold", "file", "group")
    )
    return Predictions(
        class_names=names, frames=int(facts["frames"]), seeds=seeds,
        perturbation_seed=int(facts["perturbation_seed"]), folds=folds, files=files, groups=groups,
        unchanged=unchanged, perturbed=perturbed, md5s=dict(facts["md5s"]),
    )  # fmt: skip
