"""All replicates of a model, trained in parallel, and the outputs of the stage."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from motionbench.core.files import atomic_outputs
from motionbench.core.paths import PARAMS, SOURCE, ReplicateKey, checkpoint_path, replicate_path, training_paths
from motionbench.data.splits import read_source, read_training, replicate_keys, training_folders
from motionbench.execution.engine import Engine, EventCallback, FileTask, run_tasks
from motionbench.execution.progress import epoch_progress
from motionbench.execution.runtime import importing_tensorflow
from motionbench.params.schema import Params
from motionbench.training.results import Epoch, Replicate, replicate_key, write_training, write_untrained


def train_model(
    engine: Engine, model_name: str, params: Params, digest: str, on_epoch: Callable[[Epoch], None],
    are_current: Callable[[], bool],
) -> None:  # fmt: skip
    """Train all replicates of a model and write its models, metrics and timing.

    Args:
        digest: of what the stage uses, which its checkpoints must have.
        on_epoch: called with each finished epoch.
        are_current: whether that is still so; if not, no checkpoint is saved. It is pickled.

    Raises:
        UserError: if a loss stops being a number.
    """
    keys, section = replicate_keys(params.training.seeds), params.model(model_name)
    with (
        atomic_outputs(*training_paths(model_name)) as (models, metrics, timing),
        epoch_progress(model_name, keys, section.epochs) as show,
    ):

        def handle_epoch(epoch: Epoch) -> None:
            show(replicate_key(epoch), epoch)
            on_epoch(epoch)

        tasks = [
            FileTask(
                partial(_train, model_name, key, params, replicate_path(models, key), digest, are_current),
                inputs=[SOURCE, *training_folders(key.fold)],
                outputs=[replicate_path(models, key)],
                kept=checkpoint_path(model_name, key),
            )
            for key in keys
        ]
        write_training(metrics, timing, run_tasks(engine, tasks, params.training.threads, handle_epoch), section)


def leave_untrained(model_name: str) -> None:
    """Write the outputs of a model that is switched off: no networks, and no figures."""
    reason = f"{model_name}: not trained; to switch it on, set {model_name}.enabled: true in {PARAMS}"
    with atomic_outputs(*training_paths(model_name)) as (models, metrics, timing):
        (models / "not_trained.txt").write_text(f"{reason}\n", encoding="utf-8")  # DVC warns of an empty folder
        write_untrained(metrics, timing)
    print(reason)


def _train(
    model_name: str, key: ReplicateKey, params: Params, path: Path, digest: str, are_current: Callable[[], bool],
    on_event: EventCallback,
) -> Replicate:  # fmt: skip
    # Imported here: the main process needs no TensorFlow.
    with importing_tensorflow():
        from motionbench.training.loop import train_replicate
    train, validation = read_training(key.fold)
    checkpoint = checkpoint_path(model_name, key)
    return train_replicate(
        model_name, key, params, read_source(), train, validation, path, checkpoint, digest, on_event, are_current
    )
