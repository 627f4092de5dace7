"""Stages `train_cnn_lstm` and `train_convlstm`: fit every replicate of one model, side by side."""

import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import pandas as pd

from motionbench import tracking
from motionbench.data.splits import read_split
from motionbench.errors import UserError, run_command
from motionbench.files import folder_md5, replaced_whole, write_json
from motionbench.parallel import Report, discarded_stderr, run_side_by_side
from motionbench.params import MODEL_NAMES, Params, load_params, stage_params
from motionbench.progress import epoch_progress

if TYPE_CHECKING:
    from motionbench.training import Epoch, Replicate

TRAIN, VALIDATION = Path("data/train"), Path("data/validation")


def main() -> None:
    """Write models/<model>/ and metrics/<model>/."""
    if len(sys.argv) != 2 or sys.argv[1] not in MODEL_NAMES:
        raise UserError(f"pipeline.train: expected one of {', '.join(MODEL_NAMES)}. Received: {' '.join(sys.argv[1:])}")
    model_name = sys.argv[1]
    params = load_params()
    splits = {folder: read_split(folder, params.data) for folder in (TRAIN, VALIDATION)}
    declared = stage_params(params, f"train_{model_name}")
    models, metrics = Path("models", model_name), Path("metrics", model_name)
    with ExitStack() as runs:
        parent = runs.enter_context(tracking.stage_run(f"train_{model_name}", declared))
        for folder, split in splits.items():
            tracking.log_dataset(folder.name, split.clips, split.labels, folder_md5(folder))
        children = {
            seed: runs.enter_context(
                tracking.child_run(parent, f"{model_name} seed {seed}", {**declared, "seed": seed})
            )
            for seed in params.training.seeds
        }
        with replaced_whole(models, metrics) as (new_models, new_metrics):
            replicates = _train_all(model_name, params, new_models, children)
            _write_metrics(new_metrics, replicates)
        tracking.log_metrics({f"mean_{key}": value for key, value in _summary(replicates).items()})
        tracking.log_files(metrics, "metrics")
        best = min(replicates, key=lambda replicate: replicate["best"]["validation_loss"])
        for replicate, (seed, run_id) in zip(replicates, children.items(), strict=True):
            tracking.log_text(replicate["summary"], "model_summary.txt", run_id=run_id)
            tracking.log_model(
                models / f"seed-{seed}.keras",
                clip_shape=splits[TRAIN].clips.shape[1:],
                classes=len(splits[TRAIN].class_names),
                run_id=run_id,
                register_as=model_name if replicate is best else None,
            )


def _train_all(model_name: str, params: Params, folder: Path, runs: dict[int, str]) -> "list[Replicate]":
    with epoch_progress(model_name, list(runs), params.model(model_name).epochs) as show:

        def on_epoch(epoch: "Epoch") -> None:
            show(epoch)
            curves: dict[str, Any] = {key: value for key, value in epoch.items() if key not in ("seed", "epoch")}
            tracking.log_metrics(curves, run_id=runs[epoch["seed"]], step=epoch["epoch"])

        tasks = [partial(_train, model_name, seed, params, folder / f"seed-{seed}.keras") for seed in runs]
        return run_side_by_side(tasks, params.training.threads, on_epoch)


def _train(model_name: str, seed: int, params: Params, path: Path, report: Report) -> "Replicate":
    # Imported where it runs: the process that waits for the replicates needs no TensorFlow.
    with discarded_stderr():
        from motionbench.training import train_replicate

    train, validation = read_split(TRAIN, params.data), read_split(VALIDATION, params.data)
    return train_replicate(model_name, seed, params.model(model_name), params.training, train, validation, path, report)


def _write_metrics(folder: Path, replicates: "list[Replicate]") -> None:
    write_json(folder / "summary.json", _summary(replicates))
    pd.DataFrame([replicate["best"] for replicate in replicates]).to_csv(folder / "replicates.csv", index=False)
    (folder / "history").mkdir()
    for replicate in replicates:
        history = pd.DataFrame(replicate["history"])
        history.to_csv(folder / "history" / f"seed-{replicate['best']['seed']}.csv", index=False)
    # Apart from the rest, which is the same in every run.
    write_json(folder / "timing.json", {"training_seconds": mean(replicate["seconds"] for replicate in replicates)})


def _summary(replicates: "list[Replicate]") -> dict[str, float]:
    """Mean over the replicates, at the epochs whose weights were kept."""
    return {
        "parameters": replicates[0]["parameters"],
        "epoch": mean(replicate["best"]["epoch"] for replicate in replicates),
        "validation_loss": mean(replicate["best"]["validation_loss"] for replicate in replicates),
        "validation_accuracy": mean(replicate["best"]["validation_accuracy"] for replicate in replicates),
    }


if __name__ == "__main__":
    run_command(main)
