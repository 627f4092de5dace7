"""The run of a stage in MLflow, and of each replicate below it: a view of the stage's files, never their source.

The store may be unavailable, hang or die: that costs a stage seconds, once. What the store missed is logged at the end
of the stage or, if it is still unavailable, spooled for `make mlflow-sync`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple
from uuid import uuid4

import mlflow
from filelock import FileLock
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Run, RunStatus
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from motionbench.core.errors import UserError, deferred_interrupts
from motionbench.core.paths import DATA, MLFLOW_ARTIFACTS, repository_root
from motionbench.tracking.model_registry import log_model, promote
from motionbench.tracking.record import DatasetRecord, Record, ReplicateRecord, as_text
from motionbench.tracking.spool import spool
from motionbench.tracking.store import (
    best_effort,
    current_milliseconds,
    curve_points,
    end_abandoned_runs,
    is_on_a_server,
    log_batches,
    open_store,
    reason,
    search_runs,
    source_tags,
    store_name,
    store_uri,
)

COMPLETE = "record.complete"  # tag of a stage's run that has everything


class _Runs(NamedTuple):
    """Ids of a stage's run and, by the replicate's name, of those below it."""

    parent: str
    replicates: dict[str, str]


class StageRun:
    """A stage's run as the stage sees it: no method waits long for the store, none raises because it is unavailable."""

    def __init__(self, stage: str, params: Mapping[str, Any], replicates: Sequence[tuple[str, int]]) -> None:
        flat = as_text(params)
        self._record = Record(
            stage=stage,
            id=uuid4().hex,
            started=current_milliseconds(),
            params=flat,
            tags=source_tags(stage),
            replicates=[
                ReplicateRecord(model_name=model_name, seed=seed, params={**flat, "seed": str(seed)})
                for model_name, seed in replicates
            ],
        )
        self._logged_at: dict[str, dict[int, int]] = {each.name: {} for each in self._record.replicates}
        self._runs: _Runs | None = None

    def start(self) -> None:
        """Start the run and those below it in the store, or find them there."""
        experiment_id = open_store()
        end_abandoned_runs(experiment_id)
        runs = _open_runs(experiment_id, self._record)
        log_batches(runs.parent, params=self._record.params)
        for each in self._record.replicates:
            log_batches(runs.replicates[each.name], params=each.params)
        self._runs = runs

    def log_epoch(self, model_name: str, epoch: Mapping[str, Any]) -> None:
        """Log the measures of an epoch of a replicate as a step of its curves."""
        name, now = ReplicateRecord(model_name=model_name, seed=epoch["seed"], params={}).name, current_milliseconds()
        self._logged_at[name][int(epoch["epoch"])] = now
        best_effort(partial(self._log_epoch, name, curve_points(epoch, now)))

    def _log_epoch(self, name: str, metrics: Sequence[Metric]) -> None:
        assert self._runs  # else the store was unavailable at the start
        log_batches(self._runs.replicates[name], metrics=metrics)

    def complete(self, record: Record) -> None:
        """Log what `record`, made from the stage's files, has and the run has not; keep the record if that fails."""
        replicates = [each.model_copy(update={"logged_at": self._logged_at[each.name]}) for each in record.replicates]
        ours = self._record
        whole = record.model_copy(
            update={
                "id": ours.id,
                "started": ours.started,
                "tags": {**record.tags, **ours.tags},
                "replicates": replicates,
            }
        )
        if best_effort(partial(_write_record, whole), at_end=True) is None:
            spool(whole)

    def origin(self) -> dict[str, str]:
        """Return the run's id, its url in MLflow's pages, by default those of `make ui`, and its commit."""
        uri = store_uri()
        pages = uri if uri.startswith("http") else "http://127.0.0.1:5000"
        run_id = self._runs.parent if self._runs else self._record.id
        commit = self._record.tags["mlflow.source.git.commit"]
        return {"run_id": run_id, "url": f"{pages}/#/runs/{run_id}", "commit": commit}

    def end(self, status: str) -> None:
        """End the run and those below it, unless they are complete: an interrupt may come as late as that."""
        if self._runs:
            best_effort(partial(_end_incomplete, self._runs, status), at_end=True)


@contextmanager
def stage_run(stage: str, params: Mapping[str, Any], replicates: Sequence[tuple[str, int]] = ()) -> Iterator[StageRun]:
    """Run the block as a run of `stage`, with a run below it for each replicate; its last call is to be `complete`.

    The runs end as FAILED if the block raises, or as KILLED if it is interrupted.

    Raises:
        UserError: if the store can never be opened.
    """
    if not is_on_a_server():
        open_store()
    run = StageRun(stage, params, replicates)
    try:
        best_effort(run.start)
        yield run
    except KeyboardInterrupt:
        run.end(RunStatus.to_string(RunStatus.KILLED))
        raise
    except BaseException:
        run.end(RunStatus.to_string(RunStatus.FAILED))
        raise


def log_run(record: Record) -> bool:
    """Make the store hold all of `record` once; return whether something was missing.

    Raises:
        UserError: if the store is unavailable.
    """
    try:
        with deferred_interrupts():
            return _write_record(record)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise UserError(
            f"MLflow's store {store_name()} does not answer: {reason(error)}; start it and run the "
            "command again: nothing is lost and nothing is logged twice"
        ) from error


def _write_record(record: Record) -> bool:
    experiment_id = open_store()
    with FileLock(repository_root() / MLFLOW_ARTIFACTS / ".log_run.lock"):
        found = _find_runs(experiment_id, record)
        if any(COMPLETE in run.data.tags for run in found):
            return False
        runs = _open_runs(experiment_id, record)
        client = mlflow.MlflowClient()
        content = {"record.content": record.content} if record.content else {}
        _fill(runs.parent, record, {**record.tags, **content})
        inputs = [_input(dataset) for dataset in record.datasets]
        client.log_inputs(runs.parent, datasets=inputs)
        for path in record.artifacts:
            if (local := record.folder / path).is_dir():
                client.log_artifacts(runs.parent, str(local), path.as_posix())
            else:
                client.log_artifact(runs.parent, str(local), path.parent.as_posix())
        for each in record.replicates:
            run_id = runs.replicates[each.name]
            model = {f"md5.{each.model.path}": each.model.md5} if each.model else {}
            _fill(run_id, each, {**_shared_tags(record), **model})
            if each.model:
                log_model(run_id, each.model, record.folder)
            client.set_terminated(run_id)
        if record.champion:
            promote(runs.parent, record.champion, record.folder)
        client.set_terminated(runs.parent)
        client.set_tag(runs.parent, COMPLETE, "true")
    return True


def _find_runs(experiment_id: str, record: Record) -> list[Run]:
    """Return the run that `record` was begun as, or those with the same content."""
    begun = search_runs(experiment_id, {"record.id": record.id}) if record.id else []
    return begun or (search_runs(experiment_id, {"record.content": record.content}) if record.content else [])


def _open_runs(experiment_id: str, record: Record) -> _Runs:
    """Find the runs of a record, or start those that are not there."""
    client = mlflow.MlflowClient()
    own = {"record.id": record.id} if record.id else {}
    own |= {"record.content": record.content} if record.content else {}
    if found := _find_runs(experiment_id, record):
        parent = found[0].info.run_id
    else:
        parent = client.create_run(
            experiment_id, record.started or None, {**record.tags, **own}, record.stage
        ).info.run_id
    below = {run.info.run_name: run.info.run_id for run in search_runs(experiment_id, {"mlflow.parentRunId": parent})}
    for each in record.replicates:
        if each.name not in below:
            tags = {**_shared_tags(record), "mlflow.parentRunId": parent}
            below[each.name] = client.create_run(experiment_id, record.started or None, tags, each.name).info.run_id
    return _Runs(parent, below)


def _end_incomplete(runs: _Runs, status: str) -> None:
    client = mlflow.MlflowClient()
    if COMPLETE in client.get_run(runs.parent).data.tags:
        return
    for run_id in (*runs.replicates.values(), runs.parent):
        client.set_terminated(run_id, status)


def _shared_tags(record: Record) -> dict[str, str]:
    return {key: value for key, value in record.tags.items() if not key.startswith("md5.")}


def _fill(run_id: str, part: Record | ReplicateRecord, tags: Mapping[str, str]) -> None:
    """Log what a run has not yet of parameters, metrics and curves."""
    client = mlflow.MlflowClient()
    there = client.get_run(run_id).data
    now = current_milliseconds()
    metrics = [Metric(key, value, now, 0) for key, value in part.metrics.items() if key not in there.metrics]
    if isinstance(part, ReplicateRecord):
        points = [
            point
            for epoch in part.curves
            for point in curve_points(epoch, part.logged_at.get(int(epoch["epoch"]), now))
        ]
        steps = {
            key: {point.step for point in client.get_metric_history(run_id, key)}
            for key in {point.key for point in points}
        }
        metrics += [point for point in points if point.step not in steps[point.key]]
    params = {key: value for key, value in part.params.items() if key not in there.params}
    log_batches(run_id, params=params, metrics=metrics, tags=tags)


def _input(dataset: DatasetRecord) -> DatasetInput:
    described = Dataset(
        name=dataset.name,
        digest=dataset.md5,
        source_type="local",
        source=json.dumps({"uri": (DATA / dataset.name).as_posix()}),
        profile=json.dumps({"shape": dataset.shape}),
    )
    return DatasetInput(described, [InputTag("mlflow.data.context", dataset.name)])
