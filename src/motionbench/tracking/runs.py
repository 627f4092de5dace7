"""The run of a stage in MLflow, with a child run per replicate. Runs are a view of the stage's files, never the source.

The store may be unavailable, hang, crash or refuse: that costs a stage a few seconds, once. What the store missed is
logged at the end of the stage or, if it still fails, spooled for `make mlflow-sync`.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import mlflow
from filelock import FileLock
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Run

from motionbench.core.commands import deferred_interrupts
from motionbench.core.dvc_files import is_wall_clock
from motionbench.core.errors import one_line
from motionbench.core.paths import DATA, ReplicateKey
from motionbench.tracking import address, errors, store
from motionbench.tracking.champion import old_champion, promote
from motionbench.tracking.model_registry import log_model
from motionbench.tracking.record import (
    DatasetRecord,
    Record,
    ReplicateRecord,
    as_text,
    build_record,
    clip_md5s,
    spool,
)
from motionbench.training.results import replicate_key


class StageRun:
    """A stage's run as the stage sees it: no method waits long for the store or raises because it fails."""

    def __init__(self, stage: str, params: Mapping[str, Any], replicates: Sequence[tuple[str, ReplicateKey]]) -> None:
        self._params = params
        self._record = Record(
            stage=stage,
            id=uuid4().hex,
            started=store.current_milliseconds(),
            params=as_text(params),
            tags=store.source_tags(stage),
            replicates=[ReplicateRecord(model_name=name, key=key) for name, key in replicates],
        )
        self._logged_at: dict[str, dict[int, int]] = {each.name: {} for each in self._record.replicates}
        self._ids: dict[str, str] = {}

    def start(self) -> None:
        """Start the run and its child runs in the store."""
        experiment_id = store.open_store()
        store.end_abandoned_runs(experiment_id)
        ids, _ = _open_runs(experiment_id, self._record)
        store.log_batches(ids[self._record.stage], params=self._record.params)
        for each in self._record.replicates:
            store.log_batches(ids[each.name], params={**self._record.params, **each.params})
        self._ids = ids

    def log_epoch(self, model_name: str, epoch: Mapping[str, Any]) -> None:
        """Log the metrics of an epoch of a replicate as a step of its curves."""
        name, now = ReplicateRecord(model_name=model_name, key=replicate_key(epoch)).name, store.current_milliseconds()
        self._logged_at[name][int(epoch["epoch"])] = now
        if self._ids:
            points = store.curve_points(epoch, now)
            store.best_effort(partial(store.log_batches, self._ids[name], metrics=points))

    def complete(self, check: Callable[[], None]) -> None:
        """Log what the stage's files have and its runs lack; spool the record if the store fails.

        Raises:
            UserError: if `check`, which is called before anything takes effect, raises it.
        """
        ours = self._record
        record = build_record(ours.stage, self._params)
        replicates = [each.model_copy(update={"logged_at": self._logged_at[each.name]}) for each in record.replicates]
        identity = {"id": ours.id, "started": ours.started, "tags": {**record.tags, **ours.tags}}
        record = record.model_copy(update={**identity, "replicates": replicates})
        with deferred_interrupts() as interrupted:  # so that what is logged is also concluded
            logged = store.best_effort(partial(_write_record, record, ends=False), at_end=True)
            check()  # Logging may have taken long.
            conclude = partial(_conclude, record, promotes=not interrupted())
            if logged is None or store.best_effort(conclude, at_end=True) is None:
                _spool(record)

    def origin(self) -> dict[str, str]:
        """Return the run's id, its URL in MLflow's UI, by default that of `make ui`, and its commit.

        The reports show them: the URL has no credentials, of which a browser asks for its reader's own.
        """
        name = address.store_name()
        ui = name.partition("?")[0].rstrip("/") if name.startswith("http") else "http://127.0.0.1:5000"
        run_id = self._ids.get(self._record.stage, self._record.id)
        commit = self._record.tags["mlflow.source.git.commit"]
        return {"run_id": run_id, "url": f"{ui}/#/runs/{run_id}", "commit": commit}

    def old_champion(self, md5s: Mapping[str, str], *, chosen: bool) -> list[str]:
        """Say what becomes of the champion in use, now that the comparison has chosen one or none.

        Args:
            md5s: of the files and folders that the comparison used.
            chosen: whether it has chosen a champion.
        """
        data = None if chosen else clip_md5s(md5s)
        said = store.best_effort(partial(old_champion, self._record.commit_and_start()["started"], data))
        if said is None and chosen:
            return ["MLflow is unavailable. If it stays so, the champion is not in use; later: make mlflow-sync."]
        return said or []

    def end(self, status: str) -> None:
        """End the run and its child runs, unless they are complete already: an interrupt may come that late."""
        if not self._ids:
            return  # The store was unavailable; even to make a client may take minutes.
        client = mlflow.MlflowClient()
        if client.get_run(self._ids[self._record.stage]).info.status == "RUNNING":
            for run_id in reversed(self._ids.values()):
                client.set_terminated(run_id, status)


@contextmanager
def stage_run(
    stage: str, params: Mapping[str, Any], replicates: Sequence[tuple[str, ReplicateKey]] = (),
    check: Callable[[], None] = lambda: None,
) -> Iterator[StageRun]:  # fmt: skip
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


def _spool(record: Record) -> None:
    try:
        spool(record)
    except OSError as error:
        # The outputs are complete, and hours of work: they say all that the record does.
        reason = f"{one_line(error)}; make mlflow-sync can make a run from the outputs instead"
        print(f"warning: the record for MLflow cannot be kept: {reason}", file=sys.stderr, flush=True)


def log_run(record: Record) -> list[str]:
    """Log what the store lacks of `record`; return what was missing, for messages.

    Raises:
        StoreError: if the store fails.
    """
    with deferred_interrupts(), errors.store_errors():
        return _write_record(record)


def _write_record(record: Record, *, ends: bool = True) -> list[str]:
    """Log what the store lacks of `record` and, if it `ends`, end its runs; return what was missing."""
    experiment_id = store.open_store()
    with FileLock(address.artifacts_folder() / ".log_run.lock"):
        ids, missing = _open_runs(experiment_id, record)
        parent = ids[record.stage]
        missing += _log_missing(parent, record, record.params, {**record.tags, **record.identity()})
        missing += _log_missing_data(parent, record.datasets)
        missing += [str(path) for path in record.artifacts if _log_missing_files(parent, record.folder, path)]
        for each in record.replicates:
            model = {f"md5.{each.model.path}": each.model.md5} if each.model else {}
            params = {**record.params, **each.params}
            missing += _log_missing(ids[each.name], each, params, {**_shared_tags(record), **model})
            if each.model:
                missing += log_model(ids[each.name], each.model, record.folder, record.commit_and_start())
        if record.champion:
            missing += log_model(parent, record.champion, record.folder, record.commit_and_start())
        if ends:
            _end_runs(ids)
    return missing


def _conclude(record: Record, *, promotes: bool) -> bool:
    """End the runs of a stage that has just run and, if it `promotes`, put its champion in use; return True."""
    experiment_id = store.open_store()
    with FileLock(address.artifacts_folder() / ".log_run.lock"):
        if record.champion and promotes:
            promote(record.champion, record.folder, record.commit_and_start()["started"])
        _end_runs(_open_runs(experiment_id, record)[0])
    return True


def _end_runs(ids: dict[str, str]) -> None:
    client = mlflow.MlflowClient()
    for run_id in reversed(ids.values()):
        if client.get_run(run_id).info.status != "FINISHED":
            client.set_terminated(run_id)


def _open_runs(experiment_id: str, record: Record) -> tuple[dict[str, str], list[str]]:
    """Return the ids of a record's runs by name, the stage's run first, and the names of those that were missing."""
    start = partial(mlflow.MlflowClient().create_run, experiment_id, record.started or None)
    route = {} if record.id else {"restored": "from files"}
    # The run that was started for the record, or else those with the same content.
    same = (store.search_runs(experiment_id, {key: value}) for key, value in record.identity().items())
    found: list[Run] = next(filter(None, same), [])
    run = found[0] if found else start({**store.cut_tags(record.tags), **record.identity(), **route}, record.stage)
    below = {"mlflow.parentRunId": run.info.run_id}
    children = store.search_runs(experiment_id, below)
    ids = {record.stage: run.info.run_id, **{child.info.run_name: child.info.run_id for child in children}}
    missing = [each.name for each in record.replicates if each.name not in ids]
    for name in missing:
        ids[name] = start({**_shared_tags(record), **below, **route}, name).info.run_id
    return ids, [*([] if found else [f"run {record.stage}"]), *(f"run {name}" for name in missing)]


def _shared_tags(record: Record) -> dict[str, str]:
    return {key: value for key, value in record.tags.items() if not key.startswith(("md5.", "file."))}


def _log_missing(run_id: str, part: Record | ReplicateRecord, params: store.Texts, tags: store.Texts) -> list[str]:
    """Log the tags, parameters, metrics and points of curves that a run lacks, and name their kinds."""
    client = mlflow.MlflowClient()
    run, now = client.get_run(run_id), store.current_milliseconds()
    logged = run.data
    metrics = [Metric(key, value, now, 0) for key, value in part.metrics.items() if key not in logged.metrics]
    if isinstance(part, ReplicateRecord):
        points = [
            point
            for epoch in part.curves
            for point in store.curve_points(epoch, part.logged_at.get(int(epoch["epoch"]), now))
        ]
        keys = {point.key for point in points}
        steps = {key: {point.step for point in client.get_metric_history(run_id, key)} for key in keys}
        metrics += [point for point in points if point.step not in steps[point.key]]
    params = {key: value for key, value in params.items() if key not in logged.params}
    tags = {key: value for key, value in tags.items() if key not in logged.tags}
    store.log_batches(run_id, params=params, metrics=metrics, tags=tags)
    missing = {"parameters": params, "metrics": metrics, "tags": tags}
    return [f"{kind} of {run.info.run_name}" for kind, entries in missing.items() if entries]


def _log_missing_data(run_id: str, datasets: Sequence[DatasetRecord]) -> list[str]:
    client = mlflow.MlflowClient()
    inputs = client.get_run(run_id).inputs
    logged = {(each.dataset.name, each.dataset.digest) for each in (inputs.dataset_inputs if inputs else [])}
    missing = [each for each in datasets if (each.name, each.md5) not in logged]
    if missing:
        client.log_inputs(run_id, datasets=[_input(each) for each in missing])
    return [f"data {each.name}" for each in missing]


def _log_missing_files(run_id: str, folder: Path, path: Path) -> bool:
    """Log a file or folder unless the run has all its files, by name and size; return whether some were missing.

    Measured times differ between two runs with the same results, so that of their files the names count alone.
    """
    client = mlflow.MlflowClient()

    def known(file: str, size: int | None) -> tuple[str, int | None]:
        return file, None if is_wall_clock(file) else size

    def logged(place: str) -> Iterator[tuple[str, int | None]]:
        for each in client.list_artifacts(run_id, place):
            if each.is_dir:
                yield from logged(each.path)
            else:
                yield known(each.path, each.file_size)

    local = folder / path
    files = [file for file in (local.rglob("*") if local.is_dir() else [local]) if file.is_file()]
    wanted = {known(file.relative_to(folder).as_posix(), file.stat().st_size) for file in files}
    if wanted <= set(logged((path if local.is_dir() else path.parent).as_posix())):
        return False
    if local.is_dir():
        client.log_artifacts(run_id, str(local), path.as_posix())
    else:
        client.log_artifact(run_id, str(local), path.parent.as_posix())
    return True


def _input(dataset: DatasetRecord) -> DatasetInput:
    described = Dataset(
        name=dataset.name,
        digest=dataset.md5,
        source_type="local",
        source=json.dumps({"uri": (DATA / dataset.name).as_posix()}),
        profile=json.dumps({"shape": dataset.shape}),
    )
    return DatasetInput(described, [InputTag("mlflow.data.context", dataset.name)])
