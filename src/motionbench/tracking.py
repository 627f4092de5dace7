"""The stages' and searches' runs in MLflow: a view of what they write to files, never their source.

The store is `MLFLOW_TRACKING_URI`, by default sqlite:///mlflow.db at the repository's root, where a plain
`mlflow ui` finds it. A store that refuses, hangs or dies costs a stage seconds, once: what it missed is delivered at
the stage's end or, if it is still away, kept for `make mlflow-sync`.
"""

import json
import logging
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeVar
from uuid import uuid4

import mlflow
import numpy as np
import sqlalchemy
from filelock import FileLock
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelStatus, Metric, Param, Run, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.types import Schema, TensorSpec
from numpy.typing import NDArray
from sqlalchemy.exc import SQLAlchemyError

from motionbench import records
from motionbench.environment import describe_environment
from motionbench.errors import UserError, deferred_interrupts, without_password
from motionbench.files import repository_root
from motionbench.processes import is_gone, this_process
from motionbench.records import Record, Replicate

EXPERIMENT = "motionbench"
CHAMPION = "champion"
COMPLETE = "record.complete"  # tag of a stage's run that has all that it is to have
SERVING_REQUIREMENTS = ("keras", "numpy", "pydantic", "ruamel.yaml", "tensorflow")
AWAY = (MlflowException, SQLAlchemyError, OSError, UserError)
"""What a call raises when the store is away; requests' exceptions are OSErrors."""
FIRST_PAUSE_SECONDS = 5.0
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


class _Patience:
    """Calls to a store that may be away: the first failure is said, each is followed by a pause, ever longer."""

    def __init__(self) -> None:
        self._pause = FIRST_PAUSE_SECONDS
        self._next = 0.0
        self._said = False

    def __call__(self, call: Callable[[], Result], *, at_once: bool = False) -> Result | None:
        """Return what `call` returns, or None if the store is away or, unless `at_once`, was so a moment ago."""
        if not at_once and time.monotonic() < self._next:
            return None
        try:
            with deferred_interrupts():
                return call()
        except AWAY as error:
            self._next = time.monotonic() + self._pause
            self._pause *= 2
            if not self._said:
                print(
                    f"warning: MLflow's store {store_name()} does not answer ({_reason(error)}); work "
                    "goes on; what it misses is delivered at the end, or by: make mlflow-sync",
                    file=sys.stderr,
                    flush=True,
                )
            self._said = True
            return None


_patiently = _Patience()


class _Runs(NamedTuple):
    """Ids of a stage's run and, by the replicate's name, of those below it."""

    parent: str
    replicates: dict[str, str]


class StageRun:
    """A stage's run as the stage sees it: no method waits long for the store, none raises because it is away."""

    def __init__(self, stage: str, params: Mapping[str, Any], replicates: Sequence[tuple[str, int]]) -> None:
        flat = records.as_text(params)
        self._record = Record(
            stage=stage,
            id=uuid4().hex,
            started=_now(),
            params=flat,
            tags=_provenance(stage),
            replicates=[
                Replicate(model_name=model_name, seed=seed, params={**flat, "seed": str(seed)})
                for model_name, seed in replicates
            ],
        )
        self._logged_at: dict[str, dict[int, int]] = {each.name: {} for each in self._record.replicates}
        self._unsent: list[tuple[str, list[Metric]]] = []
        self._runs: _Runs | None = None

    def start(self) -> None:
        """Start the run and those below it in the store, or find them there."""
        experiment_id = _open_store()
        _end_abandoned_runs(experiment_id)
        runs = _open_runs(experiment_id, self._record)
        _log(runs.parent, params=self._record.params)
        for each in self._record.replicates:
            _log(runs.replicates[each.name], params=each.params)
        self._runs = runs

    def log_epoch(self, model_name: str, epoch: Mapping[str, Any]) -> None:
        """Log the measures of an epoch of a replicate as a step of its curves."""
        name, now = Replicate(model_name=model_name, seed=epoch["seed"], params={}).name, _now()
        self._logged_at[name][int(epoch["epoch"])] = now
        self._unsent.append((name, _points(epoch, now)))
        _patiently(self._send)

    def _send(self) -> None:
        if not self._runs:
            self.start()
        assert self._runs
        while self._unsent:
            name, metrics = self._unsent[0]
            _log(self._runs.replicates[name], metrics=metrics)
            self._unsent.pop(0)

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
        if _patiently(partial(_deliver, whole), at_once=True) is None:
            records.keep(whole)

    def origin(self) -> dict[str, str]:
        """Return the run's id, its url in MLflow's pages, by default those of `make ui`, and its commit."""
        store = _store()
        pages = store if store.startswith("http") else "http://127.0.0.1:5000"
        run_id = self._runs.parent if self._runs else self._record.id
        commit = self._record.tags["mlflow.source.git.commit"]
        return {"run_id": run_id, "url": f"{pages}/#/runs/{run_id}", "commit": commit}

    def end(self, status: str) -> None:
        """End the run and those below it, unless they are complete: an interrupt may come as late as that."""
        if self._runs:
            _patiently(partial(_end_incomplete, self._runs, status), at_once=True)


@contextmanager
def stage_run(stage: str, params: Mapping[str, Any], replicates: Sequence[tuple[str, int]] = ()) -> Iterator[StageRun]:
    """Run the block as a run of `stage`, with a run below it for each replicate; its last call is to be `complete`.

    The runs end as FAILED if the block raises, or as KILLED if it is interrupted.

    Raises:
        UserError: if the store can never be opened.
    """
    if not _is_on_a_server():
        _open_store()
    run = StageRun(stage, params, replicates)
    try:
        _patiently(run.start)
        yield run
    except KeyboardInterrupt:
        run.end(RunStatus.to_string(RunStatus.KILLED))
        raise
    except BaseException:
        run.end(RunStatus.to_string(RunStatus.FAILED))
        raise


def deliver(record: Record) -> bool:
    """See to it that the store holds all of `record` once, and tell whether something was missing.

    Raises:
        UserError: if the store is away.
    """
    try:
        with deferred_interrupts():
            return _deliver(record)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise UserError(
            f"MLflow's store {store_name()} does not answer: {_reason(error)}; start it, and type the "
            "same again: nothing is lost and nothing is delivered twice"
        ) from error


def _deliver(record: Record) -> bool:
    experiment_id = _open_store()
    with FileLock(repository_root() / "mlruns" / ".delivery"):
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
                _log_model(run_id, each.model, record.folder)
            client.set_terminated(run_id)
        if record.champion:
            _promote(runs.parent, record.champion, record.folder)
        client.set_terminated(runs.parent)
        client.set_tag(runs.parent, COMPLETE, "true")
    return True


def _find_runs(experiment_id: str, record: Record) -> list[Run]:
    """Return the run that `record` was begun as, or those with the same content."""
    begun = _search(experiment_id, {"record.id": record.id}) if record.id else []
    return begun or (_search(experiment_id, {"record.content": record.content}) if record.content else [])


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
    below = {run.info.run_name: run.info.run_id for run in _search(experiment_id, {"mlflow.parentRunId": parent})}
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


def _fill(run_id: str, part: Record | Replicate, tags: Mapping[str, str]) -> None:
    """Log what a run has not yet of parameters, metrics and curves."""
    client = mlflow.MlflowClient()
    there = client.get_run(run_id).data
    now = _now()
    metrics = [Metric(key, value, now, 0) for key, value in part.metrics.items() if key not in there.metrics]
    if isinstance(part, Replicate):
        points = [
            point for epoch in part.curves for point in _points(epoch, part.logged_at.get(int(epoch["epoch"]), now))
        ]
        steps = {
            key: {point.step for point in client.get_metric_history(run_id, key)}
            for key in {point.key for point in points}
        }
        metrics += [point for point in points if point.step not in steps[point.key]]
    params = {key: value for key, value in part.params.items() if key not in there.params}
    _log(run_id, params=params, metrics=metrics, tags=tags)


def _points(epoch: Mapping[str, Any], milliseconds: int) -> list[Metric]:
    step = int(epoch["epoch"])
    return [Metric(key, value, milliseconds, step) for key, value in epoch.items() if key not in ("seed", "epoch")]


def _log(
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


def _input(dataset: records.Dataset) -> DatasetInput:
    described = Dataset(
        name=dataset.name,
        digest=dataset.md5,
        source_type="local",
        source=json.dumps({"uri": f"data/{dataset.name}"}),
        profile=json.dumps({"shape": dataset.shape}),
    )
    return DatasetInput(described, [InputTag("mlflow.data.context", dataset.name)])


def _promote(run_id: str, model: records.Model, folder: Path) -> None:
    """Give the alias of the champion to the registered model with this content."""
    client = mlflow.MlflowClient()
    _log_model(run_id, model, folder)
    versions = client.search_model_versions(f"name = '{model.name}'")
    version = next(each.version for each in versions if each.tags.get("md5") == model.md5)
    client.set_registered_model_alias(model.name, CHAMPION, version)


def load_champion() -> tuple[str, list[str], Callable[[NDArray[np.uint8]], NDArray[np.float32]]]:
    """Return the champion's name, its classes' names, and the function from clips to class probabilities.

    Raises:
        UserError: if there is no champion, or the store is away; the function raises it for clips of a shape other
            than those that the champion was trained on.
    """
    try:
        _open_store()
        champion = mlflow.MlflowClient().get_model_version_by_alias(records.REGISTERED, CHAMPION)
        model = mlflow.pyfunc.load_model(f"models:/{records.REGISTERED}@{CHAMPION}")
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise UserError(
            f"no champion in MLflow's store {store_name()} ({_reason(error)}); a model becomes one by passing the gate "
            "in params.yaml: make repro; one that has is brought back by: make mlflow-sync"
        ) from error
    expected = tuple(model.metadata.signature.inputs.inputs[0].shape[1:])

    def predict(clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        if clips.shape[1:] != expected:
            raise UserError(f"the champion takes clips of shape {expected}. Received: {clips.shape[1:]}")
        return np.asarray(model.predict(clips))

    return f"{records.REGISTERED} version {champion.version}", model.metadata.metadata["class_names"], predict


def _log_model(run_id: str, model: records.Model, folder: Path) -> None:
    """Log a model, unless its run has it, so that `mlflow.pyfunc.load_model` opens it anywhere; register the best.

    This package's code goes with it. Signature and requirements are given, so MLflow neither runs the model nor
    guesses: logging takes a fraction of a second instead of half a minute.
    """
    client = mlflow.MlflowClient()
    outputs = client.get_run(run_id).outputs
    logged = [client.get_logged_model(output.model_id) for output in (outputs.model_outputs if outputs else [])]
    # One that was interrupted stays PENDING.
    ready = [each.model_id for each in logged if each.status == LoggedModelStatus.READY]
    model_id = ready[0] if ready else _log_archive(run_id, model, folder / model.path)
    versions = client.search_model_versions(f"name = '{model.name}'")
    if model.best and not any(each.run_id == run_id or each.tags.get("md5") == model.md5 for each in versions):
        mlflow.register_model(f"models:/{model_id}", model.name, tags={"md5": model.md5})


def _log_archive(run_id: str, model: records.Model, archive: Path) -> str:
    inputs = Schema([TensorSpec(np.dtype("uint8"), (-1, *model.clip_shape))])
    outputs = Schema([TensorSpec(np.dtype("float32"), (-1, len(model.class_names)))])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*input example was not provided")
        logged = Model.log(
            artifact_path=None,
            name="model",
            flavor=mlflow.pyfunc,
            run_id=run_id,
            loader_module=model.loader,
            data_path=str(archive),
            code_paths=[str(Path(__file__).parent)],
            signature=ModelSignature(inputs=inputs, outputs=outputs),
            pip_requirements=[f"{name}=={version(name)}" for name in SERVING_REQUIREMENTS],
            metadata={"class_names": list(model.class_names)},
        )
    return str(logged.model_id)


def find_runs(tags: Mapping[str, str]) -> list[Run] | None:
    """Return the runs with these tags, newest first; None if there is no store, which stays so, or it is away."""
    return _look(lambda experiment_id: _search(experiment_id, tags))


def find_run(run_id: str) -> Run | None:
    """Return the run of this id, None if it is not in the store or there is none."""
    return _look(lambda _: mlflow.MlflowClient().get_run(run_id))


def find_runs_with(md5: str) -> list[Run]:
    """Return the runs that name this md5 as that of an output or of data, newest first."""
    runs = _look(lambda experiment_id: _search(experiment_id, {}))
    return [run for run in runs or [] if md5 in (value for key, value in run.data.tags.items() if "md5." in key)]


def _look(call: Callable[[str], Result]) -> Result | None:
    if _store().startswith("sqlite:///") and not Path(_store().removeprefix("sqlite:///")).exists():
        return None
    try:
        return call(_open_store())
    except AWAY:
        return None


def store_name() -> str:
    """Return the store's address without a password."""
    return without_password(_store())


def start_trial_run(parent: str, study: str, number: int, params: Mapping[str, Any]) -> str:
    """Start the run of a study's trial, and return its id, "" if the store is away; `end_trial_run` ends it."""
    if not parent:
        return ""
    client = mlflow.MlflowClient()

    def start() -> str:
        above = client.get_run(parent)
        tags = {"tuning.role": "trial", "tuning.number": str(number), "tuning.state": "running"}
        tags = {**above.data.tags, **tags, "mlflow.runName": f"{study} trial {number}", "mlflow.parentRunId": parent}
        run_id: str = client.create_run(above.info.experiment_id, tags=tags).info.run_id
        _log(run_id, params={key: str(value) for key, value in params.items()})
        return run_id

    return _patiently(start) or ""


def log_trial_epoch(run_id: str, epoch: Mapping[str, Any]) -> None:
    """Log the measures of an epoch as a step of the curves of a trial's run."""
    if run_id:
        _patiently(partial(_log, run_id, metrics=_points(epoch, _now())))


def end_trial_run(
    run_id: str, state: Literal["completed", "pruned", "failed", "retried"], attributes: Mapping[str, Any]
) -> None:
    """End a trial's run, tagged with its state, its numeric attributes as metrics."""
    if not run_id:
        return
    statuses = {"completed": "FINISHED", "pruned": "FINISHED", "failed": "FAILED", "retried": "KILLED"}
    numbers = [Metric(k, v, _now(), 0) for k, v in attributes.items() if isinstance(v, int | float)]
    tags = {"tuning.state": state} | ({"tuning.failure": attributes["failure"]} if "failure" in attributes else {})

    def end() -> None:
        _log(run_id, metrics=numbers, tags=tags)
        mlflow.MlflowClient().set_terminated(run_id, statuses[state])

    _patiently(end)


@contextmanager
def study_run(study: str, study_id: str, params: Mapping[str, Any]) -> Iterator[str]:
    """Run the block as the run of a study, one and the same whenever the study goes on, and yield its id.

    The id is "" if the store is away. The run ends as FINISHED, as FAILED if the block raises, or as KILLED if it is
    interrupted.

    Raises:
        UserError: if the store can never be opened.
    """
    if not _is_on_a_server():
        _open_store()
    run_id, status = "", RunStatus.FAILED
    try:
        with deferred_interrupts():  # until its id is known
            run_id = _patiently(partial(_open_study_run, study, study_id, params)) or ""
        yield run_id
        status = RunStatus.FINISHED
    except KeyboardInterrupt:
        status = RunStatus.KILLED
        raise
    finally:
        if run_id:
            end = partial(mlflow.MlflowClient().set_terminated, run_id, RunStatus.to_string(status))
            _patiently(end, at_once=True)


def _open_study_run(study: str, study_id: str, params: Mapping[str, Any]) -> str:
    experiment_id = _open_store()
    _end_abandoned_runs(experiment_id)
    client = mlflow.MlflowClient()
    tags = {**_provenance("tune"), "tuning.study": study, "tuning.id": study_id, "tuning.role": "study"}
    with FileLock(repository_root() / "mlruns" / ".lock"):
        if runs := _search(experiment_id, {"tuning.id": study_id, "tuning.role": "study"}):
            run_id = str(runs[0].info.run_id)
            client.update_run(run_id, RunStatus.to_string(RunStatus.RUNNING))
            _log(run_id, tags=tags)
        else:
            run_id = client.create_run(experiment_id, tags=tags, run_name=f"tune {study}").info.run_id
            _log(run_id, params={key: str(value) for key, value in params.items()})
    return run_id


def log_outcome(run_id: str, metrics: Mapping[str, float], folder: Path) -> None:
    """Log what a study found to its run: numbers, and the files of a folder."""
    if not run_id:
        return

    def log() -> None:
        _log(run_id, metrics=[Metric(key, value, _now(), 0) for key, value in metrics.items()])
        mlflow.MlflowClient().log_artifacts(run_id, str(folder), "tuning")

    _patiently(log)


def _store() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{repository_root() / 'mlflow.db'}"


def _is_on_a_server() -> bool:
    """Tell whether the store may come back when it is away, and so is no mistake of the user's."""
    return _store().startswith(("http:", "https:", "postgresql", "mysql", "mssql"))


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _now() -> int:
    return int(time.time() * 1000)


def _open_store() -> str:
    """Point mlflow at the store, create the experiment where it is new, and return the experiment's id."""
    uri = _store()
    for name, value in BOUNDS.items():
        os.environ.setdefault(name, value)
    # They tell of each try; that the store is away is said once.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    artifacts = repository_root() / "mlruns"
    try:
        artifacts.mkdir(exist_ok=True)
        mlflow.set_tracking_uri(uri)
        if _is_on_a_server() and not uri.startswith("http"):
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
        if _is_on_a_server():
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
    artifacts = (repository_root() / "mlruns").as_uri()
    SqlAlchemyStore(f"sqlite:///{partial}", artifacts).engine.dispose()  # type: ignore[no-untyped-call] # mlflow ships none
    partial.replace(path)


def _search(experiment_id: str, tags: Mapping[str, str]) -> list[Run]:
    query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    runs: list[Run] = mlflow.search_runs([experiment_id], filter_string=query, output_format="list")
    return runs


def _end_abandoned_runs(experiment_id: str) -> None:
    """Mark as KILLED the runs whose process on this machine ended without a word, as by SIGKILL."""
    runs: list[Run] = mlflow.search_runs(
        [experiment_id], filter_string="attributes.status = 'RUNNING'", output_format="list"
    )
    for run in runs:
        # A run that somebody logged by hand names no process, and is left alone.
        if is_gone({key: run.data.tags.get(f"process.{key}", "") for key in this_process()}):
            mlflow.MlflowClient().set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.KILLED))


def _provenance(stage: str) -> dict[str, str]:
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
