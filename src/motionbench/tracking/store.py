"""MLflow's store: opened, searched, written to in batches."""

import logging
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import mlflow
import sqlalchemy
from filelock import FileLock
from mlflow.entities import Experiment, LifecycleStage, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH, MAX_TAG_VAL_LENGTH
from sqlalchemy.exc import SQLAlchemyError

from motionbench.core.commands import deferred_interrupts
from motionbench.core.errors import UserError, one_line
from motionbench.core.paths import repository_root
from motionbench.core.processes import is_running, this_process
from motionbench.tracking.address import (
    EXPERIMENT,
    artifacts_folder,
    sqlite_file,
    store_name,
    store_uri,
)
from motionbench.tracking.errors import StoreError, explain, server_version, store_errors, too_old

WAIT_LIMITS = {
    # MLflow's defaults retry for minutes.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "PGCONNECT_TIMEOUT": "5",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Environment variables, times in seconds; those that are set already stay."""
Texts = Mapping[str, str]
BATCH = 100  # parameters, metrics or tags that a server accepts at once
Result = TypeVar("Result")


class BestEffort:
    """Calls to a store that may fail: after the first failure calls are skipped, and each kind is reported once."""

    def __init__(self) -> None:
        self._reported: set[type[UserError]] = set()

    def __call__(
        self,
        call: Callable[[], Result],
        *,
        again: bool = False,
        at_end: bool = False,
        missed: str = "what it misses is logged at the end, or by: make mlflow-sync",
    ) -> Result | None:
        """Return what `call` returns; None if the store fails or, without `again` or `at_end`, failed before.

        Args:
            missed: what the warning says of what is not logged.

        Raises:
            UserError: if there can be no store at this address. With `at_end`, when the work is done, this is reported.
        """
        if self._reported and not (again or at_end):
            return None
        try:
            with deferred_interrupts(), store_errors():
                return call()
        except UserError as error:
            if not (at_end or isinstance(error, StoreError)):
                raise
            if type(error) not in self._reported:
                print(f"warning: {error}; work goes on; {missed}", file=sys.stderr, flush=True)
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


def open_store() -> str:
    """Connect MLflow to the store and return the experiment's id; the experiment is created if it is new.

    Raises:
        StoreError: if the store fails.
        UserError: if there can be no store at this address.
    """
    on_a_server = store_uri().startswith(("http:", "https:", "postgresql", "mysql", "mssql"))
    for name, value in WAIT_LIMITS.items():
        os.environ.setdefault(name, value)
    # These log each retry; `BestEffort` reports once that the store is unavailable.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    try:
        artifacts_folder().mkdir(exist_ok=True)
        mlflow.set_tracking_uri(store_uri())
        mlflow.set_registry_uri(store_uri())
        if on_a_server:
            _check_server()
        # Processes that create a new database at the same time corrupt it.
        with FileLock(artifacts_folder() / ".lock"):
            experiment = _open_experiment()
    except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:  # ImportError: a database's driver
        reason = one_line(error)
        known = "database schema" in reason or "database is locked" in reason
        if (known or on_a_server) and not isinstance(error, ImportError):
            raise explain(error) from error
        remedy = "set MLFLOW_TRACKING_URI to another"
        raise UserError(f"MLflow's store {store_name()} cannot be opened: {reason}; {remedy}") from error
    if experiment.lifecycle_stage == LifecycleStage.DELETED:
        raise StoreError(
            f"MLflow's store {store_name()} refuses runs: its experiment {EXPERIMENT} was deleted; restore it: mlflow "
            f"experiments restore --experiment-id {experiment.experiment_id}"
        )
    return str(experiment.experiment_id)


def _check_server() -> None:
    """Check that a server answers, which MLflow would try for minutes with a database, and that it is new enough."""
    if not store_uri().startswith("http"):
        engine = sqlalchemy.create_engine(store_uri())
        engine.connect().close()
        engine.dispose()
        return
    version = server_version()
    if version.startswith(("1.", "2.")):
        raise too_old(version, "and logged models need a server of MLflow 3")


def _open_experiment() -> Experiment:
    file, artifacts = sqlite_file(store_uri()), artifacts_folder().as_uri()
    if file and not file.exists():
        _create_database(file, artifacts)
    experiment = mlflow.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        # With this tag the UI shows trained models, not traces of language models.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        experiment = mlflow.get_experiment(mlflow.create_experiment(EXPERIMENT, artifacts if file else None, tags))
    elif file:
        _follow_move(file, experiment.artifact_location)
    return experiment


def _create_database(path: Path, artifacts: str) -> None:
    """Create SQLite's file with all tables at once: MLflow cannot open one that a kill left with a part of them."""
    partial = path.with_name(f".partial.{path.name}")
    for file in path.parent.glob(f"{partial.name}*"):  # SQLite's journal too
        file.unlink()
    SqlAlchemyStore(f"sqlite:///{partial}", artifacts).engine.dispose()  # type: ignore[no-untyped-call] # mlflow ships none
    partial.replace(path)


def _follow_move(file: Path, location: str) -> None:
    """Change the addresses that MLflow keeps of a folder of artifacts which was moved, or copied with the store.

    A store that lies elsewhere than in this repository keeps a folder that is still there.
    """
    ours, is_uri = artifacts_folder(), location.startswith("file:")
    path = Path(unquote(urlsplit(location).path) if is_uri else location)  # plain MLflow: a path, of a folder in ours
    folder = next((each for each in (path, *path.parents) if each.name == ours.name), ours)
    if folder == ours or not folder.is_absolute():
        return
    if file.resolve().parent != repository_root() and folder.exists():
        return
    old, new = (each.as_uri() if is_uri else str(each) for each in (folder, ours))
    kept = shutil.copy2(file, file.with_name(f"{file.name}.before-move"))
    engine, tables = sqlalchemy.create_engine(store_uri()), sqlalchemy.MetaData()
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


def log_batches(run_id: str, params: Texts, metrics: Sequence[Metric], tags: Texts) -> None:
    """Log to a run in batches that a server accepts. A point that is logged twice with the same time is one point.

    MLflow would cut a longer text without a sign of it, or refuse it.
    """
    all_params = [Param(key, _cut(value, MAX_PARAM_VAL_LENGTH)) for key, value in params.items()]
    all_tags = [RunTag(key, _cut(value, MAX_TAG_VAL_LENGTH)) for key, value in tags.items()]
    for first in range(0, max(len(all_params), len(metrics), len(all_tags)), BATCH):
        batch = slice(first, first + BATCH)
        mlflow.MlflowClient().log_batch(run_id, metrics[batch], all_params[batch], all_tags[batch])


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def end_abandoned_runs(experiment_id: str) -> None:
    """Mark as KILLED the runs whose process crashed or was killed, of those that worked in this folder."""
    for run in mlflow.search_runs([experiment_id], "attributes.status = 'RUNNING'", output_format="list"):
        # A run that was logged by hand names no process and is left alone.
        if is_running({key: run.data.tags.get(f"process.{key}", "") for key in this_process()}) is False:
            mlflow.MlflowClient().set_terminated(run.info.run_id, "KILLED")
