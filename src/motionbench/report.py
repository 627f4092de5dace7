"""The comparison as tables: on the terminal, as Markdown and as one self-contained HTML page."""

import base64
import html
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from motionbench.data.splits import Split
from motionbench.figures import confusions, learning_curves
from motionbench.results import ModelResult
from motionbench.statistics import compare

Models = Mapping[str, ModelResult]


def verdict(models: Models, labels: NDArray[np.int64]) -> str:
    """Say in a sentence or two whether the test split shows a difference between the models, and how sure that is.

    A difference counts as shown where it holds both for other clips, by an exact paired test, and for other clips and
    other replicates, by an interval.
    """
    (first, ours), (second, theirs) = models.items()
    found = compare(_right(ours, labels), _right(theirs, labels))
    interval = (
        f"95 % interval {found.interval[0]:+.3f} to {found.interval[1]:+.3f}, exact paired test p = {found.p_value:.2g}"
    )
    if found.shown:
        better, worse = (first, second) if found.difference > 0 else (second, first)
        return f"{better} is better than {worse}: accuracy {first} less {second} {found.difference:+.3f} ({interval})."
    clips = len(labels)
    if _right(ours, labels).all() and _right(theirs, labels).all():
        return (
            f"No difference shown: every replicate of both models classifies all {clips} test clips right. With so few "
            f"clips that is compatible, at 95 % confidence, with a true accuracy as low as {ours['interval'][0]:.3f}, "
            f"and the test could not have shown a difference below {found.detectable:.3f}."
        )
    return (
        f"No difference shown: accuracy {first} less {second} {found.difference:+.3f} ({interval}). With {clips} clips "
        f"the test could not have shown a difference below {found.detectable:.3f}."
    )


def _right(model: ModelResult, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which answers are right, shape (replicates, clips)."""
    right: NDArray[np.bool_] = np.array([replicate["predicted"] for replicate in model["replicates"]]) == labels
    return right


def summary_rows(models: Models) -> list[list[str]]:
    """Return the rows of the summary table: a name, then a cell a model."""
    cells: dict[str, Callable[[ModelResult], str]] = {
        "test clips right, per replicate": lambda m: ", ".join(f"{r['correct']}/{r['clips']}" for r in m["replicates"]),
        "accuracy, mean": lambda m: f"{m['accuracy']:.4f}",
        "95 % interval": lambda m: f"{m['interval'][0]:.3f} to {m['interval'][1]:.3f}",
        "parameters": lambda m: f"{m['parameters']:,}",
        "training, seconds a replicate": lambda m: f"{m['training_seconds']:.1f}",
        "epochs to the kept weights": lambda m: ", ".join(str(epoch) for epoch in m["best_epochs"]),
        "latency of one clip, ms": lambda m: f"{m['cost']['latency_milliseconds']:.1f}",
        "throughput in batches of 32, clips/s": lambda m: f"{m['cost']['clips_per_second']:.0f}",
    }
    return [[name, *(cell(model) for model in models.values())] for name, cell in cells.items()]


def class_rows(models: Models, class_names: Sequence[str]) -> list[list[str]]:
    """Return rows of class, model, precision, recall and F1, each the mean over the replicates."""
    rows = []
    for name in class_names:
        for model_name, model in models.items():
            scores = [replicate["classes"][name] for replicate in model["replicates"]]
            means = [mean(score[key] for score in scores) for key in ("precision", "recall", "f1")]
            rows.append([name, model_name, *(f"{value:.3f}" for value in means)])
    return rows


def search_notes(models: Models) -> list[str]:
    """Say of each model whose parameters come from a search how the search's promise was kept."""
    return [
        f"The parameters of {name} are those of trial {search['number']} of study {search['study']}, the best of "
        f"{search['trials']}, with a validation loss of {search['validation_loss']:.3g}. At the epochs at which the "
        f"retrained replicates ended, the trial had {search['promised']:.3g} and they have {search['retrained']:.3g}: "
        f"an optimism gap of {search['retrained'] - search['promised']:+.4f} nats."
        for name, model in models.items()
        if (search := model["search"])
    ]


def print_summary(models: Models, labels: NDArray[np.int64], report: Path) -> None:
    """Print the summary table, the verdict and where the report is."""
    table = Table("", *models, title="on the test split")
    for row in summary_rows(models):
        table.add_row(*row)
    console = Console()
    console.print(table)
    console.print(
        "\n".join([verdict(models, labels), *search_notes(models), f"The report: {report}"]),
        soft_wrap=True,
        markup=False,
    )


def draw_pictures(
    folder: Path, models: Models, histories: Mapping[str, pd.DataFrame], class_names: Sequence[str]
) -> dict[str, Path]:
    """Write learning_curves.png and confusion.png to `folder`; return them by their captions."""
    matrices = {
        name: np.sum([score["confusion"] for score in model["replicates"]], axis=0) for name, model in models.items()
    }
    figures = {
        "Learning curves": (learning_curves(histories), folder / "learning_curves.png"),
        "Confusions, all replicates together": (confusions(matrices, class_names), folder / "confusion.png"),
    }
    for figure, path in figures.values():
        figure.savefig(path, dpi=110)
    return {caption: path for caption, (_, path) in figures.items()}


def write_reports(folder: Path, models: Models, split: Split, pictures: Mapping[str, Path]) -> None:
    """Write report.md, which links `pictures` by file name, and report.html, which holds them.

    Args:
        split: the one that the models were tested on.
        pictures: caption to file; PNG or GIF files in `folder`.
    """
    environment = Environment(
        loader=PackageLoader("motionbench"), autoescape=select_autoescape(["html.j2"]), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters["data_url"] = _data_url
    # Neither tags nor links, of which some load pictures.
    environment.filters["markdown"] = lambda text: re.sub(r"([\\`|\[\]])", r"\\\1", html.escape(text))
    for name in ("report.md", "report.html"):
        text = environment.get_template(f"{name}.j2").render(
            verdict=verdict(models, split.labels),
            searches=search_notes(models),
            models=list(models),
            summary=summary_rows(models),
            classes=class_rows(models, split.class_names),
            pictures=pictures,
        )
        (folder / name).write_text(text, encoding="utf-8")


def _data_url(picture: Path) -> str:
    content = base64.b64encode(picture.read_bytes()).decode()
    return f"data:image/{picture.suffix.removeprefix('.')};base64,{content}"
