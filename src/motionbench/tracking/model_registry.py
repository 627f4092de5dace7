"""Models in MLflow: logged, and the best of them registered."""

import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema

from motionbench.models.onnx_runtime import with_metadata
from motionbench.tracking.record import ModelRecord, logged_name
from motionbench.tracking.serving import BACKBONE, KERAS_REQUIREMENTS, ONNX_REQUIREMENTS, describe_classes


def log_model(
    run_id: str, model: ModelRecord, metrics: Mapping[str, float], folder: Path, origin: Mapping[str, str]
) -> list[str]:
    """Log a model so that it opens anywhere, by pyfunc or Keras; register the best; name what of this was missing.

    The registered version is tagged with what is known of the model. The run that starts last tags it last.

    This package's code is logged with it. Signature and requirements are given, so that MLflow need not run the model
    to infer them: logging takes a fraction of a second instead of half a minute.

    Args:
        metrics: those of the run, which its model shows too.
        folder: what the path of the model is relative to.
        origin: commit and start of the run, as `Record.commit_and_start` returns them.
    """
    facts, missing = {**model.facts, **origin}, []
    client = mlflow.MlflowClient()
    run = client.get_run(run_id)
    logged = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'")
    status = {each.model_id: each.status for each in logged if each.tags.get("md5") == model.md5}
    model_id = next(iter(status), None)  # A model whose logging was interrupted keeps its id.
    if model_id is None:
        name, tags = logged_name(model.name, model.path), {"md5": model.md5}
        model_id = client.create_logged_model(run.info.experiment_id, name, run_id, tags, run.data.params).model_id
        client.log_outputs(run_id, [LoggedModelOutput(model_id, 0)])
    complete = status.get(model_id) == LoggedModelStatus.READY and client.list_logged_model_artifacts(model_id, "data")
    if not complete:  # or its files are gone
        at = run.info.start_time
        client.log_batch(run_id, [Metric(*each, at, 0, model_id, run_id=run_id) for each in metrics.items()])
        _log_archive(run_id, model_id, model, folder, facts)
        missing.append(f"model {model.path}")
    if model.best:
        tags = {"md5": model.md5, "classes": describe_classes(model.class_names), **facts}
        registered = find_version(model.name, model.md5)
        if registered is None:
            registered = mlflow.register_model(f"models:/{model_id}", model.name, tags=tags)
            missing.append(f"version of {model.name}")
        elif origin.get("started", "") > registered.tags.get("started", ""):
            for key, value in tags.items():
                client.set_model_version_tag(model.name, registered.version, key, value)
            missing.append(f"tags of {model.name} version {registered.version}")
        elif registered.description:
            return missing
        client.update_model_version(model.name, registered.version, model.description)
    return missing


def find_version(name: str, md5: str) -> ModelVersion | None:
    """Return the newest version of a registered model that has the archive with this md5 and can be loaded.

    A version stays when its model was deleted in MLflow's pages, or the model's files elsewhere.
    """
    client = mlflow.MlflowClient()
    query = f"name = '{name}' and tags.md5 = '{md5}'"
    for each in client.search_model_versions(query, order_by=["version_number DESC"]):
        try:
            files = client.list_logged_model_artifacts(str(each.source).removeprefix("models:/"), "data")
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            files = []  # The model was deleted.
        if files:
            return each
    return None


def _log_archive(run_id: str, model_id: str, model: ModelRecord, folder: Path, facts: Mapping[str, str]) -> None:
    """Log an archive with two flavors, which mlflow.keras.save_model would do if the model were loaded."""
    described = Model(
        run_id=run_id,
        model_id=model_id,
        model_uuid=model_id,
        # No schema for clips: MLflow would convert numbers that `serving` refuses.
        signature=ModelSignature(outputs=Schema([ColSpec("double", name) for name in model.class_names])),
        metadata={
            **model.model_dump(mode="json", include={"class_names", "clip_shape", "resize", "seconds", "side"}),
            **facts,
        },
    )
    archive = folder / model.path
    if model.backbone is None:  # else the archive lacks what makes its input
        keras = {"keras_backend": "tensorflow", "keras_version": version("keras"), "save_exported_model": False}
        described.add_flavor("keras", data=f"data/{archive.stem}", **keras)
    with TemporaryDirectory() as new:
        mlflow.pyfunc.save_model(
            path=f"{new}/model",
            mlflow_model=described,
            data_path=str(archive),
            loader_module="motionbench.tracking.serving",
            code_paths=[str(Path(__file__).parents[1])],
            pip_requirements=[
                f"{name}=={version(name)}" for name in (ONNX_REQUIREMENTS if model.onnx else KERAS_REQUIREMENTS)
            ],
        )
        if model.backbone:
            shutil.copyfile(folder / model.backbone, f"{new}/model/data/{BACKBONE}")
        if model.onnx:
            content = with_metadata((folder / model.onnx).read_bytes(), facts)
            Path(f"{new}/model/data/{archive.stem}.onnx").write_bytes(content)
        mlflow.MlflowClient().log_model_artifacts(model_id, f"{new}/model")
    mlflow.MlflowClient().finalize_logged_model(model_id, LoggedModelStatus.READY)
