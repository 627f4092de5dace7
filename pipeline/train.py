"""Stages `train_cnn_lstm`, `train_convlstm` and `train_controls`: fit every replicate of a model, side by side."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from motionbench.checkpoints import checkpoint_key, checkpoint_path, remove_checkpoints
from motionbench.data.splits import read_split
from motionbench.errors import UserError, run_command
from motionbench.files import folder_md5, replaced_whole, replicate_path
from motionbench.parallel import Report, import_ahead, importing_tensorflow, run_side_by_side
from motionbench.params import CONTROL_NAMES, MODEL_NAMES, Params, load_params, stage_params
from motionbench.progress import epoch_progress

if TYPE_CHECKING:
    from motionbench.training import Epoch, Replicate

TRAIN, VALIDATION = Path("data/train"), Path("data/validation")
STAGES = {name: (name,) for name in MODEL_NAMES} | {"controls": CONTROL_NAMES}


def main() -> None:
    """Write models/<model>/, metrics/<model>/ and metrics/timing/<model>.json for each model of a stage."""
    if len(sys.argv) != 2 or sys.argv[1] not in STAGES:
        raise UserError(f"pipeline.train: expected one of {', '.join(STAGES)}. Received: {' '.join(sys.argv[1:])}")
    stage, names = f"train_{sys.argv[1]}", STAGES[sys.argv[1]]
    params = load_params()
    for folder in (TRAIN, VALIDATION):
        read_split(folder, params.data)
    import_ahead("motionbench.training")
    # Late: a bad parameter is to be answered in a blink.
    from motionbench import tracking
    from motionbench.records import describe

    declared = stage_params(params, stage)
    key = checkpoint_key(declared, [folder_md5(folder) for folder in (TRAIN, VALIDATION)])
    replicates = [(name, seed) for name in names for seed in params.training.seeds]
    with tracking.stage_run(stage, declared, replicates) as run:
        for name in names:
            _train_model(name, params, key, partial(run.log_epoch, name))
        run.complete(describe(stage, declared, "motionbench.serving"))
    for name in names:
        remove_checkpoints(name)


def _train_model(model_name: str, params: Params, key: str, log_epoch: "Callable[[Epoch], None]") -> None:
    from motionbench.results import write_training

    outputs = Path("models", model_name), Path("metrics", model_name), Path(f"metrics/timing/{model_name}.json")
    with replaced_whole(*outputs) as (models, metrics, timing):
        write_training(metrics, timing, _train_side_by_side(model_name, params, models, key, log_epoch))


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
    with importing_tensorflow():
        from motionbench.training import train_replicate
    train, validation = read_split(TRAIN, params.data), read_split(VALIDATION, params.data)
    return train_replicate(
        model_name, seed, params.model(model_name), params.training, train, validation, path,
        checkpoint_path(model_name, seed), key, report,
    )  # fmt: skip


if __name__ == "__main__":
    run_command(main)
