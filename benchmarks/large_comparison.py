"""`compare` on 100,000 test clips, 6 models, 3 seeds and 20 conditions of 1,000 clips: its seconds and its memory.

python -m benchmarks.large_comparison prints them. Clips are small and answers are drawn: neither changes the work.
"""

import json
import os
import resource
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import machine, seconds_of, temporary_clone
from motionbench.core.files import path_md5, write_json
from motionbench.core.paths import (
    DATASET_INFO,
    EVALUATION_TIMING,
    FOLDS,
    MODELS,
    PARAMS,
    PREDICTIONS,
    TEST,
    TRAIN,
    training_paths,
)
from motionbench.data.perturbations import PERTURBATIONS
from motionbench.data.splits import ClipRecord, DatasetInfo, NewSplit, write_split
from motionbench.evaluation.costs import Cost, write_costs
from motionbench.evaluation.predictions import UNCHANGED, Condition, Predictions, made_from, write_predictions
from motionbench.models.registry import MODEL_NAMES, reads_features
from motionbench.params.editing import update_yaml
from motionbench.params.loading import load_params
from motionbench.training.results import Epoch, Replicate, write_training

CLIPS, GROUPS, PERTURBED, CONDITIONS, SEEDS = 100_000, 500, 1_000, 20, (0, 1, 2)
COMPARED = [name for name in MODEL_NAMES if not reads_features(name)]
NAMES = ("a", "b", "c", "d")


def main() -> None:
    """Write what `compare` reads into a clone, run it there, and print what it took."""
    with temporary_clone() as clone:
        with chdir(clone):
            write_inputs()
        environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{clone}/mlflow.db"}
        process = [sys.executable, "-m", "pipeline.compare"]
        seconds = seconds_of(lambda: subprocess.run(process, cwd=clone, env=environment, check=True))
    megabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6  # getrusage(2) of Linux
    print(f"{seconds:.1f} s, {megabytes:,.0f} MB on {machine()}")


def write_inputs() -> None:
    """Write clips, models, results of training and predictions, as the stages before `compare` do."""
    random = np.random.default_rng(0)
    labels = random.integers(len(NAMES), size=CLIPS)
    groups = np.array([f"person {number}" for number in random.integers(GROUPS, size=CLIPS)], object)
    files = np.array([f"class {NAMES[label]}/{number:06}.mp4" for number, label in enumerate(labels)], object)
    write_clips(TEST, labels, files, groups)
    write_clips(TRAIN, labels[:1000], files[:1000], groups[:1000])
    FOLDS.mkdir(parents=True)
    write_json(DATASET_INFO, DatasetInfo(source="folder", resize="pad", seconds=2.0).model_dump())
    write_models()
    levels = np.linspace(0.1, 1, CONDITIONS).round(3).tolist()
    perturbations = {"seed": 0, **{name: [] for name in PERTURBATIONS}, "pixel_noise": levels}
    PARAMS.write_text(
        update_yaml(PARAMS.read_text(encoding="utf-8"), {"perturbations": perturbations}), encoding="utf-8"
    )
    chosen = np.sort(random.choice(CLIPS, PERTURBED, replace=False))
    skill = dict(zip(COMPARED, (0.95, 0.94, 0.96, 0.9, 0.4, 0.7), strict=True))
    conditions = [
        Condition(name, level, clips, labels[clips], {each: draw(labels[clips], skill[each], random) for each in skill})
        for name, level, clips in [
            (UNCHANGED, 0.0, np.arange(CLIPS)),
            *(("pixel_noise", level, chosen) for level in levels),
        ]
    ]
    table = Predictions(
        class_names=NAMES,
        frames=2,
        seeds=SEEDS,
        perturbation_seed=0,
        folds=None,
        files=files,
        groups=groups,
        unchanged=conditions[0],
        perturbed=conditions[1:],
        md5s=made_from({str(path): path_md5(path) for path in (TEST, FOLDS)}),
    )
    write_predictions(PREDICTIONS, table)
    cost = Cost(1, 1.0, (0.9, 1.1), 100.0, (90.0, 110.0))
    write_costs(EVALUATION_TIMING, dict.fromkeys(COMPARED, cost))


def write_clips(
    folder: Path, labels: NDArray[np.int64], files: NDArray[np.object_], groups: NDArray[np.object_]
) -> None:
    """Write a split, the clips black."""
    records = [
        ClipRecord(
            clip=file, group=group, frames=20, seconds=2, rate=10, width=64, height=48, variable_rate=False, audio=False
        )
        for file, group in zip(files, groups, strict=True)
    ]
    write_split(folder, NewSplit(NAMES, labels, [np.zeros((len(labels), 2, 8, 8, 1), np.uint8)], records))


def write_models() -> None:
    """Write models and results of training that say nothing."""
    params = load_params()
    for name in COMPARED:
        _, metrics, timing = training_paths(name)
        (MODELS / name).mkdir(parents=True)
        replicates = []
        for seed in SEEDS:
            (MODELS / name / f"seed-{seed}.keras").write_text(json.dumps([name, seed]), encoding="utf-8")
            epoch = Epoch(seed=seed, epoch=1, loss=0.1, accuracy=1.0, validation_loss=0.1, validation_accuracy=1.0)
            replicates.append(
                Replicate(
                    history=[epoch],
                    best=epoch,
                    parameters=1,
                    summary="",
                    epoch_seconds=[1.0],
                    peak_megabytes=1.0,
                    machine="",
                )
            )
        write_training(metrics, timing, replicates, params.model(name))


def draw(labels: NDArray[np.int64], skill: float, random: np.random.Generator) -> NDArray[np.float32]:
    """Return probabilities, shape (seeds, clips, classes), of which about this share names the label."""
    shape = (len(SEEDS), len(labels), len(NAMES))
    noise = random.random(shape) * 0.5
    right = random.random(shape[:2]) < skill
    named = np.where(right, labels, random.integers(len(NAMES), size=shape[:2]))
    noise[np.arange(shape[0])[:, np.newaxis], np.arange(shape[1]), named] += 1
    probabilities: NDArray[np.float32] = (noise / noise.sum(axis=2, keepdims=True)).astype(np.float32)
    return probabilities


if __name__ == "__main__":
    main()
