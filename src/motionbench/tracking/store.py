"""MLflow's store: opened, searched, written to in batches.

The store is `MLFLOW_TRACKING_URI`, by default sqlite:///mlflow.db at the repository's root, where a plain `mlflow ui`
finds it.
"""

import logging
import os
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
from sqlalchemy.exc import SQLAlchemyError

from motionbench.core.errors import UserError, deferred_interrupts, one_line
from motionbench.core.paths import MLFLOW_ARTIFACTS, MLFLOW_DATABASE, repository_root
from motionbench.core.processes import describe_environment, git, is_gone, this_process
from motionbench.core.redaction import without_secrets

EXPERIMENT = "motionbench"
UNAVAILABLE = (MlflowException, SQLAlchemyError, OSError, UserError)
"""What a call raises when the store is unavailable; requests' exceptions are OSErrors."""
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
    """Calls to a store that may be unavailable: after the first failure, which is reported, calls are skipped."""

    _available = True

    def __call__(self, call: Callable[[], Result], *, at_end: bool = False) -> Result | None:
        """Return what `call` returns; None if the store is unavailable or, without `at_end`, was so before."""
        if not self._available and not at_end:
            return None
        try:
            with deferred_interrupts():
                return call()
        except UNAVAILABLE as error:
            if self._available:
                print(
                    f"warning: MLflow's store {store_name()} does not answer ({one_line(error)}); work goes on; what "
                    "it misses is logged at the end, or by: make mlflow-sync",
                    file=sys.stderr,
                    flush=True,
                )
            self._available = False
            return None


best_effort = BestEffort()


def find_runs(tags: Mapping[str, str]) -> list[Run] | None:
    """Return the runs with these tags, newest first; None if there is no store or it is unavailable."""
    uri = store_uri()
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return None
    try:
        return search_runs(open_store(), tags)
    except UNAVAILABLE:
        return None


def store_name() -> str:
    """Return the store's address without secrets."""
    return without_secrets(store_uri())


def store_uri() -> str:
    """Return the store's address. A relative file is one in the repository's root, not in a temporary copy of DVC's."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{MLFLOW_DATABASE}"
    file = _sqlite_file(uri)
    if file is None:
        return uri
    return sqlalchemy.make_url(uri).set(database=str(repository_root() / file)).render_as_string(hide_password=False)


def is_on_a_server() -> bool:
    """Return whether the store is on a server, which may be down for a while and come back."""
    return store_uri().startswith(("http:", "https:", "postgresql", "mysql", "mssql"))


def current_milliseconds() -> int:
    """Return the time in milliseconds since 1970."""
    return int(time.time() * 1000)


def open_store() -> str:
    """Connect MLflow to the store and return the experiment's id; the experiment is created if it is new.

    Raises:
        UserError: if a store that is not on a server cannot be opened.
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
            return mlflow.create_experiment(EXPERIMENT, artifacts.as_uri() if _sqlite_file(uri) else None, tags)
    except (MlflowException, SQLAlchemyError) as error:
        if is_on_a_server():
            raise
        reason, remedy = one_line(error), "set MLFLOW_TRACKING_URI to another"
        if "database schema" in reason:
            reason = "another version of MLflow made it"
            remedy = (
                f"keep a copy and run: mlflow db upgrade {store_name()}; if that fails, the other version is newer: "
                "move the store away and run: make mlflow-sync"
            )
        raise UserError(f"MLflow's store {store_name()} cannot be opened: {reason}; {remedy}") from error


def artifacts_folder() -> Path:
    """Return the folder of artifacts and locks: beside a database file, which several checkouts may share."""
    file = _sqlite_file(store_uri())
    return (file.resolve().parent if file else repository_root()) / MLFLOW_ARTIFACTS


def _sqlite_file(uri: str) -> Path | None:
    name = sqlalchemy.make_url(uri).database if uri.startswith("sqlite:") else None
    return Path(name) if name else None


def _create_database(uri: str) -> None:
    """Create SQLite's file with all tables at once: MLflow cannot open one that a kill left with a part of them."""
    path = _sqlite_file(uri)
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
    file, ours, is_uri = _sqlite_file(uri), artifacts_folder(), location.startswith("file:")
    path = Path(unquote(urlsplit(location).path) if is_uri else location)
    folder = next((each for each in (path, *path.parents) if each.name == ours.name), ours)
    if file is None or folder == ours or not folder.is_absolute():
        return
    if file.resolve().parent != repository_root() and folder.exists():
        return
    old, new = (each.as_uri() if is_uri else str(each) for each in (folder, ours))
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
    print(f"MLflow's store was moved here from {folder.parent}: its paths are changed", file=sys.stderr)


def search_runs(experiment_id: str, tags: Mapping[str, str]) -> list[Run]:
    """Return the runs with these tags, newest first."""
    query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    runs: list[Run] = mlflow.search_runs([experiment_id], filter_string=query, output_format="list")
    return runs


def log_batches(run_id: str, *, params: Texts = NOTHING, metrics: Sequence[Metric] = (), tags: Texts = NOTHING) -> None:
    """Log to a run in batches that a server accepts. A point that is logged twice with the same time is one point."""
    kinds: dict[str, Any] = {
        "params": [Param(*item) for item in params.items()],
        "metrics": metrics,
        "tags": [RunTag(*item) for item in tags.items()],
    }
    for kind, entities in kinds.items():
        for first in range(0, len(entities), BATCH):
            mlflow.MlflowClient().log_batch(run_id, **{kind: entities[first : first + BATCH]})


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
