"""Searches and their trials in MLflow."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
from filelock import FileLock
from mlflow.entities import Metric

from motionbench.core.commands import deferred_interrupts
from motionbench.tracking import address, store
from motionbench.tracking.description import source_tags

MISSED = "what it misses of a search is logged at its end or not at all; the study and reports/tuning/ have it"


class TrialRecord(NamedTuple):
    """A trial that has ended."""

    number: int
    state: str  # how it ended: completed, pruned, failed or retried
    params: Mapping[str, Any]
    measures: Mapping[str, float]
    validation_losses: Mapping[int, float]  # by epoch
    failure: str | None
    started: int  # milliseconds since 1970
    ended: int


def log_trials(parent: str, study: str, trials: Sequence[TrialRecord], *, at_end: bool = False) -> None:
    """Log each trial that the store lacks as a child run of its study's run; skip this if the store is unavailable."""
    if parent:
        store.best_effort(partial(_log_trials, parent, study, trials), at_end=at_end, missed=MISSED)


def _log_trials(parent: str, study: str, trials: Sequence[TrialRecord]) -> None:
    client = mlflow.MlflowClient()
    above = client.get_run(parent)
    experiment_id, role = above.info.experiment_id, {"tuning.role": "trial", "mlflow.parentRunId": parent}
    logged = {run.data.tags["tuning.number"]: run for run in store.search_runs(experiment_id, role)}
    for trial in trials:
        name = {"tuning.number": str(trial.number), "mlflow.runName": f"{study} trial {trial.number}"}
        run = logged.get(str(trial.number)) or client.create_run(
            experiment_id, trial.started, {**above.data.tags, **role, **name}
        )
        if run.info.status == "RUNNING":
            points = [(key, value, 0) for key, value in trial.measures.items()]
            points += [("validation_loss", loss, epoch) for epoch, loss in trial.validation_losses.items()]
            metrics = [Metric(key, value, trial.ended, step) for key, value, step in points]
            tags = {"tuning.state": trial.state, **({"tuning.failure": trial.failure} if trial.failure else {})}
            params = {key: str(value) for key, value in trial.params.items()}
            store.log_batches(run.info.run_id, params, metrics, tags)
            status = {"failed": "FAILED", "retried": "KILLED"}.get(trial.state, "FINISHED")
            client.set_terminated(run.info.run_id, status, trial.ended)  # last: the run is complete


@contextmanager
def study_run(study: str, study_id: str, params: Mapping[str, Any]) -> Iterator[str]:
    """Run the block as the run of a study, the same run each time the study continues, and yield the run's id.

    The id is "" if the store fails. The run ends as FINISHED, as FAILED if the block raises, or as KILLED if
    it is interrupted.

    Raises:
        UserError: if there can be no store at this address.
    """
    run_id, status = "", "FAILED"
    try:
        with deferred_interrupts():  # until the run's id is known
            # Tried again if the store failed during the search of another model.
            opening = partial(_open_study_run, study, study_id, params)
            run_id = store.best_effort(opening, again=True, missed=MISSED) or ""
        yield run_id
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        if run_id:
            end = partial(mlflow.MlflowClient().set_terminated, run_id, status)
            store.best_effort(end, at_end=True, missed=MISSED)


def _open_study_run(study: str, study_id: str, params: Mapping[str, Any]) -> str:
    experiment_id, client = store.open_store(), mlflow.MlflowClient()
    store.end_abandoned_runs(experiment_id)
    identity = {"tuning.id": study_id, "tuning.role": "study"}
    tags = {**source_tags("tune"), "tuning.study": study, **identity}
    with FileLock(address.artifacts_folder() / ".lock"):
        runs = store.search_runs(experiment_id, identity)
        run = runs[0] if runs else client.create_run(experiment_id, tags=tags, run_name=f"tune {study}")
        client.update_run(run.info.run_id, "RUNNING")
        store.log_batches(run.info.run_id, {key: str(value) for key, value in params.items()}, [], tags)
    return str(run.info.run_id)


def log_outcome(run_id: str, metrics: Mapping[str, float], folder: Path) -> None:
    """Log what a study found to its run: numbers, and the files of a folder."""
    if run_id:
        store.best_effort(partial(_log_outcome, run_id, metrics, folder), at_end=True, missed=MISSED)


def _log_outcome(run_id: str, metrics: Mapping[str, float], folder: Path) -> None:
    now = time.time_ns() // 1_000_000
    store.log_batches(run_id, {}, [Metric(key, value, now, 0) for key, value in metrics.items()], {})
    mlflow.MlflowClient().log_artifacts(run_id, str(folder), "tuning")
