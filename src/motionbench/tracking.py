"""The stages' and searches' runs in MLflow: a view of what they write to files, never their source.

The store is `MLFLOW_TRACKING_URI`, by default sqlite:///mlflow.db at the repository's root, where a plain
`mlflow ui` finds it.
"""

import os
import subprocess
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import mlflow
import numpy as np
from filelock import FileLock
from mlflow.entities import Run, RunStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from numpy.typing import NDArray
from sqlalchemy.exc import SQLAlchemyError

from motionbench.errors import UserError
from motionbench.files import file_md5
from motionbench.processes import is_gone, this_process

EXPERIMENT = "motionbench"
REGISTERED, CHAMPION = "motionbench", "champion"
SERVING_REQUIREMENTS = ("keras", "numpy", "pydantic", "ruamel.yaml", "tensorflow")


@contextmanager
def stage_run(stage: str, params: Mapping[str, Any], name: str | None = None) -> Iterator[str]:
    """Run the block as an active run of MLflow's for `stage`, with its parameters, and yield the run's id.

    The run is called `name`, by default as the stage.

    The run ends as FINISHED, as FAILED if the block raises, or as KILLED if it is interrupted.

    Raises:
        UserError: if the store cannot be opened.
    """
    experiment_id = _open_store()
    _end_abandoned_runs(experiment_id)
    run = mlflow.start_run(experiment_id=experiment_id, run_name=name or stage, tags=_provenance(stage))
    with _ended_as_the_block(mlflow.end_run):
        mlflow.log_params(dict(params))
        yield run.info.run_id


@contextmanager
def child_run(parent: str, name: str, params: Mapping[str, Any]) -> Iterator[str]:
    """Open a run below `parent` with the parent's tags, yield its id, and end it as `stage_run` does."""
    run_id = _start_child_run(parent, name, params)
    with _ended_as_the_block(partial(mlflow.MlflowClient().set_terminated, run_id)):
        yield run_id


def start_trial_run(parent: str, study: str, number: int, params: Mapping[str, Any]) -> str:
    """Start the run of a study's trial, and return its id; `end_trial_run` ends it."""
    tags = {"tuning.role": "trial", "tuning.number": str(number), "tuning.state": "running"}
    return _start_child_run(parent, f"{study} trial {number}", params, tags)


def _start_child_run(
    parent: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str] = MappingProxyType({})
) -> str:
    client = mlflow.MlflowClient()
    above = client.get_run(parent)
    tags = {**above.data.tags, **tags, "mlflow.runName": name, "mlflow.parentRunId": parent}
    run_id: str = client.create_run(above.info.experiment_id, tags=tags).info.run_id
    mlflow.log_params(dict(params), run_id=run_id)
    return run_id


def end_trial_run(
    run_id: str, state: Literal["completed", "pruned", "failed", "retried"], attributes: Mapping[str, Any]
) -> None:
    """End a trial's run, tagged with its state, its numeric attributes as metrics."""
    client = mlflow.MlflowClient()
    mlflow.log_metrics({k: v for k, v in attributes.items() if isinstance(v, int | float)}, run_id=run_id)
    client.set_tag(run_id, "tuning.state", state)
    if "failure" in attributes:
        client.set_tag(run_id, "tuning.failure", attributes["failure"])
    statuses = {"completed": "FINISHED", "pruned": "FINISHED", "failed": "FAILED", "retried": "KILLED"}
    client.set_terminated(run_id, statuses[state])


@contextmanager
def study_run(study: str, study_id: str, params: Mapping[str, Any]) -> Iterator[str]:
    """Run the block as MLflow's active run of a study, one and the same whenever the study goes on, and yield its id.

    It ends as a stage's run does.

    Raises:
        UserError: if the store cannot be opened.
    """
    experiment_id = _open_store()
    _end_abandoned_runs(experiment_id)
    with FileLock(_root() / "mlruns" / ".lock"):
        runs: list[Run] = mlflow.search_runs(
            [experiment_id],
            filter_string=f"tags.`tuning.id` = '{study_id}' and tags.`tuning.role` = 'study'",
            output_format="list",
        )
        tags = {**_provenance("tune"), "tuning.study": study, "tuning.id": study_id, "tuning.role": "study"}
        if runs:
            run = mlflow.start_run(run_id=runs[0].info.run_id)
            mlflow.set_tags(tags)
        else:
            run = mlflow.start_run(experiment_id=experiment_id, run_name=f"tune {study}", tags=tags)
            mlflow.log_params(dict(params))
    with _ended_as_the_block(mlflow.end_run):
        yield run.info.run_id


@contextmanager
def _ended_as_the_block(end: Callable[[str], object]) -> Iterator[None]:
    status = RunStatus.FAILED
    try:
        yield
        status = RunStatus.FINISHED
    except KeyboardInterrupt:
        status = RunStatus.KILLED
        raise
    finally:
        end(RunStatus.to_string(status))


def log_metrics(metrics: Mapping[str, Any], *, run_id: str | None = None) -> None:
    """Log numbers to a run, by default the active one."""
    mlflow.log_metrics(dict(metrics), run_id=run_id)


def log_epoch(epoch: Mapping[str, Any], *, run_id: str) -> None:
    """Log the measures of an epoch as a step of a run's curves."""
    curves = {key: value for key, value in epoch.items() if key not in ("seed", "epoch")}
    mlflow.log_metrics(curves, run_id=run_id, step=int(epoch["epoch"]))


def log_dataset(name: str, clips: NDArray[np.uint8], labels: NDArray[np.int64], md5: str) -> None:
    """Log a split as an input of the active run, under the md5 by which dvc.lock knows it."""
    dataset = mlflow.data.from_numpy(clips, targets=labels, name=name, digest=md5)  # type: ignore[attr-defined] # added to the module at run time
    mlflow.log_input(dataset, context=name)
    mlflow.set_tag(f"data.md5.{name}", md5)


def log_files(folder: Path, name: str) -> None:
    """Log all files of a folder as artifacts of the active run, in a folder called `name`."""
    mlflow.log_artifacts(str(folder), name)


def log_text(text: str, file: str, *, run_id: str) -> None:
    """Log `text` as an artifact called `file`."""
    mlflow.MlflowClient().log_text(run_id, text, file)


def log_model(
    archive: Path,
    loader: str,
    clip_shape: Sequence[int],
    class_names: Sequence[str],
    *,
    run_id: str,
    register_as: str | None,
) -> str | None:
    """Log a model's file so that `mlflow.pyfunc.load_model` opens it anywhere by `loader`, this package's code with it.

    Signature and requirements are given, so MLflow neither runs the model nor guesses: logging takes a fraction of a
    second instead of half a minute. Returned is its version, if it is registered.
    """
    inputs = Schema([TensorSpec(np.dtype("uint8"), (-1, *clip_shape))])
    outputs = Schema([TensorSpec(np.dtype("float32"), (-1, len(class_names)))])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*input example was not provided")
        info = Model.log(
            artifact_path=None,
            name="model",
            flavor=mlflow.pyfunc,
            run_id=run_id,
            registered_model_name=register_as,
            loader_module=loader,
            data_path=str(archive),
            code_paths=[str(Path(__file__).parent)],
            signature=ModelSignature(inputs=inputs, outputs=outputs),
            pip_requirements=[f"{name}=={version(name)}" for name in SERVING_REQUIREMENTS],
            metadata={"class_names": list(class_names)},
        )
    registered: str | None = info.registered_model_version
    return registered


def promote(archive: Path, loader: str, clip_shape: Sequence[int], class_names: Sequence[str], *, run_id: str) -> None:
    """Give a model's file the alias of the champion, as a new version of the registered model unless it has it."""
    client = mlflow.MlflowClient()
    md5 = file_md5(archive)
    try:
        if client.get_model_version_by_alias(REGISTERED, CHAMPION).tags.get("model.md5") == md5:
            return
    except MlflowException:
        pass  # There is none yet.
    registered = log_model(archive, loader, clip_shape, class_names, run_id=run_id, register_as=REGISTERED)
    assert registered
    client.set_model_version_tag(REGISTERED, registered, "model.md5", md5)
    client.set_registered_model_alias(REGISTERED, CHAMPION, registered)


def load_champion() -> tuple[str, list[str], Callable[[NDArray[np.uint8]], NDArray[np.float32]]]:
    """Return the champion's version, its classes' names, and the function from clips to class probabilities.

    Raises:
        UserError: if there is no champion, or the store cannot be opened; the function raises it for clips of a shape
            other than those that the champion was trained on.
    """
    _open_store()
    try:
        champion = mlflow.MlflowClient().get_model_version_by_alias(REGISTERED, CHAMPION)
    except MlflowException as error:
        reason = "no model has passed the gate in params.yaml yet, or its runs are in another store"
        raise UserError(
            f"no champion in {mlflow.get_tracking_uri()}: {reason}; train and compare: make repro"
        ) from error
    model = mlflow.pyfunc.load_model(f"models:/{REGISTERED}@{CHAMPION}")
    expected = tuple(model.metadata.signature.inputs.inputs[0].shape[1:])

    def predict(clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        if clips.shape[1:] != expected:
            raise UserError(f"the champion takes clips of shape {expected}. Received: {clips.shape[1:]}")
        return np.asarray(model.predict(clips))

    return f"{REGISTERED} version {champion.version}", model.metadata.metadata["class_names"], predict


def origin(run_id: str) -> dict[str, str]:
    """Return the run's id, its url in MLflow's pages, by default those of `make ui`, and the commit that it is of."""
    uri = mlflow.get_tracking_uri()
    pages = uri if uri.startswith("http") else "http://127.0.0.1:5000"
    return {"run_id": run_id, "url": f"{pages}/#/runs/{run_id}", "commit": _git("rev-parse", "HEAD") or "unknown"}


def _root() -> Path:
    """Return the repository's root, also where DVC runs an experiment in a temporary copy of it."""
    return Path(os.environ.get("DVC_ROOT", ".")).resolve()


def _open_store() -> str:
    """Point mlflow at the store, create the experiment where it is new, and return the experiment's id."""
    root = _root()
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    artifacts = root / "mlruns"
    artifacts.mkdir(exist_ok=True)
    try:
        # Processes that create a fresh database at once corrupt it.
        with FileLock(artifacts / ".lock"):
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
        reason = " ".join(str(error).split())
        raise UserError(
            f"MLflow's store {uri} cannot be opened: {reason}; set MLFLOW_TRACKING_URI to one that can"
        ) from error


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
        **{f"process.{key}": value for key, value in this_process().items()},
    }


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
