"""All models tested on the test clips, in parallel, and their costs measured, one after the other."""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial

import joblib
import numpy as np
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from motionbench.core.paths import MODELS, ReplicateKey, replicate_path
from motionbench.data.splits import AnySplit, SourceRecord, Split, held_out_folder, join, read_source, read_test
from motionbench.evaluation.held_out import HeldOutClips
from motionbench.evaluation.results import Answers, Cost, Models, Perturbed, Scores, join_results, read_applied_search
from motionbench.execution.engine import Engine, EventCallback, FileTask, LocalEngine, local_engine, run_tasks
from motionbench.execution.runtime import importing_tensorflow
from motionbench.models.registry import contenders_among
from motionbench.params.schema import Params
from motionbench.training.replicates import replicate_keys
from motionbench.training.results import Training


def evaluate_models(
    engine: Engine, trained: dict[str, Training], params: Params, tests: Sequence[Split], clips: HeldOutClips
) -> Models:
    """Test every replicate of every model on the clips that it has not seen, and measure the cost of each model here.

    With folds, the answers of a seed's replicates are joined: each clip is tested once per seed.

    Args:
        tests: the clips to test with, those of each fold.
        clips: what the answers to them are judged by.

    Raises:
        UserError: if a model or a test clip is missing or damaged.
    """
    keys, threads = replicate_keys(params.training.seeds), params.training.threads
    source = read_source()
    settings = params.perturbations.settings(source)
    conditions = [None, *settings]
    folds = list(dict.fromkeys(key.fold for key in keys))
    clips_per_class = params.perturbations.clips_per_part(len(tests))
    # The answers to each condition are a task, since those of one model may take ten times as long as of another.
    tasks = [
        FileTask(
            partial(_answer, name, key, threads, condition, clips_per_class, params.perturbations.seed, source),
            inputs=[replicate_path(MODELS / name, key), held_out_folder(key.fold)],
        )
        for name in trained
        for key in keys
        for condition in conditions
    ]
    answers = iter(run_tasks(engine, tasks, threads))
    # Each takes all cores, so that nothing else runs while it is timed.
    cost_tasks = [partial(_measure_cost, name, keys[0], threads) for name in trained]
    with nullcontext(engine) if isinstance(engine, LocalEngine) else local_engine() as here:
        costs = run_tasks(here, cost_tasks, joblib.cpu_count())
    searches = {name: read_applied_search(name, trained[name]) for name in contenders_among(trained)}
    test = join(tests)
    models = {}
    for name, cost in zip(trained, costs, strict=True):
        by_key = {key: [next(answers) for _ in conditions] for key in keys}
        scores = [
            score([by_key[ReplicateKey(seed, fold)] for fold in folds], settings, test)
            for seed in params.training.seeds
        ]
        models[name] = join_results(trained[name], scores, cost, clips, searches.get(name))
    return models


def score(parts: Sequence[Sequence[Answers]], settings: Sequence[tuple[str, float]], test: AnySplit) -> Scores:
    """Join the answers to all parts of the test clips, and score those to clips as they are.

    Args:
        parts: of each part of the clips, the answers to the clips as they are, then under each of `settings`.
        settings: name and level of each perturbation.
    """
    labels, names = test.labels, test.class_names
    unchanged, *perturbed = (_join(same) for same in zip(*parts, strict=True))
    predicted = np.array(unchanged["predicted"])
    numbers = np.arange(len(names))
    precision, recall, f1, _ = precision_recall_fscore_support(labels, predicted, labels=numbers, zero_division=0)
    hits = int((predicted == labels).sum())
    return Scores(
        correct=hits,
        clips=len(predicted),
        accuracy=hits / len(predicted),
        classes={
            name: {"precision": float(precision[label]), "recall": float(recall[label]), "f1": float(f1[label])}
            for label, name in enumerate(names)
        },
        confusion=confusion_matrix(labels, predicted, labels=numbers).tolist(),
        predicted=unchanged["predicted"],
        perturbed=[
            Perturbed(perturbation=name, level=level, **answers)
            for (name, level), answers in zip(settings, perturbed, strict=True)
        ],
    )


def _join(parts: Sequence[Answers]) -> Answers:
    return Answers(
        predicted=[answer for part in parts for answer in part["predicted"]],
        right=[right for part in parts for right in part["right"]],
    )


# Imported in the functions: the main process needs no TensorFlow.
def _answer(
    name: str, key: ReplicateKey, threads: int, condition: tuple[str, float] | None, clips_per_class: int, seed: int,
    source: SourceRecord, _on_event: EventCallback,
) -> Answers:  # fmt: skip
    with importing_tensorflow():
        from motionbench.evaluation.scoring import answer
    path, split = replicate_path(MODELS / name, key), read_test(key.fold)
    return answer(path, split, threads, condition, clips_per_class, seed, source)


def _measure_cost(name: str, key: ReplicateKey, threads: int, _on_event: EventCallback) -> Cost:
    with importing_tensorflow():
        from motionbench.evaluation.scoring import measure_cost
    return measure_cost(replicate_path(MODELS / name, key), read_test(key.fold), threads)
