"""Stages `train_cnn_lstm`, `train_convlstm` and `train_controls`: fit every replicate of a model, side by side."""

import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from motionbench.checkpoints import checkpoint_key, checkpoint_path, remove_checkpoints
from motionbench.data.splits import Split, read_split
from motionbench.errors import UserError, run_command
from motionbench.files import folder_md5, replaced_whole, replicate_path
from motionbench.parallel import Report, discarded_stderr, import_ahead, run_side_by_side
from motionbench.params import CONTROL_NAMES, MODEL_NAMES, Params, load_params, stage_params, training_stage
from motionbench.progress import epoch_progress

if TYPE_CHECKING:
    from motionbench.training import Epoch, Replicate

TRAIN, VALIDATION = Path("data/train"), Path("data/validation")


def main() -> None:
    """Write models/<model>/, metrics/<model>/ and metrics/timing/<model>.json for each model named."""
    known = (*MODEL_NAMES, *CONTROL_NAMES)
    if not sys.argv[1:] or not set(sys.argv[1:]) <= set(known):
        raise UserError(f"pipeline.train: expected some of {', '.join(known)}. Received: {' '.join(sys.argv[1:])}")
    params = load_params()
    splits = {folder: read_split(folder, params.data) for folder in (TRAIN, VALIDATION)}
    import_ahead("motionbench.training")
    for model_name in sys.argv[1:]:
        _train_model(model_name, params, splits)


def _train_model(model_name: str, params: Params, splits: Mapping[Path, Split]) -> None:
    # Late: a bad parameter is to be answered in a blink.
    from motionbench import tracking
    from motionbench.results import summarise, write_training

    name = f"train_{model_name}"
    declared = stage_params(params, training_stage(model_name))
    models, metrics, timing = (
        Path("models", model_name),
        Path("metrics", model_name),
        Path(f"metrics/timing/{model_name}.json"),
    )
    with tracking.stage_run(training_stage(model_name), declared, name) as parent, ExitStack() as children:
        md5s = {folder: folder_md5(folder) for folder in splits}
        for folder, (clips, labels, _) in splits.items():
            tracking.log_dataset(folder.name, clips, labels, md5s[folder])
        runs = {
            seed: children.enter_context(tracking.child_run(parent, f"{name} seed {seed}", {**declared, "seed": seed}))
            for seed in params.training.seeds
        }
        with replaced_whole(models, metrics, timing) as (new_models, new_metrics, new_timing):
            replicates = _train_side_by_side(
                model_name,
                params,
                new_models,
                checkpoint_key(declared, list(md5s.values())),
                lambda epoch: tracking.log_epoch(epoch, run_id=runs[epoch["seed"]]),
            )
            write_training(new_metrics, new_timing, replicates)
        tracking.log_metrics(summarise(replicates))
        tracking.log_files(metrics, "metrics")
        best = min(replicates, key=lambda replicate: replicate["best"]["validation_loss"])
        for replicate, (seed, run_id) in zip(replicates, runs.items(), strict=True):
            kept = {f"best_{key}": value for key, value in replicate["best"].items() if key != "seed"}
            tracking.log_metrics({**kept, "training_seconds": sum(replicate["epoch_seconds"])}, run_id=run_id)
            tracking.log_text(replicate["summary"], "model_summary.txt", run_id=run_id)
            tracking.log_model(
                replicate_path(models, seed),
                loader="motionbench.serving",
                clip_shape=splits[TRAIN].clips.shape[1:],
                class_names=splits[TRAIN].class_names,
                run_id=run_id,
                register_as=model_name if replicate is best else None,
            )
    remove_checkpoints(model_name)


def _train_side_by_side(
    model_name: str, params: Params, models: Path, key: str, log_epoch: "Callable[[Epoch], None]"
) -> "list[Replicate]":
    seeds = params.training.seeds
    with epoch_progress(model_name, seeds, params.model(model_name).epochs) as show:

        def on_epoch(epoch: "Epoch") -> None:
            show(epoch)
            log_epoch(epoch)

        tasks = [partial(_train, model_name, seed, params, replicate_path(models, seed), key) for seed in seeds]
        return run_side_by_side(tasks, params.training.threads, on_epoch)


def _train(model_name: str, seed: int, params: Params, path: Path, key: str, report: Report) -> "Replicate":
    # Imported where it runs: the process that waits for the replicates needs no TensorFlow.
    with discarded_stderr():
        from motionbench.training import train_replicate
    train, validation = read_split(TRAIN, params.data), read_split(VALIDATION, params.data)
    return train_replicate(
        model_name, seed, params.model(model_name), params.training, train, validation, path,
        checkpoint_path(model_name, seed), key, report,
    )  # fmt: skip


if __name__ == "__main__":
    run_command(main)
