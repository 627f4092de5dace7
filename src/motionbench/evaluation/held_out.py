"""All models tested on the held-out clips, in parallel, and their costs measured, one after the other."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import product
from pathlib import Path

import joblib
import numpy as np
from numpy.typing import NDArray

from motionbench.core.dvc_files import training_stage
from motionbench.core.errors import UserError
from motionbench.core.paths import MODELS, ReplicateKey, replicate_path
from motionbench.data.perturbations import chosen_numbers, perturb, perturbed_labels
from motionbench.data.splits import held_out_folder, read_source, read_test, replicate_keys
from motionbench.evaluation.costs import Cost
from motionbench.evaluation.predictions import UNCHANGED, Condition, Predictions, made_from, read_held_out
from motionbench.execution.engine import Engine, EventCallback, FileTask, LocalEngine, local_engine, run_tasks
from motionbench.execution.runtime import importing_tensorflow
from motionbench.models.registry import MODEL_NAMES
from motionbench.params.schema import Params


def predict_held_out(engine: Engine, params: Params, clips: Mapping[str, str]) -> Predictions:
    """Have every trained replicate classify the clips that it has not seen, as they are and perturbed.

    Args:
        clips: md5s of what `generate` made, by path.

    Raises:
        UserError: if a model or a clip is missing or damaged, or if an answer is not a number.
    """
    seeds, threads, settings = params.training.seeds, params.training.threads, params.perturbations
    source = read_source()
    models, md5s = trained_models(), made_from(clips)
    folds, held_out = source.fold_numbers(), read_held_out(source)
    labels, class_names, part = held_out.split.labels, held_out.split.class_names, held_out.parts
    chosen = chosen_numbers(labels, held_out.groups, settings.clips_per_class, settings.seed)
    conditions = [
        Condition(UNCHANGED, 0.0, np.arange(len(labels)), labels, {}),
        *(
            Condition(name, level, chosen, perturbed_labels(labels[chosen], class_names, name, source), {})
            for name, level in settings.settings(source)
        ),
    ]
    # The answers to each condition are a task, since those of one model may take ten times as long as of another.
    tasks = {}
    for name, key, condition in product(models, replicate_keys(seeds), conditions):
        path, number = replicate_path(MODELS / name, key), key.fold or 0
        clips_of_part = condition.clips[part[condition.clips] == number]
        if len(clips_of_part):
            first = int(np.searchsorted(part, number))
            how = condition.name, condition.level, settings.seed
            call = partial(_answer, path, key.fold, clips_of_part, first, how, threads)
            tasks[name, key, condition[:2]] = FileTask(call, inputs=[path, held_out_folder(key.fold)])
    answers = dict(zip(tasks, run_tasks(engine, list(tasks.values()), threads), strict=True))
    for (name, key, _), each in answers.items():
        check_answers(name, key, each)

    def joined(name: str, condition: Condition) -> NDArray[np.float32]:
        of_seeds = [[(name, ReplicateKey(seed, fold), condition[:2]) for fold in folds] for seed in seeds]
        return np.stack([np.concatenate([answers[each] for each in keys if each in answers]) for keys in of_seeds])

    unchanged, *perturbed = (
        each._replace(probabilities={name: joined(name, each) for name in models}) for each in conditions
    )
    return Predictions(
        class_names=class_names, frames=held_out.split.clips.shape[1], seeds=seeds, perturbation_seed=settings.seed,
        folds=part if source.folds else None, files=held_out.files, groups=held_out.groups,
        unchanged=unchanged, perturbed=perturbed, md5s=md5s,
    )  # fmt: skip


def check_answers(name: str, key: ReplicateKey, probabilities: NDArray[np.float32]) -> None:
    """Check that the answers of a replicate are numbers.

    Raises:
        UserError: if one is not.
    """
    if nonsense := int((~np.isfinite(probabilities)).any(axis=1).sum()):
        raise UserError(
            f"{replicate_path(MODELS / name, key)}: its answers to {nonsense} of {len(probabilities)} clips are not "
            f"numbers; train it again: dvc repro --force {training_stage(name)}"
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


def measure_costs(engine: Engine, params: Params, models: Sequence[str]) -> dict[str, Cost]:
    """Measure the cost of models here, one after the other: nothing else runs while one is timed."""
    key, threads = replicate_keys(params.training.seeds)[0], params.training.threads
    tasks = [partial(_measure_cost, replicate_path(MODELS / name, key), key.fold, threads) for name in models]
    with nullcontext(engine) if isinstance(engine, LocalEngine) else local_engine() as here:
        return dict(zip(models, run_tasks(here, tasks, joblib.cpu_count()), strict=True))


# Imported in the functions: the main process needs no TensorFlow.
def _answer(
    path: Path, fold: int | None, numbers: NDArray[np.int64], first: int, how: tuple[str, float, int], threads: int,
    _on_event: EventCallback,
) -> NDArray[np.float32]:  # fmt: skip
    """Return the answers of the model at `path` to clips of a part.

    Args:
        numbers: of the clips among all held-out clips.
        first: the number of the first clip of the part.
        how: name and level of the condition, and the seed of what it draws.
    """
    with importing_tensorflow():
        from motionbench.evaluation.inference import answer
    name, level, seed = how
    clips = read_test(fold).clips
    return answer(
        path, clips if name == UNCHANGED else perturb(clips[numbers - first], numbers, name, level, seed), threads
    )


def _measure_cost(path: Path, fold: int | None, threads: int, _on_event: EventCallback) -> Cost:
    with importing_tensorflow():
        from motionbench.evaluation.inference import measure_cost
    return measure_cost(path, read_test(fold).clips, threads)
