"""All models scored on the test split, in parallel, and their costs measured, one after the other."""

from functools import partial

import joblib

from motionbench.core.paths import MODELS, TEST, replicate_path
from motionbench.data.splits import read_split
from motionbench.evaluation.results import Cost, Models, Scores, join_results, read_applied_search
from motionbench.execution.engine import EventCallback, LocalEngine, run_tasks
from motionbench.execution.runtime import importing_tensorflow
from motionbench.models.registry import CONTENDERS, MODEL_NAMES
from motionbench.params.schema import Params
from motionbench.training.results import Training


def evaluate_models(engine: LocalEngine, trained: dict[str, Training], params: Params) -> Models:
    """Score every replicate of every model on the test split, and measure the cost of each model.

    Raises:
        UserError: if a model or the test split is missing or damaged.
    """
    seeds = params.training.seeds
    tasks = [partial(_score, name, seed, params) for name in MODEL_NAMES for seed in seeds]
    scores = iter(run_tasks(engine, tasks, params.training.threads))
    # Each takes all cores, so that nothing else runs while it is timed.
    cost_tasks = [partial(_measure_cost, name, seeds[0], params) for name in MODEL_NAMES]
    costs = run_tasks(engine, cost_tasks, joblib.cpu_count())
    searches = {name: read_applied_search(name, trained[name]) for name in CONTENDERS}
    return {
        name: join_results(trained[name], [next(scores) for _ in seeds], cost, searches.get(name))
        for name, cost in zip(MODEL_NAMES, costs, strict=True)
    }


# Imported in the functions: the main process needs no TensorFlow.
def _score(name: str, seed: int, params: Params, _on_event: EventCallback) -> Scores:
    with importing_tensorflow():
        from motionbench.evaluation.scoring import score
    path = replicate_path(MODELS / name, seed)
    return score(path, read_split(TEST, params.data), params.training.threads, params.perturbations)


def _measure_cost(name: str, seed: int, params: Params, _on_event: EventCallback) -> Cost:
    with importing_tensorflow():
        from motionbench.evaluation.scoring import measure_cost
    return measure_cost(replicate_path(MODELS / name, seed), read_split(TEST, params.data), params.training.threads)
