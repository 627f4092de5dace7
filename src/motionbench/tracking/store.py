"""MLflow's store: opened, searched, written to in batches.

The store is `MLFLOW_TRACKING_URI`, by default sqlite:///mlflow.db at the repository's root, where a plain `mlflow ui`
finds it.
"""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import mlflow
import sqlalchemy
from filelock import FileLock
from mlflow.entities import Metric, Param, Run, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy.exc import SQLAlchemyError

from motionbench.core.environment import describe_environment
from motionbench.core.errors import UserError, deferred_interrupts, without_password
from motionbench.core.paths import MLFLOW_ARTIFACTS, MLFLOW_DATABASE, repository_root
from motionbench.core.processes import is_gone, this_process

EXPERIMENT = "motionbench"
UNAVAILABLE = (MlflowException, SQLAlchemyError, OSError, UserError)
"""What a call raises when the store is unavailable; requests' exceptions are OSErrors."""
BOUNDS = {
    # One more try, soon: by default MLflow tries for minutes.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "PGCONNECT_TIMEOUT": "5",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Of a wait for the store, seconds; environment variables that are set already stay."""
BATCH = 100  # as many parameters, metrics and tags as a server takes at once
Result = TypeVar("Result")


class BestEffort:
    """Calls to a store that may be unavailable: the first failure is said, and calls to come wait for the end."""

    def __init__(self) -> None:
        self._available = True

    def __call__(self, call: Callable[[], Result], *, at_end: bool = False) -> Result | None:
        """Return what `call` returns; None if the store is unavailable or, unless `at_end`, was so before."""
        if not self._available and not at_end:
            return None
        try:
            with deferred_interrupts():
                return call()
        except UNAVAILABLE as error:
            if self._available:
                print(
                    f"warning: MLflow's store {store_name()} does not answer ({reason(error)}); work goes on; what is "
                    "missing there is logged at the end, or by: make mlflow-sync",
                    file=sys.stderr,
                    flush=True,
                )
            self._available = False
            return None


best_effort = BestEffort()


def find_runs(tags: Mapping[str, str]) -> list[Run] | None:
    """Return the runs with these tags, newest first; None if there is no store or it is unavailable."""
    return _look(lambda experiment_id: search_runs(experiment_id, tags))


def find_run(run_id: str) -> Run | None:
    """Return the run of this id, None if it is not in the store or there is none."""
    return _look(lambda _: mlflow.MlflowClient().get_run(run_id))


def find_runs_with(md5: str) -> list[Run]:
    """Return the runs that name this md5 as that of an output or of data, newest first."""
    runs = _look(lambda experiment_id: search_runs(experiment_id, {}))
    return [run for run in runs or [] if md5 in (value for key, value in run.data.tags.items() if "md5." in key)]


def _look(call: Callable[[str], Result]) -> Result | None:
    if store_uri().startswith("sqlite:///") and not Path(store_uri().removeprefix("sqlite:///")).exists():
        return None
    try:
        return call(open_store())
    except UNAVAILABLE:
        return None


def store_name() -> str:
    """Return the store's address without a password."""
    return without_password(store_uri())


def store_uri() -> str:
    """Return the store's address."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{repository_root() / MLFLOW_DATABASE}"


def is_on_a_server() -> bool:
    """Tell whether the store may come back when it is unavailable, and so is no mistake of the user's."""
    return store_uri().startswith(("http:", "https:", "postgresql", "mysql", "mssql"))


def reason(error: Exception) -> str:
    """Return an error's message as one line."""
    return " ".join(str(error).split())[:200]


def current_milliseconds() -> int:
    """Return the time in milliseconds since 1970."""
    return int(time.time() * 1000)


def open_store() -> str:
    """Point mlflow at the store, create the experiment where it is new, and return the experiment's id."""
    uri = store_uri()
    for name, value in BOUNDS.items():
        os.environ.setdefault(name, value)
    # They tell of each try; that the store is unavailable is said once.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    artifacts = repository_root() / MLFLOW_ARTIFACTS
    try:
        artifacts.mkdir(exist_ok=True)
        mlflow.set_tracking_uri(uri)
        if is_on_a_server() and not uri.startswith("http"):
            # MLflow would try for minutes.
            engine = sqlalchemy.create_engine(uri)
            engine.connect().close()
            engine.dispose()
        # Processes that create a fresh database at once corrupt it.
        with FileLock(artifacts / ".lock"):
            _create_database(uri)
            experiment = mlflow.get_experiment_by_name(EXPERIMENT)
            if experiment is not None:
                return experiment.experiment_id
            # The tag has the UI show columns and charts of trained models, not of language models' traces.
            return mlflow.create_experiment(
                EXPERIMENT,
                artifact_location=artifacts.as_uri() if uri.startswith("sqlite:") else None,
                tags={"mlflow.experimentKind": "custom_model_development"},
            )
    except (MlflowException, SQLAlchemyError) as error:
        if is_on_a_server():
            raise
        raise UserError(
            f"MLflow's store {without_password(uri)} cannot be opened: {' '.join(str(error).split())}; set "
            "MLFLOW_TRACKING_URI to one that can"
        ) from error


def _create_database(uri: str) -> None:
    """Have SQLite's file appear with all tables in it: one that a kill leaves with some, MLflow cannot open."""
    name = sqlalchemy.make_url(uri).database if uri.startswith("sqlite:") else None
    if not name or Path(name).exists():
        return
    path = Path(name)
    partial = path.with_name(f".partial.{path.name}")
    for left in path.parent.glob(f"{partial.name}*"):  # SQLite's journal too
        left.unlink()
    artifacts = (repository_root() / MLFLOW_ARTIFACTS).as_uri()
    SqlAlchemyStore(f"sqlite:///{partial}", artifacts).engine.dispose()  # type: ignore[no-untyped-call] # mlflow ships none
    partial.replace(path)


def search_runs(experiment_id: str, tags: Mapping[str, str]) -> list[Run]:
    """Return the runs with these tags, newest first."""
    query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    runs: list[Run] = mlflow.search_runs([experiment_id], filter_string=query, output_format="list")
    return runs


def log_batches(
    run_id: str,
    *,
    params: Mapping[str, str] = MappingProxyType({}),
    metrics: Sequence[Metric] = (),
    tags: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Log to a run in batches that a server takes. The same point twice, its time included, is one point."""
    client = mlflow.MlflowClient()
    entities = [*(Param(*item) for item in params.items()), *metrics, *(RunTag(*item) for item in tags.items())]
    for first in range(0, len(entities), BATCH):
        some = entities[first : first + BATCH]
        client.log_batch(
            run_id,
            params=[each for each in some if isinstance(each, Param)],
            metrics=[each for each in some if isinstance(each, Metric)],
            tags=[each for each in some if isinstance(each, RunTag)],
        )


def curve_points(epoch: Mapping[str, Any], milliseconds: int) -> list[Metric]:
    """Return the measures of an epoch as points of curves."""
    step = int(epoch["epoch"])
    return [Metric(key, value, milliseconds, step) for key, value in epoch.items() if key not in ("seed", "epoch")]


def end_abandoned_runs(experiment_id: str) -> None:
    """Mark as KILLED the runs whose process on this machine crashed or was killed."""
    runs: list[Run] = mlflow.search_runs(
        [experiment_id], filter_string="attributes.status = 'RUNNING'", output_format="list"
    )
    for run in runs:
        # A run that somebody logged by hand names no process, and is left alone.
        if is_gone({key: run.data.tags.get(f"process.{key}", "") for key in this_process()}):
            mlflow.MlflowClient().set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.KILLED))


def source_tags(stage: str) -> dict[str, str]:
    """Return the tags that say what a run comes from: commit, experiment, environment, process."""
    # What DVC writes itself does not make the code or the parameters other than the commit's.
    changes = _git("status", "--porcelain", "--", ".", ":!dvc.lock", ":!metrics")
    return {
        "mlflow.source.git.commit": _git("rev-parse", "HEAD") or "unknown",
        "git.dirty": str(bool(changes)).lower(),
        "dvc.stage": stage,
        "dvc.experiment": os.environ.get("DVC_EXP_NAME", ""),
        "environment": ", ".join(describe_environment()),
        **{f"process.{key}": value for key, value in this_process().items()},
    }


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
