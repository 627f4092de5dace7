"""Stages `train_cnn_lstm` and `train_convlstm`: fit every replicate of one model, side by side."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from motionbench.data.splits import read_split
from motionbench.errors import UserError, run_command
from motionbench.files import replaced_whole, replicate_path
from motionbench.parallel import Report, discarded_stderr, import_ahead, run_side_by_side
from motionbench.params import MODEL_NAMES, Params, load_params, stage_params
from motionbench.progress import epoch_progress

if TYPE_CHECKING:
    from motionbench.training import Epoch, Replicate

TRAIN, VALIDATION = Path("data/train"), Path("data/validation")


def main() -> None:
    """Write models/<model>/, metrics/<model>/ and metrics/timing/<model>.json."""
    if len(sys.argv) != 2 or sys.argv[1] not in MODEL_NAMES:
        raise UserError(f"pipeline.train: expected one of {', '.join(MODEL_NAMES)}. Received: {' '.join(sys.argv[1:])}")
    model_name = sys.argv[1]
    params = load_params()
    for folder in (TRAIN, VALIDATION):
        read_split(folder, params.data)
    import_ahead("motionbench.training")
    # Late: a bad parameter is to be answered in a blink.
    from motionbench import tracking
    from motionbench.records import describe
    from motionbench.results import write_training

    stage = f"train_{model_name}"
    declared = stage_params(params, stage)
    models, metrics, timing = (
        Path("models", model_name),
        Path("metrics", model_name),
        Path(f"metrics/timing/{model_name}.json"),
    )
    with tracking.stage_run(stage, declared, params.training.seeds) as run:
        with replaced_whole(models, metrics, timing) as (new_models, new_metrics, new_timing):
            replicates = _train_side_by_side(model_name, params, new_models, run.log_epoch)
            write_training(new_metrics, new_timing, replicates)
        run.complete(describe(stage, declared))


def _train_side_by_side(
    model_name: str, params: Params, models: Path, log_epoch: "Callable[[Epoch], None]"
) -> "list[Replicate]":
    seeds = params.training.seeds
    with epoch_progress(model_name, seeds, params.model(model_name).epochs) as show:

        def on_epoch(epoch: "Epoch") -> None:
            show(epoch)
            log_epoch(epoch)

        tasks = [partial(_train, model_name, seed, params, replicate_path(models, seed)) for seed in seeds]
        return run_side_by_side(tasks, params.training.threads, on_epoch)


def _train(model_name: str, seed: int, params: Params, path: Path, report: Report) -> "Replicate":
    # Imported where it runs: the process that waits for the replicates needs no TensorFlow.
    with discarded_stderr():
        from motionbench.training import train_replicate
    train, validation = read_split(TRAIN, params.data), read_split(VALIDATION, params.data)
    return train_replicate(model_name, seed, params.model(model_name), params.training, train, validation, path, report)


if __name__ == "__main__":
    run_command(main)
