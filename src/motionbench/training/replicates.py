"""All replicates of a model, trained in parallel, and the outputs of the stage."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from motionbench.core.files import atomic_outputs
from motionbench.core.paths import TRAIN, VALIDATION, checkpoint_path, replicate_path, training_paths
from motionbench.data.splits import read_split
from motionbench.execution.engine import EventCallback, LocalEngine, run_tasks
from motionbench.execution.progress import epoch_progress
from motionbench.execution.runtime import importing_tensorflow
from motionbench.params.schema import Params
from motionbench.training.results import Epoch, Replicate, write_training


def train_model(
    engine: LocalEngine, model_name: str, params: Params, key: str, on_epoch: Callable[[Epoch], None]
) -> None:
    """Train a model from each of `training.seeds` and write its models, metrics and timing.

    Args:
        key: of the checkpoints, from `checkpoint_key`.
        on_epoch: called with each finished epoch.

    Raises:
        UserError: if a loss stops being a number.
    """
    seeds, section = params.training.seeds, params.model(model_name)
    with (
        atomic_outputs(*training_paths(model_name)) as (models, metrics, timing),
        epoch_progress(model_name, seeds, section.epochs) as show,
    ):

        def handle_epoch(epoch: Epoch) -> None:
            show(epoch)
            on_epoch(epoch)

        tasks = [partial(_train, model_name, seed, params, replicate_path(models, seed), key) for seed in seeds]
        write_training(metrics, timing, run_tasks(engine, tasks, params.training.threads, handle_epoch), section)


def _train(model_name: str, seed: int, params: Params, path: Path, key: str, on_event: EventCallback) -> Replicate:
    # Imported here: the main process needs no TensorFlow.
    with importing_tensorflow():
        from motionbench.training.loop import train_replicate
    train, validation = read_split(TRAIN, params.data), read_split(VALIDATION, params.data)
    checkpoint = checkpoint_path(model_name, seed)
    return train_replicate(model_name, seed, params, train, validation, path, checkpoint, key, on_event)
