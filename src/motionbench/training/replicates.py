"""All replicates of a model, trained in parallel, and the outputs of the stage."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import joblib

from motionbench.core.files import atomic_outputs
from motionbench.core.paths import DATASET_INFO, PARAMS, ReplicateKey, checkpoint_path, replicate_path, training_paths
from motionbench.core.processes import describe_machine, peak_megabytes
from motionbench.data.folds import read_training_clips, replicate_keys, training_files
from motionbench.data.splits import read_dataset_info
from motionbench.execution.engine import Engine, EventCallback, FileTask, run_tasks
from motionbench.execution.progress import epoch_progress
from motionbench.execution.runtime import importing_tensorflow
from motionbench.models.registry import GradientParams, reads_features
from motionbench.params.schema import Params
from motionbench.training.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from motionbench.training.results import Epoch, Replicate, replicate_key, write_training, write_untrained


def train_model(
    engine: Engine, model_name: str, params: Params, digest: str, on_epoch: Callable[[Epoch], None],
    are_current: Callable[[], bool],
) -> None:  # fmt: skip # not one argument a line
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
                partial(train_replicate, model_name, key, params, replicate_path(models, key), digest, are_current),
                inputs=[DATASET_INFO, *training_files(key.fold, reads_features(model_name))],
                outputs=[replicate_path(models, key)],
                kept=checkpoint_path(model_name, key),
            )
            for key in keys
        ]
        write_training(metrics, timing, run_tasks(engine, tasks, params.training.threads, handle_epoch), section)


def leave_untrained(model_name: str) -> None:
    """Write the outputs of a model that is switched off: no networks, and the files that DVC shows without figures."""
    reason = f"{model_name}: not trained; to switch it on, set {model_name}.enabled: true in {PARAMS}"
    with atomic_outputs(*training_paths(model_name)) as (models, metrics, timing):
        (models / "not_trained.txt").write_text(f"{reason}\n", encoding="utf-8")  # DVC warns of an empty folder
        write_untrained(metrics, timing)
    print(reason)


def train_replicate(
    model_name: str, key: ReplicateKey, params: Params, path: Path, digest: str, are_current: Callable[[], bool],
    on_event: EventCallback,
) -> Replicate:  # fmt: skip # not one argument a line
    """Fit one replicate of a model and write it to `path` with the weights of its best epoch.

    Each epoch is saved in the replicate's checkpoint, unless code and clips are no longer `are_current`. If there is a
    checkpoint with the same `digest`, training continues from there and gives the same weights as one without
    interruption.

    Best is the lowest validation loss, by at least `min_delta`. Training stops at a loss of `target_loss`, or after
    `patience` epochs without a better one. Each finished epoch is passed to `on_event` as an `Epoch`, once it is saved;
    those of an earlier checkpoint too.

    Raises:
        UserError: if the loss stops being a number.
    """
    # Imported here: the process that starts replicates needs no TensorFlow.
    with importing_tensorflow():
        from motionbench.execution.threads import fix_threads
        from motionbench.models.archive import save_model
        from motionbench.training import loop
        from motionbench.training.logistic import fit_strengths
    training, section = params.training, params.model(model_name)
    dataset, (train, validation) = read_dataset_info(), read_training_clips(key.fold, reads_features(model_name))
    # The last replicates use the cores that the others have left: 0.67 of the time with two (ConvLSTM).
    fix_threads(training.threads, operations=max(training.threads, joblib.cpu_count()))
    started = time.perf_counter()
    model = loop.build_replicate(model_name, section, train, key.seed)
    model = loop.reuse_traced(model, (model_name, section, train.clips.shape, train.class_names))
    earlier = load_checkpoint(checkpoint := checkpoint_path(model_name, key), digest)
    history: list[Epoch] = []
    epoch_seconds: list[float] = []
    best: Epoch | None = None
    if isinstance(section, GradientParams):
        epochs = loop.fit_epochs(model, model_name, key, section, training, dataset, train, validation, earlier)
    else:
        epochs = fit_strengths(model, key, section, training, train, validation, earlier)
    for epoch in epochs:
        resumed = earlier if earlier and len(history) < len(earlier.history) else None
        epoch_seconds.append(resumed.epoch_seconds[len(history)] if resumed else time.perf_counter() - started)
        started = time.perf_counter()
        history.append(epoch)
        if best is None or epoch["validation_loss"] < best["validation_loss"] - training.min_delta:
            best, best_weights = epoch, resumed.best_weights if resumed else model.get_weights()
        if not resumed and are_current():
            variables = [variable.numpy() for variable in loop.variables(model)]
            save_checkpoint(checkpoint, digest, Checkpoint(history, epoch_seconds, variables, best_weights))
        on_event(epoch)  # after the checkpoint, which goes with it where the process runs on another machine
        if epoch["validation_loss"] <= training.target_loss or epoch["epoch"] - best["epoch"] >= training.patience:
            break
    assert best is not None
    model.set_weights(best_weights)
    save_model(model, path)
    return Replicate(
        history=history, best=best, parameters=model.count_params(), summary=loop.summarise(model),
        epoch_seconds=epoch_seconds, peak_megabytes=peak_megabytes(), machine=", ".join(describe_machine()),
    )  # fmt: skip # the fields as they belong together
