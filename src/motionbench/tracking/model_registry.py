"""Models in MLflow: logged, registered, promoted, loaded."""

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import mlflow
import pandas as pd
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.types import ColSpec, Schema

from motionbench.core.errors import UserError, one_line
from motionbench.data.decoding import Preprocessing
from motionbench.data.splits import Clips
from motionbench.data.synthetic.frames import FRAME_SECONDS
from motionbench.tracking.record import REGISTERED, ModelRecord
from motionbench.tracking.store import RefusedError, open_store, store_errors, store_name

CHAMPION = "champion"
SERVING_REQUIREMENTS = ("keras", "numpy", "pandas", "pydantic", "ruamel.yaml", "tensorflow")


def promote(run_id: str, model: ModelRecord, folder: Path) -> list[str]:
    """Log and register a model, give its version the alias `champion`, and name what of this was missing."""
    missing = log_model(run_id, model, folder)
    client = mlflow.MlflowClient()
    version = _find_version(client, model, folder / model.path)
    if version and client.get_registered_model(model.name).aliases.get(CHAMPION) != version.version:
        client.set_registered_model_alias(model.name, CHAMPION, version.version)
        missing.append(f"alias {CHAMPION} of {model.name}")
    return missing


class Champion(NamedTuple):
    """The registered model that is in use."""

    name: str
    preprocessing: Preprocessing  # of the clips that it was trained with
    seconds: float  # their median duration
    predict: Callable[[Clips], pd.DataFrame]  # returns the probability of each class, a column each


def load_champion() -> Champion:
    """Load the champion, with what it needs to know of its training to classify a file.

    Raises:
        UserError: if there is no champion, or the store fails. Its function raises it for clips of another shape than
            the champion was trained on.
    """
    try:
        with store_errors():
            open_store()
            champion = mlflow.MlflowClient().get_model_version_by_alias(REGISTERED, CHAMPION)
            model = mlflow.pyfunc.load_model(f"models:/{REGISTERED}@{CHAMPION}")
    except RefusedError as error:
        raise UserError(
            f"no champion in MLflow's store {store_name()} ({one_line(error.__cause__)}); a model becomes one when it "
            "passes the gate in params.yaml: make repro; to log an earlier champion again: make mlflow-sync"
        ) from error

    def predict(clips: Clips) -> pd.DataFrame:
        try:
            return pd.DataFrame(model.predict(clips))
        except MlflowException as error:
            raise UserError(f"the champion refuses the clip: {one_line(error)}") from error

    described = model.metadata.metadata or {}
    frames, height, width, channels = described["clip_shape"]
    # A model that an earlier version of this project logged does not say how clips of other shapes are resized.
    resize = described.get("resize", "pad")
    preprocessing = Preprocessing(frames, height, width, "grey" if channels == 1 else "rgb", resize)
    seconds = described.get("seconds") or frames * FRAME_SECONDS
    return Champion(f"{REGISTERED} version {champion.version}", preprocessing, seconds, predict)


def log_model(run_id: str, model: ModelRecord, folder: Path) -> list[str]:
    """Log a model so that it opens anywhere, by pyfunc or Keras; register the best; name what of this was missing.

    This package's code is logged with it. Signature and requirements are given, so that MLflow need not run the model
    to infer them: logging takes a fraction of a second instead of half a minute.
    """
    client, archive, missing = mlflow.MlflowClient(), folder / model.path, []
    run = client.get_run(run_id)
    found = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'")
    logged = [each for each in found if each.tags.get("md5") == model.md5]
    model_id = next((each.model_id for each in logged if _is_loadable(client, each, archive)), None)
    if model_id is None:
        # A model whose logging was interrupted, or whose files are gone, keeps its id.
        model_id = logged[0].model_id if logged else _create_model(client, run, model)
        _log_archive(client, run_id, model_id, model, archive)
        missing.append(f"model {model.path}")
    if model.best and not _find_version(client, model, archive):
        mlflow.register_model(f"models:/{model_id}", model.name, tags={"md5": model.md5})
        missing.append(f"version of {model.name}")
    return missing


def _create_model(client: mlflow.MlflowClient, run: Run, model: ModelRecord) -> str:
    """Create a logged model with the parameters and metrics of its run, and return its id."""
    run_id, name, tags = run.info.run_id, f"{model.name} {model.path.stem}", {"md5": model.md5}
    created = client.create_logged_model(run.info.experiment_id, name, run_id, tags, run.data.params)
    client.log_outputs(run_id, [LoggedModelOutput(created.model_id, 0)])
    metrics = [
        Metric(key, point.value, point.timestamp, 0, created.model_id, run_id=run_id)
        for key in run.data.metrics
        for point in client.get_metric_history(run_id, key)
        if point.step == 0
    ]
    client.log_batch(run_id, metrics)
    return str(created.model_id)


def _find_version(client: mlflow.MlflowClient, model: ModelRecord, archive: Path) -> ModelVersion | None:
    """Return the newest version of a registered model that has this archive and can be loaded."""
    for each in client.search_model_versions(f"name = '{model.name}'", order_by=["version_number DESC"]):
        if each.tags.get("md5") != model.md5:
            continue
        try:
            logged = client.get_logged_model((each.source or "").removeprefix("models:/"))
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                raise
        else:
            if _is_loadable(client, logged, archive):
                return each
    return None


def _is_loadable(client: mlflow.MlflowClient, logged: LoggedModel, archive: Path) -> bool:
    """Return whether a logged model is complete and its copy of the archive is there."""
    if logged.status != LoggedModelStatus.READY:
        return False
    files = client.list_logged_model_artifacts(logged.model_id, "data")
    return (f"data/{archive.name}", archive.stat().st_size) in {(file.path, file.file_size) for file in files}


def _log_archive(client: mlflow.MlflowClient, run_id: str, model_id: str, model: ModelRecord, archive: Path) -> None:
    """Log an archive with two flavors, which mlflow.keras.save_model would do if the model were loaded."""
    described = Model(
        run_id=run_id, model_id=model_id, model_uuid=model_id,
        # No schema for clips: MLflow would convert numbers that `serving` refuses.
        signature=ModelSignature(outputs=Schema([ColSpec("double", name) for name in model.class_names])),
        metadata=model.model_dump(mode="json", include={"class_names", "clip_shape", "resize", "seconds"}),
    )  # fmt: skip
    described.add_flavor(
        "keras", data=f"data/{archive.stem}", keras_backend="tensorflow", keras_version=version("keras"),
        save_exported_model=False,
    )  # fmt: skip
    with TemporaryDirectory() as folder:
        path = f"{folder}/model"
        mlflow.pyfunc.save_model(
            path=path, mlflow_model=described, data_path=str(archive),
            loader_module="motionbench.tracking.serving", code_paths=[str(Path(__file__).parents[1])],
            pip_requirements=[f"{name}=={version(name)}" for name in SERVING_REQUIREMENTS],
        )  # fmt: skip
        client.log_model_artifacts(model_id, path)
    client.finalize_logged_model(model_id, LoggedModelStatus.READY)
