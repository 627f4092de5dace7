"""Stage `compare`: both models on the test split, which nothing before has seen."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import joblib

from motionbench.data.splits import read_split
from motionbench.errors import run_command
from motionbench.files import replaced_whole, replicate_path
from motionbench.parallel import Report, import_ahead, importing_tensorflow, run_side_by_side
from motionbench.params import CONTROL_NAMES, MODEL_NAMES, Params, load_params, stage_params

if TYPE_CHECKING:
    from motionbench.evaluation import Cost, Scores

TEST = Path("data/test")
METRICS, TIMING, REPORT = Path("metrics/comparison"), Path("metrics/timing/comparison.json"), Path("reports/comparison")
ALL_NAMES = (*MODEL_NAMES, *CONTROL_NAMES)


def main() -> None:
    """Write metrics/comparison/, metrics/timing/comparison.json and reports/comparison/, and print the verdict."""
    params = load_params()
    test = read_split(TEST, params.data)
    import_ahead("motionbench.evaluation")
    # Late: a bad parameter is to be answered in a blink.
    from motionbench import tracking
    from motionbench.records import describe
    from motionbench.report import (
        audit,
        choose_champion,
        draw_pictures,
        print_summary,
        search_notes,
        verdict,
        write_reports,
    )
    from motionbench.results import describe_model, read_search, read_training, write_comparison

    trained = {
        name: read_training(name, Path("metrics", name), Path(f"metrics/timing/{name}.json")) for name in ALL_NAMES
    }
    searches = {name: read_search(name, params.declared(name), trained[name].history) for name in MODEL_NAMES}
    declared = stage_params(params, "compare")
    with tracking.stage_run("compare", declared) as run:
        seeds = params.training.seeds
        tasks = [partial(_score, name, seed, params) for name in ALL_NAMES for seed in seeds]
        scores = iter(run_side_by_side(tasks, params.training.threads))
        # Each claims all cores, so that nothing else computes while it is timed.
        cost_tasks = [partial(_measure_cost, name, seeds[0], params) for name in ALL_NAMES]
        costs = run_side_by_side(cost_tasks, joblib.cpu_count())
        models = {
            name: describe_model(trained[name], [next(scores) for _ in seeds], cost, searches.get(name))
            for name, cost in zip(ALL_NAMES, costs, strict=True)
        }
        champion, why = choose_champion(models, test.labels, params.gate)
        if champion and os.environ.get("DVC_EXP_NAME"):  # DVC's, while `dvc exp run` runs
            champion, why = None, f"{why} An experiment makes none: apply it, then dvc repro --force compare."
        archive = replicate_path(Path("models", champion), trained[champion].best_seed) if champion else None
        sentences = [verdict(models, test.labels), audit(models, test.labels), *search_notes(models), why]
        with replaced_whole(METRICS, TIMING, REPORT) as (metrics, timing, report):
            write_comparison(metrics, timing, models, test, archive)
            histories = {name: training.history for name, training in trained.items()}
            pictures = draw_pictures(report, models, histories, test, params.conditions)
            write_reports(report, models, test.class_names, sentences, pictures, run.origin())
        run.complete(describe("compare", declared, "motionbench.serving"))
    print_summary(models, sentences, REPORT / "report.html")


def _score(name: str, seed: int, params: Params, _report: Report) -> "Scores":
    # Imported where it runs: the process that waits for the answers needs no TensorFlow.
    with importing_tensorflow():
        from motionbench.evaluation import score
    path = replicate_path(Path("models", name), seed)
    return score(path, read_split(TEST, params.data), params.training.threads, params.conditions)


def _measure_cost(name: str, seed: int, params: Params, _report: Report) -> "Cost":
    with importing_tensorflow():
        from motionbench.evaluation import measure_cost
    return measure_cost(
        replicate_path(Path("models", name), seed), read_split(TEST, params.data), params.training.threads
    )


if __name__ == "__main__":
    run_command(main)
