"""The comparison as tables: on the terminal, as Markdown and as one HTML page; and docs/perturbations.md."""

import base64
import html
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from pydantic import TypeAdapter
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from motionbench.comparison.findings import Findings, Model
from motionbench.comparison.sentences import format_p
from motionbench.comparison.tables import balanced_accuracy, class_scores, group_accuracies, missed_clips
from motionbench.core.errors import printable
from motionbench.data.perturbations import PERTURBATIONS
from motionbench.evaluation.predictions import UNCHANGED

MOST_ROWS = {"groups": 30, "clips": 20}  # in a table


class Section(NamedTuple):
    """A part of the report, without the table and its text if that has no rows."""

    heading: str
    text: str = ""  # before the table
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    more: str = ""  # after the table
    pictures: Sequence[str] = ()  # by name


def write_reports(
    folder: Path, findings: Findings, notes: Sequence[str], pictures: Mapping[str, str], origin: Mapping[str, str]
) -> None:
    """Write report.md, which links the pictures in `folder`, and report.html, which contains them.

    Args:
        notes: what to say after the verdict.
        pictures: name to caption, as `draw_pictures` returns them.
        origin: run_id, url and commit of the run that drew them.
    """
    templates = _templates()
    templates.filters["base64"] = lambda name: base64.b64encode((folder / f"{name}.png").read_bytes()).decode()
    *others, last = findings.contenders
    sections = [
        describe_models(findings),
        describe_groups(findings),
        describe_missed_clips(findings),
        describe_audit(findings),
        describe_perturbed(findings),
        Section("Where the models disagree", pictures=[name for name in pictures if name == "disagreements"]),
        describe_classes(findings),
        describe_training(findings),
        Section("Samples", pictures=["samples"]),
    ]
    for name in ("report.md", "report.html"):
        text = templates.get_template(f"{name}.j2").render(
            title=f"{', '.join(others)} or {last}?" if others else last,
            verdict=findings.verdict,
            notes=notes,
            sections=[section for section in sections if section.rows or section.pictures],
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
    )  # fmt: skip # what belongs together on one line
    # Escapes tags and links, which can load pictures from elsewhere, and what would be emphasis or a formula.
    special = re.compile(r"([\\`|\[\]*~$]|(?<!\w)_|_(?!\w))")
    templates.filters["markdown"] = lambda text: special.sub(r"\\\1", html.escape(text))
    return templates


def describe_models(findings: Findings) -> Section:
    """Return a row for each figure, with a cell for each model."""
    cells: dict[str, Callable[[Model], str]] = {
        "test clips right, per seed": lambda m: ", ".join(f"{each.sum()}/{len(each)}" for each in m.right),
        "accuracy, mean": lambda m: f"{m.accuracy:.4f}",
        f"95 % interval{', if seeds differ by 3 points' if len(findings.predictions.seeds) == 1 else ''}": (
            lambda m: _interval(m.interval)
        ),
        "balanced accuracy, mean": lambda m: f"{balanced_accuracy(m.confusion):.4f}",
        "log loss (nats)": lambda m: f"{m.calibration.log_loss:.3f}",
        "log loss of guessing (nats)": lambda m: f"{m.calibration.guessing_loss:.3f}",
        "Brier score (0 to 2)": lambda m: f"{m.calibration.brier_score:.3f}",
        "expected calibration error": lambda m: f"{m.calibration.calibration_error:.3f}",
        "parameters": lambda m: f"{m.training.parameters:,}",
        "million FLOPs per clip": lambda m: f"{m.cost.flops / 1e6:,.0f}",
        "best epoch": lambda m: ", ".join(str(epoch) for epoch in m.training.replicates["epoch"]),
        "time to best epoch (s)": lambda m: f"{m.training.seconds:.1f}",
        "peak memory of training (MB)": lambda m: f"{m.training.peak_megabytes:,.0f}",
        "latency of one clip (ms, quartiles)": lambda m: _spread(
            m.cost.latency_milliseconds, m.cost.latency_quartiles, 1
        ),
        "with a thread for each core (ms)": lambda m: (
            "not measured" if m.cost.latency_all_cores is None else f"{m.cost.latency_all_cores:.1f}"
        ),
        "throughput in batches of 32 (clips/s)": lambda m: _spread(
            m.cost.clips_per_second, m.cost.throughput_quartiles, 0
        ),
        "runtime of these": lambda m: m.cost.runtime,
        "tuning": lambda m: f"{m.search['trials']} trials" if m.search else "none",
    }
    rows = [[name, *(cell(model) for model in findings.models.values())] for name, cell in cells.items()]
    return Section("On the test split", "", ["", *findings.models], rows, "", ["cost", "reliability"])


def _interval(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.3f} to {interval[1]:.3f}"


def _spread(median: float, quartiles: tuple[float, float], digits: int) -> str:
    low, high = quartiles
    return f"{median:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def describe_groups(findings: Findings) -> Section:
    """Return rows of group, number of clips, and accuracy of each model, the worst group of the contenders first."""
    if findings.predictions.groups is None:
        return Section("")
    table = group_accuracies(findings)
    order = table[list(findings.contenders)].mean(axis=1).argsort(kind="stable")
    rows = [
        [printable(str(group)), str(count), *(f"{accuracy:.3f}" for accuracy in accuracies)]
        for group, count, *accuracies in table.iloc[order].itertuples(index=False)
    ]
    most = MOST_ROWS["groups"]
    return Section(
        "Groups, mean over the seeds",
        "The accuracy of each model on each group, the worst group of the contenders first.",
        ["group", "clips", *findings.models],
        rows[:most],
        f"{len(rows) - most} more are in metrics/comparison/groups.csv." if len(rows) > most else "",
    )


def describe_missed_clips(findings: Findings) -> Section:
    """Return rows of clip, class, and what each contender says of it, of the clips that all of them miss."""
    # Names of files and groups may hold line ends and terminal codes.
    rows = [[printable(str(cell)) for cell in row] for row in missed_clips(findings).itertuples(index=False)]
    most = MOST_ROWS["clips"]
    return Section(
        "Clips that every contender misses",
        f"{len(rows)} of the {len(findings.predictions.labels)} clips: more than half of the networks of each "
        "contender are wrong, most often as shown.",
        ["clip", "class", *findings.contenders],
        rows[:most],
        f"{len(rows) - most} more." if len(rows) > most else "",
    )


def describe_audit(findings: Findings) -> Section:
    """Return rows of check, accuracy, what that is compared with, FIRES or silent, and what it means."""
    rows = [
        [
            each.check.replace("_", " "),
            *("" if value is None else f"{value:.3f}" for value in (each.accuracy, each.reference)),
            "FIRES" if each.fires else "silent",
            each.sentence,
        ]
        for each in findings.audit
    ]
    return Section(
        "Leak audit",
        "What could tell the class without motion, and whether it does. The accuracy of a model that cannot see motion "
        "is compared with that of the best model; that of a random forest on what the files say about themselves "
        "(number of frames, rate, duration, size, proportions, audio), with the share of the commonest class; and how "
        "often the clips that look most alike have one class, with chance.",
        ["check", "accuracy", "compared with", "", "what it means"],
        rows,
        pictures=[each.check for each in findings.audit if each.pairs],
    )


def describe_perturbed(findings: Findings) -> Section:
    """Return rows of perturbation, level, accuracy of each model, and the difference of each two contenders.

    A difference has its 95 % interval, and the p-value of `Perturbed`. The first row is of the same clips as they are.
    """
    if not findings.perturbed:
        return Section("")
    rows, untestable = [], False
    for condition, found in findings.perturbed:
        accuracies = [f"{condition.right(model).mean():.3f}" for model in findings.models]
        level = "" if condition.name == UNCHANGED else f"{condition.level:g}"
        row = [condition.name.replace("_", " "), level, *accuracies]
        for each, p_value in found:
            low, high = (each.recipes or each.networks).interval
            untestable |= p_value is None
            shown = "-" if p_value is None else format_p(p_value).removeprefix("p = ")
            row += [f"{each.difference:+.3f} ({low:+.3f} to {high:+.3f})", shown]
        rows.append(row)
    one_seed = len(findings.predictions.seeds) == 1
    of_networks, again = (" of these networks", "") if one_seed else ("", " and trained again")
    missing = " Where it is missing, these clips are in too few groups to show any difference." if untestable else ""
    pairs = combinations(findings.contenders, 2)
    return Section(
        "Perturbed",
        f"Accuracy on {len(findings.perturbed[0].condition.clips)} of the clips, as they are and perturbed, with other "
        "labels where the perturbation changes the right answer. Differences have 95 % intervals"
        f"{of_networks}; p tests whether one model is better, as these networks{again}; it is adjusted for the number "
        f"of tests.{missing}",
        ["perturbation", "level", *findings.models, *(cell for pair in pairs for cell in (" less ".join(pair), "p"))],
        rows,
        pictures=["perturbations"],
    )


def describe_classes(findings: Findings) -> Section:
    """Return rows of class, model, precision, recall and F1, each the mean over the seeds."""
    scores = {
        name: np.mean([class_scores(each) for each in model.confusion], axis=0)
        for name, model in findings.models.items()
    }
    rows = [
        [class_name, name, *(f"{value:.3f}" for value in each[number])]
        for number, class_name in enumerate(findings.predictions.class_names)
        for name, each in scores.items()
    ]
    header = ["class", "model", "precision", "recall", "F1"]
    return Section("Classes, mean over the seeds", "", header, rows, "", ["confusions"])


def describe_training(findings: Findings) -> Section:
    """Return rows of machine, and the replicates of each model that it trained; none if all are of one type."""
    trained = [model.training.machines for model in findings.models.values()]
    machines = dict.fromkeys(machine for each in trained for machine in each.values())
    rows = [
        [machine, *(", ".join(str(key) for key, where in each.items() if where == machine) for each in trained)]
        for machine in machines
        if len(machines) > 1
    ]
    return Section(
        "Training",
        "The replicates were trained on machines that differ, so their weights may differ in the last bits from those "
        "of one machine.",
        ["machine", *findings.models],
        rows,
        pictures=["learning_curves"],
    )


def print_summary(findings: Findings, notes: Sequence[str], report: Path) -> None:
    """Print a table with a row per model, the verdict, the notes, and where the report is."""
    table = Table("model", box=SIMPLE, pad_edge=False, collapse_padding=True)
    for heading in ("accuracy", "95 % interval", "log loss", "latency", "time to best"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, model in findings.models.items():
        table.add_row(
            name,
            f"{model.accuracy:.3f}",
            _interval(model.interval),
            f"{model.calibration.log_loss:.3f}",
            f"{model.cost.latency_milliseconds:.1f} ms",
            f"{model.training.seconds:.1f} s",
        )
    console = Console(highlight=False)
    console.print(table)
    lines = "\n".join([*findings.verdict, *notes, f"The report: {report}"])
    console.print(lines, soft_wrap=not console.is_terminal, markup=False)
