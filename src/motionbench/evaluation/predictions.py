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
from motionbench.core.paths import ANSWERS, FOLDS, MODELS, TEST
from motionbench.models.registry import MODEL_NAMES

UNCHANGED = "unchanged"
PROBABILITY = "probability "  # and the class: the name of a column
KEY = b"motionbench"
REDO = "make it again: dvc repro evaluate"


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
    }
    table = pa.table(dict(_columns(predictions))).replace_schema_metadata({KEY: json.dumps(facts)})
    pq.write_table(table, path, compression="zstd")


def read_predictions(clips: Mapping[str, str]) -> Predictions:
    """Read the table of the clips and models that are there now.

    Args:
        clips: md5s of what `generate` made, by path.

    Raises:
        UserError: if the table is missing or damaged, or was made from other clips or models.
    """
    try:
        table = pq.read_table(ANSWERS, memory_map=False, read_dictionary=["model", "condition", "file", "group"])
        predictions = _from_table(table)
        _check_columns(table, predictions)
    except FileNotFoundError as error:
        raise UserError(f"{ANSWERS}: missing; {REDO}") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, pa.ArrowException) as error:
        raise UserError(f"{ANSWERS}: not readable ({one_line(error)}); {REDO}") from error
    now = made_from(clips)
    for path in (*predictions.md5s, *now):
        if predictions.md5s.get(path) != now.get(path):
            raise UserError(f"{ANSWERS}: was made with another {path} than is there now; {REDO}")
    return predictions


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
        if not table[name].cast(column.type).equals(pa.chunked_array([column])):
            raise ValueError(f"column {name}: not as evaluate writes it")
        names.append(name)
    if names != table.column_names:
        raise ValueError(f"columns {', '.join(table.column_names)}: not as evaluate writes them")


def _from_table(table: pa.Table) -> Predictions:
    """Return what a table says. If `write_predictions` has not written it, that may be anything."""
    facts = json.loads((table.schema.metadata or {})[KEY])
    names, models = tuple(map(str, facts["class_names"])), table["model"].unique().to_pylist()
    first = table.slice(0, len(table) // len(models))
    seeds = tuple(first["seed"].unique().to_pylist())
    columns = [table[f"{PROBABILITY}{name}"].to_numpy() for name in names]
    probabilities = np.stack(columns, axis=-1).reshape(len(models), len(first), len(names))
    if not np.isfinite(probabilities).all():
        raise ValueError("a probability is not a number")
    conditions, start = [], 0
    keys = Counter(zip(first["condition"].to_pylist(), first["level"].to_pylist(), strict=True))
    for (name, level), rows in keys.items():
        block, size = first.slice(start, rows), rows // len(seeds)
        shape = (len(models), len(seeds), size, len(names))
        answers = probabilities[:, start : start + rows].reshape(shape)
        clips, labels = (block[column].to_numpy()[:size] for column in ("clip", "label"))
        if labels.min() < 0 or labels.max() >= len(names) or clips.min() < 0 or (np.diff(clips) < 1).any():
            raise ValueError("numbers of clips or classes that cannot be")
        conditions.append(Condition(name, level, clips, labels, dict(zip(models, answers, strict=True))))
        start += rows
    unchanged, *perturbed = conditions
    clips = len(unchanged.clips)
    if unchanged.name != UNCHANGED or clips != unchanged.clips[-1] + 1:
        raise ValueError("not all clips as they are")
    folds, files, groups = (
        first[name].to_numpy()[:clips] if name in table.column_names else None for name in ("fold", "file", "group")
    )
    return Predictions(
        class_names=names, frames=int(facts["frames"]), seeds=seeds,
        perturbation_seed=int(facts["perturbation_seed"]), folds=folds, files=files, groups=groups,
        unchanged=unchanged, perturbed=perturbed, md5s=dict(facts["md5s"]),
    )  # fmt: skip
