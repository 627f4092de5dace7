"""Models in MLflow: logged, registered, promoted, loaded."""

import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np
from mlflow.entities import LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from numpy.typing import NDArray
from sqlalchemy.exc import SQLAlchemyError

from motionbench.core.errors import UserError, one_line
from motionbench.tracking.record import REGISTERED, ModelRecord
from motionbench.tracking.store import open_store, store_name

CHAMPION = "champion"
SERVING_REQUIREMENTS = ("keras", "numpy", "pydantic", "ruamel.yaml", "tensorflow")


def promote(run_id: str, model: ModelRecord, folder: Path) -> None:
    """Log and register a model, unless this is done, and give its version the alias `champion`."""
    client = mlflow.MlflowClient()
    log_model(run_id, model, folder)
    versions = client.search_model_versions(f"name = '{model.name}'")
    version = next(each.version for each in versions if each.tags.get("md5") == model.md5)
    client.set_registered_model_alias(model.name, CHAMPION, version)


def load_champion() -> tuple[str, list[str], Callable[[NDArray[np.uint8]], NDArray[np.float32]]]:
    """Return the champion's name, its class names, and the function from clips to class probabilities.

    The clips have the shape (clips, frames, height, width, channels), the probabilities (clips, classes).

    Raises:
        UserError: if there is no champion, or the store is unavailable; the function raises it for clips of another
            shape than the champion was trained on.
    """
    try:
        open_store()
        champion = mlflow.MlflowClient().get_model_version_by_alias(REGISTERED, CHAMPION)
        model = mlflow.pyfunc.load_model(f"models:/{REGISTERED}@{CHAMPION}")
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise UserError(
            f"no champion in MLflow's store {store_name()} ({one_line(error)}); a model becomes one when it passes "
            "the gate in params.yaml: make repro; to log an earlier champion again: make mlflow-sync"
        ) from error
    expected = tuple(model.metadata.signature.inputs.inputs[0].shape[1:])

    def predict(clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        if clips.shape[1:] != expected:
            raise UserError(f"the champion takes clips of shape {expected}. Received: {clips.shape[1:]}")
        return np.asarray(model.predict(clips))

    return f"{REGISTERED} version {champion.version}", model.metadata.metadata["class_names"], predict


def log_model(run_id: str, model: ModelRecord, folder: Path) -> None:
    """Log a model, unless its run has it, so that `mlflow.pyfunc.load_model` opens it anywhere; register the best.

    This package's code is logged with it. Signature and requirements are given, so that MLflow need not run the model
    to infer them: logging takes a fraction of a second instead of half a minute.
    """
    client = mlflow.MlflowClient()
    outputs = client.get_run(run_id).outputs
    logged = [client.get_logged_model(output.model_id) for output in (outputs.model_outputs if outputs else [])]
    # A model whose logging was interrupted stays PENDING.
    ready = [each.model_id for each in logged if each.status == LoggedModelStatus.READY]
    model_id = ready[0] if ready else _log_archive(run_id, model, folder / model.path)
    versions = client.search_model_versions(f"name = '{model.name}'")
    if model.best and not any(each.run_id == run_id or each.tags.get("md5") == model.md5 for each in versions):
        mlflow.register_model(f"models:/{model_id}", model.name, tags={"md5": model.md5})


def _log_archive(run_id: str, model: ModelRecord, archive: Path) -> str:
    inputs = Schema([TensorSpec(np.dtype("uint8"), (-1, *model.clip_shape))])
    outputs = Schema([TensorSpec(np.dtype("float32"), (-1, len(model.class_names)))])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*input example was not provided")
        logged = Model.log(
            artifact_path=None, name="model", flavor=mlflow.pyfunc, run_id=run_id,
            loader_module="motionbench.tracking.serving", data_path=str(archive),
            code_paths=[str(Path(__file__).parents[1])],
            signature=ModelSignature(inputs=inputs, outputs=outputs),
            pip_requirements=[f"{name}=={version(name)}" for name in SERVING_REQUIREMENTS],
            metadata={"class_names": list(model.class_names)},
        )  # fmt: skip
    return str(logged.model_id)
