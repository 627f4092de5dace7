"""MLflow's store: opened, searched, written to in batches."""

import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import mlflow
import sqlalchemy
from filelock import FileLock
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH, MAX_TAG_VAL_LENGTH
from sqlalchemy.exc import SQLAlchemyError

from motionbench.core.commands import deferred_interrupts
from motionbench.core.errors import UserError, one_line
from motionbench.core.paths import repository_root
from motionbench.core.processes import describe_environment, git, is_gone, this_process
from motionbench.tracking.address import (
    EXPERIMENT,
    artifacts_folder,
    is_on_a_server,
    sqlite_file,
    store_name,
    store_uri,
)
from motionbench.tracking.errors import ClosedError, RefusedError, StoreError, explain, store_errors

WAIT_LIMITS = {
    # MLflow's defaults retry for minutes.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "PGCONNECT_TIMEOUT": "5",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Environment variables, times in seconds; those that are set already stay."""
Texts = Mapping[str, str]
NOTHING: Texts = MappingProxyType({})
BATCH = 100  # parameters, metrics or tags that a server accepts at once
Result = TypeVar("Result")


class BestEffort:
    """Calls to a store that may fail: after the first failure calls are skipped, and each kind is reported once."""

    def __init__(self) -> None:
        self._reported: set[type[UserError]] = set()

    def __call__(self, call: Callable[[], Result], *, at_end: bool = False) -> Result | None:
        """Return what `call` returns; None if the store fails or, without `at_end`, failed before.

        Raises:
            UserError: if there can be no store at this address. With `at_end`, when the work is done, this is reported.
        """
        if self._reported and not at_end:
            return None
        try:
            with deferred_interrupts(), store_errors():
                return call()
        except UserError as error:
            if not (at_end or isinstance(error, StoreError)):
                raise
            if type(error) not in self._reported:
                print(
                    f"warning: {error}; work goes on; what it misses is logged at the end, or by: make mlflow-sync",
                    file=sys.stderr,
                    flush=True,
                )
            self._reported.add(type(error))
            return None


best_effort = BestEffort()


def find_runs(tags: Mapping[str, str]) -> list[Run]:
    """Return the runs with these tags, newest first.

    Raises:
        UserError: if there is no store, or it fails.
    """
    file = sqlite_file(store_uri())
    if file and not file.exists():
        raise UserError(f"no store at {store_name()}; to fill one from the files: make mlflow-sync")
    with store_errors():
        return search_runs(open_store(), tags)


def current_milliseconds() -> int:
    """Return the time in milliseconds since 1970."""
    return int(time.time() * 1000)


def open_store() -> str:
    """Connect MLflow to the store and return the experiment's id; the experiment is created if it is new.

    Raises:
        StoreError: if the store fails.
        UserError: if there can be no store at this address.
    """
    uri = store_uri()
    for name, value in WAIT_LIMITS.items():
        os.environ.setdefault(name, value)
    # These log each retry; `BestEffort` reports once that the store is unavailable.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    artifacts = artifacts_folder()
    try:
        artifacts.mkdir(exist_ok=True)
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        if is_on_a_server() and not uri.startswith("http"):
            # MLflow would retry for minutes.
            engine = sqlalchemy.create_engine(uri)
            engine.connect().close()
            engine.dispose()
        # Processes that create a new database at the same time corrupt it.
        with FileLock(artifacts / ".lock"):
            _create_database(uri)
            experiment = mlflow.get_experiment_by_name(EXPERIMENT)
            if experiment is not None:
                _follow_move(uri, experiment.artifact_location)
                return experiment.experiment_id
            # With this tag the UI shows trained models, not traces of language models.
            tags = {"mlflow.experimentKind": "custom_model_development"}
            return mlflow.create_experiment(EXPERIMENT, artifacts.as_uri() if sqlite_file(uri) else None, tags)
    except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:  # ImportError: a database's driver
        reason = one_line(error)
        known = "database schema" in reason or "database is locked" in reason
        if (known or is_on_a_server()) and not isinstance(error, ImportError):
            answer = explain(error)
            # Without its experiment nothing can be logged.
            raise ClosedError(str(answer)) if isinstance(answer, RefusedError) else answer from error
        remedy = "set MLFLOW_TRACKING_URI to another"
        raise UserError(f"MLflow's store {store_name()} cannot be opened: {reason}; {remedy}") from error


def _create_database(uri: str) -> None:
    """Create SQLite's file with all tables at once: MLflow cannot open one that a kill left with a part of them."""
    path = sqlite_file(uri)
    if path is None or path.exists():
        return
    partial = path.with_name(f".partial.{path.name}")
    for file in path.parent.glob(f"{partial.name}*"):  # SQLite's journal too
        file.unlink()
    store = SqlAlchemyStore(f"sqlite:///{partial}", artifacts_folder().as_uri())  # type: ignore[no-untyped-call] # mlflow ships none
    store.engine.dispose()
    partial.replace(path)


def _follow_move(uri: str, location: str) -> None:
    """Change the absolute paths that MLflow keeps of a folder of artifacts which was moved, or copied with the store.

    A store that lies elsewhere than in this repository keeps a folder that is still there.
    """
    file, ours, is_uri = sqlite_file(uri), artifacts_folder(), location.startswith("file:")
    path = Path(unquote(urlsplit(location).path) if is_uri else location)
    folder = next((each for each in (path, *path.parents) if each.name == ours.name), ours)
    if file is None or folder == ours or not folder.is_absolute():
        return
    if file.resolve().parent != repository_root() and folder.exists():
        return
    old, new = (each.as_uri() if is_uri else str(each) for each in (folder, ours))
    kept = shutil.copy2(file, file.with_name(f"{file.name}.before-move"))
    engine, tables = sqlalchemy.create_engine(uri), sqlalchemy.MetaData()
    with engine.begin() as connection:
        tables.reflect(connection)
        for table in tables.tables.values():
            for column in table.columns:
                if isinstance(column.type, sqlalchemy.String):
                    moved = sqlalchemy.literal(new).concat(sqlalchemy.func.substr(column, len(old) + 1))
                    named = (column == old) | column.startswith(f"{old}/", autoescape=True)
                    connection.execute(table.update().where(named).values({column: moved}))
    engine.dispose()
    moved_here = f"MLflow's store was moved here from {folder.parent}: its paths are changed"
    print(f"{moved_here}, and {kept} is as it was", file=sys.stderr)


def search_runs(experiment_id: str, tags: Mapping[str, str]) -> list[Run]:
    """Return the runs with these tags, newest first."""
    query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    runs: list[Run] = mlflow.search_runs([experiment_id], filter_string=query, output_format="list")
    return runs


def log_batches(run_id: str, *, params: Texts = NOTHING, metrics: Sequence[Metric] = (), tags: Texts = NOTHING) -> None:
    """Log to a run in batches that a server accepts. A point that is logged twice with the same time is one point."""
    kinds: dict[str, Any] = {
        "params": [Param(key, _cut(value, MAX_PARAM_VAL_LENGTH)) for key, value in params.items()],
        "metrics": metrics,
        "tags": [RunTag(*item) for item in cut_tags(tags).items()],
    }
    for kind, entities in kinds.items():
        for first in range(0, len(entities), BATCH):
            mlflow.MlflowClient().log_batch(run_id, **{kind: entities[first : first + BATCH]})


def cut_tags(tags: Texts) -> dict[str, str]:
    """Return tags that MLflow takes whole."""
    return {key: _cut(value, MAX_TAG_VAL_LENGTH) for key, value in tags.items()}


def _cut(text: str, length: int) -> str:
    """Return a text that MLflow takes whole: a longer one would be refused, or cut without a sign of it."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def curve_points(epoch: Mapping[str, Any], milliseconds: int) -> list[Metric]:
    """Return the measures of an epoch as points of curves."""
    step = int(epoch["epoch"])
    identity = ("seed", "fold", "epoch")
    return [Metric(key, value, milliseconds, step) for key, value in epoch.items() if key not in identity]


def end_abandoned_runs(experiment_id: str) -> None:
    """Mark as KILLED the runs whose process on this machine crashed or was killed."""
    for run in mlflow.search_runs([experiment_id], "attributes.status = 'RUNNING'", output_format="list"):
        # A run that was logged by hand names no process and is left alone.
        if is_gone({key: run.data.tags.get(f"process.{key}", "") for key in this_process()}):
            mlflow.MlflowClient().set_terminated(run.info.run_id, "KILLED")


def source_tags(stage: str) -> dict[str, str]:
    """Return the tags that say where a run comes from: commit, experiment, environment, process."""
    changes, commit = "", "unknown"
    with suppress(UserError):  # outside a clone, or before the first commit
        # Without what DVC itself writes: it changes neither code nor parameters.
        changes = git("status", "--porcelain", "--", ".", ":!dvc.lock", ":!metrics")
        commit = git("rev-parse", "HEAD").strip()
    return {
        "mlflow.source.git.commit": commit,
        "git.dirty": str(bool(changes)).lower(),
        "dvc.stage": stage,
        "dvc.experiment": os.environ.get("DVC_EXP_NAME", ""),
        "environment": ", ".join(describe_environment()),
        **{f"process.{key}": value for key, value in this_process().items()},
    }
