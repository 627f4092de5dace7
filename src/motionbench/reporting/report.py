"""The comparison as tables: on the terminal, as Markdown and as one HTML page; and docs/perturbations.md."""

import base64
import html
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import mean

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table

from motionbench.core.errors import UserError
from motionbench.data.perturbations import PERTURBATIONS
from motionbench.evaluation.audit import Finding
from motionbench.evaluation.comparison import group_accuracies, missed_clips
from motionbench.evaluation.held_out import HeldOutClips
from motionbench.evaluation.results import (
    ModelResult,
    Models,
    balanced_accuracy,
    perturbation_settings,
    right_when_perturbed,
)
from motionbench.evaluation.statistics import Groups, adjust_false_discoveries, compare
from motionbench.models.registry import contenders_among

MOST_GROUPS = 30  # in a table
MOST_CLIPS = 20


def write_reports(
    folder: Path, models: Models, clips: HeldOutClips, sentences: Sequence[str], findings: Sequence[Finding],
    pictures: Mapping[str, str], origin: Mapping[str, str],
) -> None:  # fmt: skip
    """Write report.md, which links the pictures in `folder`, and report.html, which contains them.

    Args:
        sentences: the verdict, and what else to say before the tables.
        findings: of the leak audit; none if there was none.
        pictures: name to caption, as `draw_pictures` returns them.
        origin: run_id, url and commit of the run that drew them.
    """
    templates = _templates()
    templates.filters["base64"] = lambda name: base64.b64encode((folder / f"{name}.png").read_bytes()).decode()
    *others, last = contenders = contenders_among(models)
    perturbations = perturbation_rows(models, clips.groups_of_perturbed)
    for name in ("report.md", "report.html"):
        text = templates.get_template(f"{name}.j2").render(
            sentences=sentences,
            models=list(models),
            contenders=contenders,
            title=f"{', '.join(others)} or {last}?" if others else last,
            summary=summary_rows(models),
            groups=[] if clips.groups is None else group_rows(models, clips),
            most_groups=MOST_GROUPS,
            missed=missed_rows(models, clips),
            most_clips=MOST_CLIPS,
            clips=len(clips.labels),
            audit=audit_rows(findings),
            pairs=list(combinations(contenders, 2)),
            perturbations=perturbations,
            perturbed_clips=len(clips.perturbed),
            classes=class_rows(models, clips.class_names),
            machines=machine_rows(models),
            pictures=pictures,
            origin=origin,
        )
        (folder / name).write_text(text, encoding="utf-8")


def describe_perturbations() -> str:
    """Return docs/perturbations.md: what each perturbation does, its levels, and whether it changes labels."""
    levels = {name: TypeAdapter(perturbation.level).json_schema() for name, perturbation in PERTURBATIONS.items()}
    return _templates().get_template("perturbations.md.j2").render(perturbations=PERTURBATIONS, levels=levels)


def _templates() -> Environment:
    templates = Environment(
        loader=PackageLoader("motionbench.reporting"),
        autoescape=select_autoescape(["html.j2"]), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    # Escapes tags and links: both can load pictures from elsewhere.
    templates.filters["markdown"] = lambda text: re.sub(r"([\\`|\[\]])", r"\\\1", html.escape(text))
    return templates


def summary_rows(models: Models) -> list[list[str]]:
    """Return the rows of the summary table: a name, then a cell per model."""
    cells: dict[str, Callable[[ModelResult], str]] = {
        "test clips right, per replicate": lambda m: ", ".join(f"{r['correct']}/{r['clips']}" for r in m["replicates"]),
        "accuracy, mean": lambda m: f"{m['accuracy']:.4f}",
        "95 % interval": lambda m: f"{m['interval'][0]:.3f} to {m['interval'][1]:.3f}",
        "balanced accuracy, mean": lambda m: f"{balanced_accuracy(m):.4f}",
        "parameters": lambda m: f"{m['training'].parameters:,}",
        "million FLOPs per clip": lambda m: f"{m['cost'].flops / 1e6:,.0f}",
        "best epoch": lambda m: ", ".join(str(epoch) for epoch in m["training"].best_epochs),
        "time to best epoch (s)": lambda m: f"{m['training'].seconds:.1f}",
        "peak memory of training (MB)": lambda m: f"{m['training'].peak_megabytes:,.0f}",
        "latency of one clip (ms, quartiles)": lambda m: _spread(m["cost"][1:3], 1),
        "throughput in batches of 32 (clips/s)": lambda m: _spread(m["cost"][3:], 0),
        "tuning": lambda m: f"{m['search']['trials']} trials" if m["search"] else "none",
    }
    return [[name, *(cell(model) for model in models.values())] for name, cell in cells.items()]


def _spread(measured: tuple[float, tuple[float, float]], digits: int) -> str:
    median, (low, high) = measured
    return f"{median:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def class_rows(models: Models, class_names: Sequence[str]) -> list[list[str]]:
    """Return rows of class, model, precision, recall and F1, each the mean over the replicates."""
    rows = []
    for name in class_names:
        for model_name, model in models.items():
            scores = [replicate["classes"][name] for replicate in model["replicates"]]
            rows.append([name, model_name, *(f"{mean(each[key] for each in scores):.3f}" for key in scores[0])])
    return rows


def group_rows(models: Models, clips: HeldOutClips) -> list[list[str]]:
    """Return rows of group, number of clips, and accuracy of each model, the worst group of the contenders first."""
    assert clips.groups is not None
    table = group_accuracies(models, clips.labels, clips.groups)
    order = table[list(contenders_among(models))].mean(axis=1).argsort(kind="stable")
    return [
        [_printable(group), str(count), *(f"{accuracy:.3f}" for accuracy in accuracies)]
        for group, count, *accuracies in table.iloc[order].itertuples(index=False)
    ]


def missed_rows(models: Models, clips: HeldOutClips) -> list[list[str]]:
    """Return rows of clip, class, and what each contender says of it, of the clips that all of them miss."""
    return [[_printable(cell) for cell in row] for row in missed_clips(models, clips).itertuples(index=False)]


def _printable(name: object) -> str:
    return str(UserError(str(name)))  # The name of a file or group may hold line ends and terminal codes.


def audit_rows(findings: Sequence[Finding]) -> list[list[str]]:
    """Return rows of check, accuracy, what that is compared with, FIRES or silent, and what it means."""
    return [
        [
            each.check.replace("_", " "),
            *("" if value is None else f"{value:.3f}" for value in (each.accuracy, each.reference)),
            "FIRES" if each.fires else "silent",
            each.sentence,
        ]
        for each in findings
    ]


def perturbation_rows(models: Models, groups: Groups | None = None) -> list[list[str]]:
    """Return rows of perturbation, level, accuracy of each model, and the difference of each two contenders.

    A difference has its 95 % interval, and its p-value, which is adjusted for the number of all p-values.

    Args:
        groups: of the perturbed clips.
    """
    settings = perturbation_settings(models)
    right = {name: right_when_perturbed(model) for name, model in models.items()}
    found = [
        compare(ours, theirs, groups=groups)
        for first, second in combinations(contenders_among(models), 2)
        for ours, theirs in zip(right[first], right[second], strict=True)
    ]
    adjusted = adjust_false_discoveries([each.p_value for each in found])
    rows = []
    for number, (name, level) in enumerate(settings):
        accuracies = [f"{answers[number].mean():.3f}" for answers in right.values()]
        row = [name.replace("_", " "), f"{level:g}", *accuracies]
        for each, p_value in list(zip(found, adjusted, strict=True))[number :: len(settings)]:
            low, high = each.interval
            row += [f"{each.difference:+.3f} ({low:+.3f} to {high:+.3f})", f"{p_value:.2g}"]
        rows.append(row)
    return rows


def machine_rows(models: Models) -> list[list[str]]:
    """Return rows of machine, and the replicates of each model that it trained; none if all are of one type."""
    trained = [model["training"].machines for model in models.values()]
    machines = {machine: None for each in trained for machine in each.values()}
    if len(machines) == 1:
        return []
    return [
        [machine, *(", ".join(str(key) for key, where in each.items() if where == machine) for each in trained)]
        for machine in machines
    ]


def print_summary(models: Models, sentences: Sequence[str], report: Path) -> None:
    """Print the summary table, the sentences, and where the report is."""
    table = Table("", *models, title="on the test split")
    for row in summary_rows(models):
        table.add_row(*row)
    console = Console()
    console.print(table)
    console.print("\n".join([*sentences, f"The report: {report}"]), soft_wrap=True, markup=False)
