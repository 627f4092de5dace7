"""All models tested on the held-out clips, in parallel, and their costs measured, one after the other."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import product
from pathlib import Path

import joblib
import numpy as np
from numpy.typing import NDArray

from motionbench.core.dvc_files import run_again, training_stage
from motionbench.core.errors import UserError
from motionbench.core.paths import MODELS, ReplicateKey, onnx_path, replicate_path
from motionbench.data.folds import held_out_folder, replicate_keys
from motionbench.data.perturbations import chosen_numbers, perturbed_labels
from motionbench.data.splits import features_path, read_dataset_info
from motionbench.evaluation.costs import Cost
from motionbench.evaluation.inference import (
    embed_held_out_clips,
    predict_features,
    predict_held_out_clips,
    time_inference,
    write_onnx,
)
from motionbench.evaluation.predictions import UNCHANGED, Condition, Predictions, made_from, read_held_out
from motionbench.execution.engine import Engine, FileTask, LocalEngine, local_engine, run_tasks
from motionbench.models.onnx_runtime import with_metadata
from motionbench.models.registry import MODEL_NAMES, reads_features
from motionbench.params.schema import Params


def predict_held_out(engine: Engine, params: Params, clips: Mapping[str, str]) -> Predictions:
    """Have every trained replicate classify the clips that it has not seen, as they are and perturbed.

    Args:
        clips: md5s of what `generate` made, by path.

    Raises:
        UserError: if a model or a clip is missing or damaged, or if a probability is not a number.
    """
    seeds, threads, settings = params.training.seeds, params.training.threads, params.perturbations
    dataset = read_dataset_info()
    models, md5s = trained_models(), made_from(clips)
    folds, held_out = dataset.fold_numbers(), read_held_out(dataset)
    labels, class_names, part = held_out.split.labels, held_out.split.class_names, held_out.parts
    chosen = chosen_numbers(labels, held_out.groups, settings.clips_per_class, settings.seed)
    conditions = [
        Condition(UNCHANGED, 0.0, np.arange(len(labels)), labels, {}),
        *(
            Condition(name, level, chosen, perturbed_labels(labels[chosen], class_names, name, dataset), {})
            for name, level in settings.settings(dataset)
        ),
    ]

    def clips_of(condition: Condition, fold: int | None) -> tuple[NDArray[np.int64], int, tuple[str, float, int]]:
        """Return the clips of a condition that a fold holds out, the number of the fold's first, and the condition."""
        number = fold or 0
        numbers = condition.clips[part[condition.clips] == number]
        return numbers, int(np.searchsorted(part, number)), (condition.name, condition.level, settings.seed)

    pairs = [(fold, each) for fold, each in product(folds, conditions) if len(clips_of(each, fold)[0])]
    # A task for each condition, since the predictions of one model may take ten times as long as those of another.
    tasks = {}
    features = {}
    if any(map(reads_features, models)):
        embeddings = [
            FileTask(
                partial(embed_held_out_clips, fold, *clips_of(each, fold), params.backbone, threads),
                inputs=[held_out_folder(fold), features_path(held_out_folder(fold)), params.backbone.archive()],
            )
            for fold, each in pairs
        ]
        embedded = run_tasks(engine, embeddings, threads)
        features = {(fold, each[:2]): found for (fold, each), found in zip(pairs, embedded, strict=True)}
    for name, seed, (fold, condition) in product(models, seeds, pairs):
        path, key = replicate_path(MODELS / name, ReplicateKey(seed, fold)), ReplicateKey(seed, fold)
        if reads_features(name):
            call, files = partial(predict_features, path, features[fold, condition[:2]], threads), [path]
        else:
            call = partial(predict_held_out_clips, path, fold, *clips_of(condition, fold), threads)
            files = [path, held_out_folder(fold)]
        tasks[name, key, condition[:2]] = FileTask(call, inputs=files)
    probabilities = dict(zip(tasks, run_tasks(engine, list(tasks.values()), threads), strict=True))
    for (name, key, _), each in probabilities.items():
        check_probabilities(name, key, each)
    for condition, name in product(conditions, models):
        of_seeds = [[(name, ReplicateKey(seed, fold), condition[:2]) for fold in folds] for seed in seeds]
        joined = [np.concatenate([probabilities[each] for each in keys if each in probabilities]) for keys in of_seeds]
        condition.probabilities[name] = np.stack(joined)
    unchanged, *perturbed = conditions
    return Predictions(
        class_names, held_out.split.clips.shape[1], seeds, settings.seed, part if dataset.folds else None,
        held_out.files, held_out.groups, unchanged, perturbed, md5s,
    )  # fmt: skip # in the order of its fields


def check_probabilities(name: str, key: ReplicateKey, probabilities: NDArray[np.float32]) -> None:
    """Check that what a replicate predicts are numbers.

    Raises:
        UserError: if one is not.
    """
    if nonsense := int((~np.isfinite(probabilities)).any(axis=1).sum()):
        raise UserError(
            f"{replicate_path(MODELS / name, key)}: its predictions of {nonsense} of {len(probabilities)} clips are "
            f"not numbers; train it again: {run_again(training_stage(name))}"
        )


def trained_models() -> list[str]:
    """Return the names of the models that were trained, and not switched off.

    Raises:
        UserError: if the outputs of a training are missing.
    """
    for name in MODEL_NAMES:
        if not (MODELS / name).is_dir():
            raise UserError(f"{MODELS / name}: missing; train it: dvc repro {training_stage(name)}")
    return [name for name in MODEL_NAMES if list((MODELS / name).glob("*.keras"))]


def write_onnx_files(engine: Engine, params: Params, predictions: Predictions, folder: Path) -> list[str]:
    """Write the replicates that a comparison may choose, those of the first fold, as ONNX files below `folder`.

    Returns:
        Which could not be written, and why.
    """
    dataset, held_out = read_dataset_info(), read_held_out(read_dataset_info())
    fold, threads, unwritten = dataset.fold_numbers()[0], params.training.threads, []
    clips = held_out.parts == (fold or 0)
    archives = {
        replicate_path(MODELS / name, ReplicateKey(seed, fold)): (name, probabilities)
        for name, of_seeds in predictions.unchanged.probabilities.items()
        for seed, probabilities in zip(predictions.seeds, of_seeds, strict=True)
    }
    tasks = []
    for path, (name, expected) in archives.items():
        backbone = params.backbone if reads_features(name) else None
        call = partial(write_onnx, path, fold, expected[clips], threads, backbone=backbone)
        tasks.append(FileTask(call, inputs=[path, held_out_folder(fold), *([backbone.archive()] if backbone else [])]))
    described = {
        "class_names": predictions.class_names,
        "clip_shape": held_out.split.clips.shape[1:],
        **dataset.model_dump(include={"source", "resize", "seconds"}),
    }
    for (path, (name, _)), content in zip(archives.items(), run_tasks(engine, tasks, threads), strict=True):
        if isinstance(content, str):
            unwritten.append(f"{path}: not written as an ONNX file, and used with Keras: {content}")
            continue
        (file := onnx_path(folder, path)).parent.mkdir(exist_ok=True)
        file.write_bytes(with_metadata(content, {**described, "model": name, "md5": predictions.md5s[path.as_posix()]}))
    return unwritten


def measure_costs(engine: Engine, params: Params, models: Sequence[str], onnx: Path) -> dict[str, Cost]:
    """Measure the cost of models here, one after the other: nothing else runs while one is timed.

    Args:
        onnx: the folder of the ONNX files.
    """
    key, threads = replicate_keys(params.training.seeds)[0], params.training.threads
    tasks = []
    for name in models:
        path, backbone = replicate_path(MODELS / name, key), params.backbone if reads_features(name) else None
        tasks.append(partial(time_inference, path, key.fold, threads, onnx_path(onnx, path), backbone=backbone))
    with nullcontext(engine) if isinstance(engine, LocalEngine) else local_engine() as here:
        return dict(zip(models, run_tasks(here, tasks, joblib.cpu_count()), strict=True))
