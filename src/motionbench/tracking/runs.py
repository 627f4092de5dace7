"""The run of a stage in MLflow, with a child run per replicate. Runs are a view of the stage's files, never the source.

The store may be unavailable, hang, crash or refuse: that costs a stage a few seconds, once. What the store missed is
logged at the end of the stage or, if it still fails, spooled for `make mlflow-sync`.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from uuid import uuid4

import mlflow
from filelock import FileLock
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelInput, Metric, Run

from motionbench.core.commands import deferred_interrupts
from motionbench.core.dvc_files import read_stages
from motionbench.core.errors import one_line
from motionbench.core.paths import DATA, ReplicateKey
from motionbench.tracking import address, store
from motionbench.tracking.champion import challenge, describe_champion_in_use, promote, version_in_use
from motionbench.tracking.description import describe_run, source_tags
from motionbench.tracking.errors import store_errors
from motionbench.tracking.from_files import as_text, build_record, clip_md5s, replicate_name, replicate_record
from motionbench.tracking.model_registry import log_model
from motionbench.tracking.record import DatasetRecord, ModelRecord, Record, spool
from motionbench.training.results import replicate_key


class StageRun:
    """A stage's run as the stage sees it: no method waits long for the store or raises because it fails."""

    def __init__(self, stage: str, params: Mapping[str, Any], replicates: Sequence[tuple[str, ReplicateKey]]) -> None:
        self._params = params
        self._record = Record(
            name=stage,
            id=uuid4().hex,
            started=time.time_ns() // 1_000_000,
            params=as_text(params),
            tags={**source_tags(stage), "mlflow.note.content": describe_run(read_stages()[stage])},
            replicates=[replicate_record(stage, name, key, params) for name, key in replicates],
        )
        self._ids: dict[str, str] = {}

    def start(self) -> None:
        """Start the run and its child runs in the store."""
        experiment_id = store.open_store()
        store.end_abandoned_runs(experiment_id)
        ids = {name: run.info.run_id for name, run in _open_runs(experiment_id, self._record).items()}
        for each in (self._record, *self._record.replicates):
            store.log_batches(ids[each.name], each.params, [], each.tags)
        self._ids = ids

    def log_epoch(self, model_name: str, epoch: Mapping[str, Any]) -> None:
        """Log the metrics of an epoch of a replicate as a step of its curves."""
        if self._ids:
            run_id = self._ids[replicate_name(model_name, replicate_key(epoch))]
            points = _curve_points(epoch, time.time_ns() // 1_000_000)
            store.best_effort(partial(store.log_batches, run_id, {}, points, {}))

    def complete(self, check: Callable[[], None]) -> None:
        """Log what the stage's files say; spool it if the store fails.

        Raises:
            UserError: if `check`, which is called before anything takes effect, raises it.
        """
        ours = self._record
        record = build_record(ours.name, self._params)
        identity = {"id": ours.id, "started": ours.started, "tags": {**ours.tags, **record.tags}}
        record = record.model_copy(update=identity)
        with deferred_interrupts() as interrupted:  # so that what is logged is also concluded
            logged = store.best_effort(partial(_log, record), at_end=True)
            check()  # Logging may have taken long.
            if logged and store.best_effort(partial(_conclude, record, logged[0], interrupted), at_end=True):
                return
            try:
                spool(record)
            except OSError as error:
                # The outputs are complete, and hours of work: they say all that the record does.
                reason = f"{one_line(error)}; make mlflow-sync can make a run from the outputs instead"
                print(f"warning: the record for MLflow cannot be kept: {reason}", file=sys.stderr, flush=True)

    def origin(self) -> dict[str, str]:
        """Return the run's id, its URL in MLflow's pages, and its commit, which the reports show."""
        run_id = self._ids.get(self._record.name, self._record.id)
        commit = self._record.tags["mlflow.source.git.commit"]
        return {"run_id": run_id, "url": f"{address.pages_url()}/#/runs/{run_id}", "commit": commit}

    def describe_champion_in_use(self, md5s: Mapping[str, str], *, chosen: bool) -> list[str]:
        """Say what becomes of the champion in use, now that the comparison has chosen one or none.

        Args:
            md5s: of the files and folders that the comparison used.
            chosen: whether it has chosen a champion.
        """
        data = None if chosen else clip_md5s(md5s)
        said = store.best_effort(partial(describe_champion_in_use, self._record.commit_and_start()["started"], data))
        if said is None and chosen:
            return ["MLflow is unavailable. If it stays so, the champion is not in use; later: make mlflow-sync."]
        return said or []

    def end(self, status: str) -> None:
        """End the run and its child runs, unless they are complete already: an interrupt may come that late."""
        if not self._ids:
            return  # The store was unavailable; even to make a client may take minutes.
        client = mlflow.MlflowClient()
        if client.get_run(self._ids[self._record.name]).info.status == "RUNNING":
            _end_runs([*self._ids.values()], status)


@contextmanager
def stage_run(
    stage: str,
    params: Mapping[str, Any],
    replicates: Sequence[tuple[str, ReplicateKey]] = (),
    check: Callable[[], None] = lambda: None,
) -> Iterator[StageRun]:
    """Run the block, which writes the outputs of `stage`, as a run of the stage with a child run per replicate.

    After the block the runs get all that the outputs say. They end as FAILED if the block raises, or as KILLED if it is
    interrupted.

    Args:
        check: called when all is logged, before a model is put in use: it raises what makes the stage fail.

    Raises:
        UserError: if there can be no store at this address, or if the block left an output out.
    """
    run = StageRun(stage, params, replicates)
    try:
        store.best_effort(run.start)
        yield run
        run.complete(check)
    except BaseException as error:
        status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
        store.best_effort(partial(run.end, status), at_end=True)
        raise


def log_run(record: Record) -> list[str]:
    """Log `record`, unless its run has ended, which it does last; return what was missing, for messages.

    Raises:
        StoreError: if the store fails.
    """
    with deferred_interrupts(), store_errors():
        run_ids, missing = _log(record)
        _end_runs(run_ids)
        return missing


def _log(record: Record) -> tuple[list[str], list[str]]:
    """Log what the files of a stage say to those of its runs that have not ended, but do not end them.

    Returns:
        Their ids, the stage's run first, and what was missing.
    """
    experiment_id, client, missing = store.open_store(), mlflow.MlflowClient(), []
    with FileLock(address.artifacts_folder() / ".log_run.lock"):
        runs = _open_runs(experiment_id, record)
        run_ids = [run.info.run_id for run in runs.values() if run.info.status != "FINISHED"]
        for each in (record, *record.replicates):
            run_id, at = runs[each.name].info.run_id, runs[each.name].info.start_time
            if run_id in run_ids:
                missing.append(f"run {each.name}")
                curves = [point for epoch in each.curves for point in _curve_points(epoch, at)]
                keys = {point.key for point in curves}  # The points that were logged in training have other times.
                logged = {key: {point.step for point in client.get_metric_history(run_id, key)} for key in keys}
                points = [Metric(key, value, at, 0) for key, value in each.metrics.items()]
                points += [point for point in curves if point.step not in logged[point.key]]
                tags = {**each.tags, **(record.identity() if each is record else {})}
                store.log_batches(run_id, each.params, points, tags)
            if run_id in run_ids and each is record:
                client.log_inputs(run_id, datasets=[_input(dataset) for dataset in record.datasets])
                for path in record.artifacts:
                    if (record.folder / path).is_dir():
                        client.log_artifacts(run_id, str(record.folder / path), path.as_posix())
                    else:
                        client.log_artifact(run_id, str(record.folder / path), path.parent.as_posix())
            for model in (each.model, _challenger(record) if each is record else None):
                if model:
                    missing += log_model(run_id, model, each.metrics, record.folder, record.commit_and_start())
        missing += _log_scores(runs[record.name].info.run_id, record)
    return run_ids, missing


def _challenger(record: Record) -> ModelRecord | None:
    """Return the challenger of a comparison, unless it is in use: that version keeps the tags of its own comparison."""
    if record.challenger and (in_use := version_in_use()) and in_use.tags.get("md5") == record.challenger.md5:
        return None
    return record.challenger


def _log_scores(run_id: str, record: Record) -> list[str]:
    """Log what a comparison found of replicates to their models and runs; name the models as inputs of its own run."""
    client, missing, digests = mlflow.MlflowClient(), [], {each.name: each.md5 for each in record.datasets}
    run = client.get_run(run_id)  # A run that was searched for lacks its models.
    linked = {each.model_id for each in (run.inputs.model_inputs if run.inputs else [])}
    for score in record.scores:
        query, newest = f"name = '{score.name}' AND tags.md5 = '{score.md5}'", {"field_name": "creation_timestamp"}
        order = [{**newest, "ascending": False}]
        for model in client.search_logged_models([run.info.experiment_id], query, max_results=1, order_by=order):
            digest, owner = digests[score.dataset], str(model.source_run_id)
            logged = {(each.key, each.value, each.dataset_digest) for each in model.metrics or []}
            points = [
                Metric(key, value, run.info.start_time, 0, model.model_id, score.dataset, digest, owner)
                for key, value in score.metrics.items()
                if (key, value, digest) not in logged
            ]
            if points or model.model_id not in linked:
                client.log_batch(owner, points)
                client.log_inputs(run_id, models=[LoggedModelInput(model.model_id)])
                missing.append(f"scores of {score.name}")
    return missing


def _conclude(record: Record, run_ids: Sequence[str], interrupted: Callable[[], bool]) -> bool:
    """Give a comparison's champion and challenger their aliases, unless interrupted; end the runs; return True."""
    for model, give_alias in ((record.model, promote), (record.challenger, challenge)):
        if model and not interrupted():
            with FileLock(address.artifacts_folder() / ".log_run.lock"):
                give_alias(model.md5, record.commit_and_start()["started"])
    _end_runs(run_ids)
    return True


def _end_runs(run_ids: Sequence[str], status: str = "FINISHED") -> None:
    """End the runs, the stage's run last: if it has ended, so have the others."""
    for run_id in reversed(run_ids):
        mlflow.MlflowClient().set_terminated(run_id, status)


def _open_runs(experiment_id: str, record: Record) -> dict[str, Run]:
    """Return the runs of a record by name, the stage's run first; create those that are missing."""
    # The run that was started for the record, or else those with the same content.
    same = (store.search_runs(experiment_id, {key: value}) for key, value in record.identity().items())
    found: list[Run] = next(filter(None, same), [])
    # One that failed stays so: its check raised. One that is complete needs nothing.
    found = sorted((run for run in found if run.info.status != "FAILED"), key=lambda run: run.info.status != "FINISHED")
    tags = {key: value for key, value in record.tags.items() if not key.startswith(("md5.", "file."))}
    route = {} if record.id else {"restored": "from files"}

    def create(name: str, identity: store.Texts) -> Run:
        started = record.started or None
        return mlflow.MlflowClient().create_run(experiment_id, started, {**tags, **route, **identity}, name)

    run = found[0] if found else create(record.name, record.identity())
    below = {"mlflow.parentRunId": run.info.run_id}
    children = {child.info.run_name: child for child in store.search_runs(experiment_id, below)}
    names = [each.name for each in record.replicates]
    return {record.name: run, **{name: children.get(name) or create(name, below) for name in names}}


def _curve_points(epoch: Mapping[str, Any], milliseconds: int) -> list[Metric]:
    """Return the measures of an epoch as points of curves."""
    step = int(epoch["epoch"])
    identity = ("seed", "fold", "epoch")
    return [Metric(key, value, milliseconds, step) for key, value in epoch.items() if key not in identity]


def _input(dataset: DatasetRecord) -> DatasetInput:
    described = Dataset(
        name=dataset.name,
        digest=dataset.md5,
        source_type="local",
        source=json.dumps({"uri": (DATA / dataset.name).as_posix()}),
        profile=json.dumps({"shape": dataset.shape}),
    )
    return DatasetInput(described, [InputTag("mlflow.data.context", dataset.name)])
