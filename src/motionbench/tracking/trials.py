"""Searches and their trials in MLflow."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import mlflow
from filelock import FileLock
from mlflow.entities import Metric, RunStatus

from motionbench.core.errors import deferred_interrupts
from motionbench.core.paths import MLFLOW_ARTIFACTS, repository_root
from motionbench.tracking.store import (
    best_effort,
    current_milliseconds,
    end_abandoned_runs,
    is_on_a_server,
    log_batches,
    open_store,
    search_runs,
    source_tags,
)

TrialEnd = Literal["completed", "pruned", "failed", "retried"]


class TrialRecord(NamedTuple):
    """A trial that has ended."""

    number: int
    state: TrialEnd
    params: Mapping[str, Any]
    measures: Mapping[str, float]
    validation_losses: Mapping[int, float]
    """By epoch."""
    failure: str | None
    started: int
    """Milliseconds since 1970."""
    ended: int


def log_trials(parent: str, study: str, trials: Sequence[TrialRecord], *, at_end: bool = False) -> bool:
    """Log each trial as a run below that of its study, unless it is there; return whether the store holds them all."""
    return bool(parent) and best_effort(partial(_log_trials, parent, study, trials), at_end=at_end) is not None


def _log_trials(parent: str, study: str, trials: Sequence[TrialRecord]) -> bool:
    client = mlflow.MlflowClient()
    above = client.get_run(parent)
    there = {
        run.data.tags["tuning.number"]: run
        for run in search_runs(above.info.experiment_id, {"mlflow.parentRunId": parent, "tuning.role": "trial"})
    }
    for trial in trials:
        run = there.get(str(trial.number))
        if run and "tuning.state" in run.data.tags:
            continue
        tags = {
            **above.data.tags,
            "tuning.role": "trial",
            "tuning.number": str(trial.number),
            "mlflow.runName": f"{study} trial {trial.number}",
            "mlflow.parentRunId": parent,
        }
        created = run or client.create_run(above.info.experiment_id, trial.started, tags)
        losses = [
            Metric("validation_loss", loss, trial.ended, epoch) for epoch, loss in trial.validation_losses.items()
        ]
        log_batches(
            created.info.run_id,
            params={key: str(value) for key, value in trial.params.items()},
            metrics=[*(Metric(key, value, trial.ended, 0) for key, value in trial.measures.items()), *losses],
            tags={"tuning.failure": trial.failure} if trial.failure else {},
        )
        status = {"failed": "FAILED", "retried": "KILLED"}.get(trial.state, "FINISHED")
        client.set_terminated(created.info.run_id, status, trial.ended)
        client.set_tag(created.info.run_id, "tuning.state", trial.state)  # last: the run has all that it is to have
    return True


@contextmanager
def study_run(study: str, study_id: str, params: Mapping[str, Any]) -> Iterator[str]:
    """Run the block as the run of a study, one and the same whenever the study goes on, and yield its id.

    The id is "" if the store is unavailable. The run ends as FINISHED, as FAILED if the block
    raises, or as KILLED if it is interrupted.

    Raises:
        UserError: if the store can never be opened.
    """
    if not is_on_a_server():
        open_store()
    run_id, status = "", RunStatus.FAILED
    try:
        with deferred_interrupts():  # until its id is known
            run_id = best_effort(partial(_open_study_run, study, study_id, params)) or ""
        yield run_id
        status = RunStatus.FINISHED
    except KeyboardInterrupt:
        status = RunStatus.KILLED
        raise
    finally:
        if run_id:
            end = partial(mlflow.MlflowClient().set_terminated, run_id, RunStatus.to_string(status))
            best_effort(end, at_end=True)


def _open_study_run(study: str, study_id: str, params: Mapping[str, Any]) -> str:
    experiment_id = open_store()
    end_abandoned_runs(experiment_id)
    client = mlflow.MlflowClient()
    tags = {**source_tags("tune"), "tuning.study": study, "tuning.id": study_id, "tuning.role": "study"}
    with FileLock(repository_root() / MLFLOW_ARTIFACTS / ".lock"):
        if runs := search_runs(experiment_id, {"tuning.id": study_id, "tuning.role": "study"}):
            run_id = str(runs[0].info.run_id)
            client.update_run(run_id, RunStatus.to_string(RunStatus.RUNNING))
            log_batches(run_id, tags=tags)
        else:
            run_id = client.create_run(experiment_id, tags=tags, run_name=f"tune {study}").info.run_id
            log_batches(run_id, params={key: str(value) for key, value in params.items()})
    return run_id


def log_outcome(run_id: str, metrics: Mapping[str, float], folder: Path) -> None:
    """Log what a study found to its run: numbers, and the files of a folder."""
    if not run_id:
        return

    def log() -> None:
        log_batches(run_id, metrics=[Metric(key, value, current_milliseconds(), 0) for key, value in metrics.items()])
        mlflow.MlflowClient().log_artifacts(run_id, str(folder), "tuning")

    best_effort(log)
