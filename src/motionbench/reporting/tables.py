"""The comparison as rows of tables, and on the terminal."""

from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from statistics import mean

from rich.console import Console
from rich.table import Table

from motionbench.evaluation.results import ModelResult, Models, perturbation_settings, right_when_perturbed
from motionbench.evaluation.statistics import adjust_false_discoveries, compare
from motionbench.models.registry import CONTENDERS


def summary_rows(models: Models) -> list[list[str]]:
    """Return the rows of the summary table: a name, then a cell per model."""
    cells: dict[str, Callable[[ModelResult], str]] = {
        "test clips right, per replicate": lambda m: ", ".join(f"{r['correct']}/{r['clips']}" for r in m["replicates"]),
        "accuracy, mean": lambda m: f"{m['accuracy']:.4f}",
        "95 % interval": lambda m: f"{m['interval'][0]:.3f} to {m['interval'][1]:.3f}",
        "parameters": lambda m: f"{m['training'].parameters:,}",
        "million FLOPs per clip": lambda m: f"{m['cost']['flops'] / 1e6:,.0f}",
        "best epoch": lambda m: ", ".join(str(epoch) for epoch in m["training"].best_epochs),
        "time to best epoch (s)": lambda m: f"{m['training'].seconds:.1f}",
        "peak memory of training (MB)": lambda m: f"{m['training'].peak_megabytes:,.0f}",
        "latency of one clip (ms, quartiles)": lambda m: _spread(m["cost"]["latency_milliseconds"], 1),
        "throughput in batches of 32 (clips/s)": lambda m: _spread(m["cost"]["clips_per_second"], 0),
        "tuning": lambda m: f"{m['search']['trials']} trials" if m["search"] else "none",
    }
    return [[name, *(cell(model) for model in models.values())] for name, cell in cells.items()]


def _spread(quartiles: Sequence[float], digits: int) -> str:
    low, median, high = (f"{value:,.{digits}f}" for value in quartiles)
    return f"{median} ({low} to {high})"


def class_rows(models: Models, class_names: Sequence[str]) -> list[list[str]]:
    """Return rows of class, model, precision, recall and F1, each the mean over the replicates."""
    rows = []
    for name in class_names:
        for model_name, model in models.items():
            scores = [replicate["classes"][name] for replicate in model["replicates"]]
            means = [mean(score[key] for score in scores) for key in ("precision", "recall", "f1")]
            rows.append([name, model_name, *(f"{value:.3f}" for value in means)])
    return rows


def perturbation_header(models: Models) -> list[str]:
    """Return the header of `perturbation_rows`."""
    pairs = [column for first, second in combinations(CONTENDERS, 2) for column in (f"{first} less {second}", "p")]
    return ["perturbation", "level", *models, *pairs]


def perturbation_rows(models: Models) -> list[list[str]]:
    """Return rows of perturbation, level, accuracy of each model, and the difference of each two contenders.

    A difference stands with its 95 % interval and its p-value, which is adjusted for the number of all p-values.
    """
    right = {name: right_when_perturbed(model) for name, model in models.items()}
    settings = perturbation_settings(models)
    pairs = [
        [compare(right[first][number], right[second][number]) for first, second in combinations(CONTENDERS, 2)]
        for number in range(len(settings))
    ]
    adjusted = iter(adjust_false_discoveries([each.p_value for row in pairs for each in row]))
    return [
        [
            name.replace("_", " "),
            f"{level:g}",
            *(f"{answers[number].mean():.3f}" for answers in right.values()),
            *(
                cell
                for each in pairs[number]
                for cell in (
                    f"{each.difference:+.3f} ({each.interval[0]:+.3f} to {each.interval[1]:+.3f})",
                    f"{next(adjusted):.2g}",
                )
            ),
        ]
        for number, (name, level) in enumerate(settings)
    ]


def perturbed_clips(models: Models) -> int:
    """Return how many clips were perturbed."""
    perturbed = models[CONTENDERS[0]]["replicates"][0]["perturbed"]
    return len(perturbed[0]["right"]) if perturbed else 0


def print_summary(models: Models, sentences: Sequence[str], report: Path) -> None:
    """Print the summary table, what there is to say, and where the report is."""
    table = Table("", *models, title="on the test split")
    for row in summary_rows(models):
        table.add_row(*row)
    console = Console()
    console.print(table)
    console.print("\n".join([*sentences, f"The report: {report}"]), soft_wrap=True, markup=False)
