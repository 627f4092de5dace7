"""Stage `compare`: both models on the test split, which nothing before has seen."""

import shutil
from functools import partial
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.console import Console

from motionbench import tracking
from motionbench.data.splits import read_split
from motionbench.errors import UserError, run_command
from motionbench.figures import confusions, learning_curves
from motionbench.files import folder_md5, read_json, replaced_whole, write_json
from motionbench.parallel import Report, discarded_stderr, run_side_by_side
from motionbench.params import MODEL_NAMES, Params, load_params, stage_params
from motionbench.report import terminal_table, verdict, write_reports
from motionbench.statistics import proportion_interval

if TYPE_CHECKING:
    from motionbench.evaluation import Cost, Scores

TEST = Path("data/test")
METRICS, REPORT = Path("metrics/comparison"), Path("reports/comparison")
RESULTS = ("accuracy", "f1")
COSTS = ("latency_milliseconds", "clips_per_second")


def main() -> None:
    """Write metrics/comparison/ and reports/comparison/, and print the table."""
    params = load_params()
    test = read_split(TEST, params.data)
    with tracking.stage_run("compare", stage_params(params, "compare")):
        tracking.log_dataset("test", test.clips, test.labels, folder_md5(TEST))
        seeds, threads = params.training.seeds, params.training.threads
        scores = run_side_by_side(
            [partial(_score, name, seed, params) for name in MODEL_NAMES for seed in seeds], threads
        )
        # One at a time, so that neither is timed while the other computes.
        costs = [run_side_by_side([partial(_measure_cost, name, seeds[0], params)], threads)[0] for name in MODEL_NAMES]
        models = {
            name: _describe(name, scores[number * len(seeds) : (number + 1) * len(seeds)], costs[number])
            for number, name in enumerate(MODEL_NAMES)
        }
        with replaced_whole(METRICS, REPORT) as (metrics, report):
            _write_metrics(metrics, models)
            pictures = _draw_pictures(report, models, test.class_names)
            write_reports(report, models, test.class_names, pictures)
        for name, model in models.items():
            tracking.log_metrics({f"{name}.{key}": model[key] for key in (*RESULTS, *COSTS)})
        tracking.log_files(METRICS, "metrics")
        tracking.log_files(REPORT, "report")
    console = Console()
    console.print(terminal_table(models))
    console.print(verdict(models))
    console.print(f"The report: {REPORT / 'report.html'}", soft_wrap=True)


def _score(name: str, seed: int, params: Params, _report: Report) -> "Scores":
    # Imported where it runs: the process that waits for the answers needs no TensorFlow.
    with discarded_stderr():
        from motionbench.evaluation import score

    return score(_archive(name, seed), read_split(TEST, params.data), params.training.threads)


def _measure_cost(name: str, seed: int, params: Params, _report: Report) -> "Cost":
    with discarded_stderr():
        from motionbench.evaluation import measure_cost

    return measure_cost(_archive(name, seed), read_split(TEST, params.data), params.training.threads)


def _archive(name: str, seed: int) -> Path:
    return Path("models", name, f"seed-{seed}.keras")


def _describe(name: str, scores: "list[Scores]", cost: "Cost") -> dict[str, Any]:
    """Gather what is known of a model: from its training stage's files and from its answers and costs here."""
    intervals = [proportion_interval(score["correct"], score["clips"]) for score in scores]
    trained = Path("metrics", name)
    try:
        replicates = pd.read_csv(trained / "replicates.csv")
        return {
            "accuracy": mean(score["accuracy"] for score in scores),
            "f1": mean(values["f1"] for score in scores for values in score["classes"].values()),
            "interval": [min(low for low, _ in intervals), max(high for _, high in intervals)],
            "parameters": read_json(trained / "summary.json")["parameters"],
            "best_epochs": replicates["epoch"].tolist(),
            "training_seconds": read_json(trained / "timing.json")["training_seconds"],
            **cost,
            "replicates": scores,
        }
    except (OSError, ValueError, KeyError) as error:
        reason = f"not readable ({type(error).__name__}); train again: dvc repro --force train_{name}"
        raise UserError(f"{trained}: {reason}") from error


def _write_metrics(folder: Path, models: dict[str, dict[str, Any]]) -> None:
    write_json(folder / "summary.json", {name: {key: model[key] for key in RESULTS} for name, model in models.items()})
    write_json(folder / "scores.json", {name: model["replicates"] for name, model in models.items()})
    # Apart from the rest, which is the same in every run.
    write_json(folder / "cost.json", {name: {key: model[key] for key in COSTS} for name, model in models.items()})


def _draw_pictures(folder: Path, models: dict[str, dict[str, Any]], class_names: tuple[str, ...]) -> dict[str, Path]:
    histories = {
        name: pd.concat(pd.read_csv(file) for file in sorted(Path("metrics", name, "history").glob("*.csv")))
        for name in models
    }
    matrices = {
        name: np.sum([score["confusion"] for score in model["replicates"]], axis=0) for name, model in models.items()
    }
    pictures = {"Samples": folder / "samples.png"}
    shutil.copyfile("reports/samples/contact_sheet.png", pictures["Samples"])
    for caption, figure in (
        ("Learning curves", learning_curves(histories)),
        ("Confusion on the test split, all replicates together", confusions(matrices, class_names)),
    ):
        pictures[caption] = folder / f"{caption.split(' on ')[0].lower().replace(' ', '_')}.png"
        figure.savefig(pictures[caption], dpi=110)
    return pictures


if __name__ == "__main__":
    run_command(main)
