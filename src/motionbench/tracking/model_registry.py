"""Models in MLflow: logged, registered, promoted, loaded."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.types import ColSpec, Schema

from motionbench.tracking.record import ModelRecord
from motionbench.tracking.serving import describe_classes

SERVING_REQUIREMENTS = ("keras", "numpy", "pandas", "pydantic", "ruamel.yaml", "tensorflow")


def log_model(run_id: str, model: ModelRecord, folder: Path, origin: Mapping[str, str]) -> list[str]:
    """Log a model so that it opens anywhere, by pyfunc or Keras; register the best; name what of this was missing.

    The registered version is tagged with what is known of the model. The run that starts last tags it last.

    This package's code is logged with it. Signature and requirements are given, so that MLflow need not run the model
    to infer them: logging takes a fraction of a second instead of half a minute.

    Args:
        origin: commit and start of the run, as `Record.commit_and_start` returns them.
    """
    facts = {**model.facts, **origin}
    client, archive, missing = mlflow.MlflowClient(), folder / model.path, []
    run = client.get_run(run_id)
    found = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'")
    logged = [each for each in found if each.tags.get("md5") == model.md5]
    model_id = next((each.model_id for each in logged if _is_loadable(client, each, archive)), None)
    if model_id is None:
        # A model whose logging was interrupted, or whose files are gone, keeps its id.
        model_id = logged[0].model_id if logged else _create_model(client, run, model)
        _log_archive(client, run_id, model_id, model, archive, facts)
        missing.append(f"model {model.path}")
    if model.best:
        tags = {"md5": model.md5, "classes": describe_classes(model.class_names), **facts}
        registered = find_version(client, model, archive)
        if registered is None:
            mlflow.register_model(f"models:/{model_id}", model.name, tags=tags)
            missing.append(f"version of {model.name}")
        else:
            is_later = origin.get("started", "") > registered.tags.get("started", "")
            changed = {key: value for key, value in tags.items() if is_later or key not in registered.tags}
            for key, value in changed.items():
                client.set_model_version_tag(model.name, registered.version, key, value)
            missing += [f"tags of {model.name} version {registered.version}"] if changed else []
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


def find_version(client: mlflow.MlflowClient, model: ModelRecord, archive: Path) -> ModelVersion | None:
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


def _log_archive(
    client: mlflow.MlflowClient, run_id: str, model_id: str, model: ModelRecord, archive: Path, facts: Mapping[str, str]
) -> None:
    """Log an archive with two flavors, which mlflow.keras.save_model would do if the model were loaded."""
    described = Model(
        run_id=run_id, model_id=model_id, model_uuid=model_id,
        # No schema for clips: MLflow would convert numbers that `serving` refuses.
        signature=ModelSignature(outputs=Schema([ColSpec("double", name) for name in model.class_names])),
        metadata={
            **model.model_dump(mode="json", include={"class_names", "clip_shape", "resize", "seconds"}), **facts,
        },
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
