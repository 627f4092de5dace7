"""The stages' runs in MLflow: a view of what the stages write to files, never their source.

The store is `MLFLOW_TRACKING_URI`, by default sqlite:///mlflow.db at the repository's root, where a plain
`mlflow ui` finds it.
"""

import os
import socket
import subprocess
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import psutil
from filelock import FileLock
from mlflow.entities import Run, RunStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from numpy.typing import NDArray
from sqlalchemy.exc import SQLAlchemyError

from motionbench.errors import UserError

EXPERIMENT = "motionbench"
SERVING_REQUIREMENTS = ("keras", "numpy", "pydantic", "ruamel.yaml", "tensorflow")


@contextmanager
def stage_run(stage: str, params: Mapping[str, Any]) -> Iterator[str]:
    """Run the block as MLflow's active run of `stage`, with its parameters, and yield the run's id.

    The run ends as FINISHED, as FAILED if the block raises, or as KILLED if it is interrupted.

    Raises:
        UserError: if the store cannot be opened.
    """
    experiment_id = _open_store()
    _end_abandoned_runs(experiment_id)
    run = mlflow.start_run(experiment_id=experiment_id, run_name=stage, tags=_provenance(stage))
    with _ended_as_the_block(mlflow.end_run):
        mlflow.log_params(dict(params))
        yield run.info.run_id


@contextmanager
def child_run(parent: str, name: str, params: Mapping[str, Any]) -> Iterator[str]:
    """Open a run below `parent` with the parent's tags, yield its id, and end it as `stage_run` does."""
    client = mlflow.MlflowClient()
    above = client.get_run(parent)
    tags = {**above.data.tags, "mlflow.runName": name, "mlflow.parentRunId": parent}
    run_id = client.create_run(above.info.experiment_id, tags=tags).info.run_id
    with _ended_as_the_block(partial(client.set_terminated, run_id)):
        mlflow.log_params(dict(params), run_id=run_id)
        yield run_id


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
    archive: Path, loader: str, clip_shape: Sequence[int], classes: int, *, run_id: str, register_as: str | None
) -> None:
    """Log a model's file so that `mlflow.pyfunc.load_model` opens it anywhere by `loader`, this package's code with it.

    Signature and requirements are given, so MLflow neither runs the model nor guesses: logging takes a fraction of a
    second instead of half a minute.
    """
    inputs = Schema([TensorSpec(np.dtype("uint8"), (-1, *clip_shape))])
    outputs = Schema([TensorSpec(np.dtype("float32"), (-1, classes))])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*input example was not provided")
        Model.log(
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
        )


def _open_store() -> str:
    """Point mlflow at the store, create the experiment where it is new, and return the experiment's id."""
    # DVC_ROOT is the repository even where DVC runs an experiment in a temporary copy of it.
    root = Path(os.environ.get("DVC_ROOT", ".")).resolve()
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
    query = f"attributes.status = 'RUNNING' and tags.`process.host` = '{socket.gethostname()}'"
    runs: list[Run] = mlflow.search_runs([experiment_id], filter_string=query, output_format="list")
    for run in runs:
        identity = int(run.data.tags["process.id"]), run.data.tags["process.started"]
        if not psutil.pid_exists(identity[0]) or identity[1] != _process_started(identity[0]):
            mlflow.MlflowClient().set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.KILLED))


def _process_started(process_id: int) -> str:
    try:
        return str(psutil.Process(process_id).create_time())
    except psutil.NoSuchProcess:
        return ""


def _provenance(stage: str) -> dict[str, str]:
    # What DVC writes itself does not make the code or the parameters other than the commit's.
    changes = _git("status", "--porcelain", "--", ".", ":!dvc.lock", ":!metrics")
    return {
        "mlflow.source.git.commit": _git("rev-parse", "HEAD") or "unknown",
        "git.dirty": str(bool(changes)).lower(),
        "dvc.stage": stage,
        "dvc.experiment": os.environ.get("DVC_EXP_NAME", ""),
        "process.host": socket.gethostname(),
        "process.id": str(os.getpid()),
        "process.started": _process_started(os.getpid()),
    }


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
