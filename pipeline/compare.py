"""Stage `compare`: both models on the test split, which nothing before has seen."""

import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import joblib

from motionbench.data.splits import read_split
from motionbench.errors import run_command
from motionbench.files import replaced_whole, replicate_path
from motionbench.parallel import Report, discarded_stderr, import_ahead, run_side_by_side
from motionbench.params import MODEL_NAMES, Params, load_params, stage_params

if TYPE_CHECKING:
    from motionbench.evaluation import Cost, Scores

TEST, SAMPLES = Path("data/test"), Path("reports/samples/contact_sheet.png")
METRICS, TIMING, REPORT = Path("metrics/comparison"), Path("metrics/timing/comparison.json"), Path("reports/comparison")


def main() -> None:
    """Write metrics/comparison/, metrics/timing/comparison.json and reports/comparison/, and print the table."""
    params = load_params()
    test = read_split(TEST, params.data)
    import_ahead("motionbench.evaluation")
    # Late: a bad parameter is to be answered in a blink.
    from motionbench import tracking
    from motionbench.records import describe
    from motionbench.report import draw_pictures, print_summary, write_reports
    from motionbench.results import describe_model, read_search, read_training, write_comparison

    trained = {
        name: read_training(name, Path("metrics", name), Path(f"metrics/timing/{name}.json")) for name in MODEL_NAMES
    }
    searches = {
        name: read_search(
            name, {key: getattr(section, key) for key in type(section).model_fields}, trained[name].history
        )
        for name, section in ((name, params.model(name)) for name in MODEL_NAMES)
    }
    declared = stage_params(params, "compare")
    with tracking.stage_run("compare", declared) as run:
        seeds, threads = params.training.seeds, params.training.threads
        tasks = [partial(_score, name, seed, params) for name in MODEL_NAMES for seed in seeds]
        scores = iter(run_side_by_side(tasks, threads))
        # Each claims all cores, so that nothing else computes while it is timed.
        cost_tasks = [partial(_measure_cost, name, seeds[0], params) for name in MODEL_NAMES]
        costs = run_side_by_side(cost_tasks, joblib.cpu_count())
        models = {
            name: describe_model(trained[name], [next(scores) for _ in seeds], cost, searches[name])
            for name, cost in zip(MODEL_NAMES, costs, strict=True)
        }
        with replaced_whole(METRICS, TIMING, REPORT) as (metrics, timing, report):
            write_comparison(metrics, timing, models, test.labels)
            pictures = {"Samples": report / "samples.png"}
            shutil.copyfile(SAMPLES, pictures["Samples"])
            histories = {name: training.history for name, training in trained.items()}
            pictures |= draw_pictures(report, models, histories, test.class_names)
            write_reports(report, models, test, pictures)
        run.complete(describe("compare", declared))
    print_summary(models, test.labels, REPORT / "report.html")


def _score(name: str, seed: int, params: Params, _report: Report) -> "Scores":
    # Imported where it runs: the process that waits for the answers needs no TensorFlow.
    with discarded_stderr():
        from motionbench.evaluation import score
    return score(replicate_path(Path("models", name), seed), read_split(TEST, params.data), params.training.threads)


def _measure_cost(name: str, seed: int, params: Params, _report: Report) -> "Cost":
    with discarded_stderr():
        from motionbench.evaluation import measure_cost
    return measure_cost(
        replicate_path(Path("models", name), seed), read_split(TEST, params.data), params.training.threads
    )


if __name__ == "__main__":
    run_command(main)
