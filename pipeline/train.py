"""Training stages: fit every replicate of the models that dvc.yaml lists as outputs of `train_<name>`."""

import shutil
import sys
from functools import partial

from motionbench.core.commands import run_command
from motionbench.core.dvc_files import read_stages
from motionbench.core.errors import UserError
from motionbench.core.inputs import Inputs, read_inputs
from motionbench.core.paths import CHECKPOINTS
from motionbench.data.augmentation import labels_when_flipped
from motionbench.data.folds import read_training_clips, replicate_keys
from motionbench.data.splits import read_dataset_info
from motionbench.execution.cluster import open_engine
from motionbench.execution.engine import EventCallback
from motionbench.execution.runtime import importing_tensorflow
from motionbench.params.loading import load_params, stage_params
from motionbench.params.schema import Params
from motionbench.training.replicates import leave_untrained, train_model
from pipeline import STARTED


def main() -> None:
    """Write models/, metrics/training/ and metrics/training_timing/ for each model of a stage."""
    stages = {name.removeprefix("train_"): stage for name, stage in read_stages().items() if stage.model_names()}
    if len(sys.argv) != 2 or sys.argv[1] not in stages:
        raise UserError(f"pipeline.train: expected one of {', '.join(stages)}. Received: {' '.join(sys.argv[1:])}")
    stage = stages[sys.argv[1]]
    params = load_params()
    inputs = read_inputs(stage.name, stage_params(params, stage.name), STARTED)
    enabled = [name for name in stage.model_names() if params.model(name).enabled]
    for name in stage.model_names():
        if name not in enabled:
            leave_untrained(name)
    if enabled:
        train_and_log(enabled, stage.name, params, inputs)
    else:
        inputs.write()  # and no run in MLflow, which would be empty
    inputs.check()
    for name in stage.model_names():
        shutil.rmtree(CHECKPOINTS / name, ignore_errors=True)


def train_and_log(names: list[str], stage: str, params: Params, inputs: Inputs) -> None:
    """Train the models of a stage and log its run."""
    keys = replicate_keys(params.training.seeds)
    for fold in {key.fold for key in keys}:
        train, _ = read_training_clips(fold)
        labels_when_flipped(params.training.augmentation, read_dataset_info(), train.class_names)
    with open_engine() as engine:
        engine.prepare(import_training, min(engine.slots(params.training.threads), len(keys)))
        # Imported late: keeps error messages fast.
        from motionbench.tracking.runs import stage_run

        replicates = [(name, key) for name in names for key in keys]
        with stage_run(stage, inputs.params, replicates, inputs.check) as run:
            for name in names:
                log_epoch = partial(run.log_epoch, name)
                train_model(engine, name, params, inputs.digest(), log_epoch, inputs.are_current)
            inputs.write()


def import_training(_on_event: EventCallback) -> None:
    """Import what trains a replicate."""
    with importing_tensorflow():
        from motionbench.training import loop  # noqa: F401 # for the tasks that come after


if __name__ == "__main__":
    run_command(main)
