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
from scipy.stats import mode

from motionbench.data.conditions import Condition, chosen_clips, stressed
from motionbench.data.frames import Clips
from motionbench.data.splits import Split
from motionbench.figures import (
    condition_curves,
    confusions,
    contact_sheet,
    error_against_latency,
    film_strips,
    learning_curves,
)
from motionbench.params import CONTROL_NAMES, MODEL_NAMES, ConditionsParams, GateParams
from motionbench.results import (
    ModelResult,
    accuracies_under_conditions,
    better_model,
    compare_pair,
    right_answers,
    timings,
)
from motionbench.statistics import adjust, compare

Models = Mapping[str, ModelResult]


def verdict(models: Models, labels: NDArray[np.int64]) -> str:
    """Say in a sentence or two whether the test split shows a difference between the models, and how sure that is.

    A difference counts as shown where it holds both for other clips, by an exact paired test, and for other clips and
    other replicates, by an interval.
    """
    first, second = MODEL_NAMES
    found = compare_pair(models, labels)
    interval = (
        f"95 % interval {found.interval[0]:+.3f} to {found.interval[1]:+.3f}, exact paired test p = {found.p_value:.2g}"
    )
    if better := better_model(models, labels):
        worse = second if better == first else first
        return f"{better} is better than {worse}: accuracy {first} less {second} {found.difference:+.3f} ({interval})."
    clips = len(labels)
    if models[first]["accuracy"] == models[second]["accuracy"] == 1:
        return (
            f"No difference shown: every replicate of both models classifies all {clips} test clips right. With so few "
            f"clips that is compatible, at 95 % confidence, with a true accuracy as low as "
            f"{models[first]['interval'][0]:.3f}, and the test could not have shown a difference below "
            f"{found.detectable:.3f}."
        )
    return (
        f"No difference shown: accuracy {first} less {second} {found.difference:+.3f} ({interval}). With {clips} clips "
        f"the test could not have shown a difference below {found.detectable:.3f}."
    )


def audit(models: Models, labels: NDArray[np.int64]) -> str:
    """Say what the controls, which cannot see motion, tell about the data."""
    right = {name: right_answers(model, labels) for name, model in models.items()}
    best = max(MODEL_NAMES, key=lambda name: models[name]["accuracy"])
    behind = {name: compare(right[best], right[name]) for name in CONTROL_NAMES}
    scores = ", ".join(f"{name} {models[name]['accuracy']:.3f}" for name in CONTROL_NAMES)
    alike = [name for name, found in behind.items() if not (found.shown and found.difference > 0)]
    if alike:
        return (
            "The controls are blind to motion (single_frame sees the first frame alone, bag_of_frames all of them in "
            f"no order), and yet their accuracy is {scores}: none better than {' and '.join(alike)} is shown. On "
            "these clips, then, no accuracy is evidence that a model sees motion; data.variant: motion draws clips "
            "that need it."
        )
    return (
        "The controls are blind to motion (single_frame sees the first frame alone, bag_of_frames all of them in "
        f"no order), and their accuracy is {scores}: what {best} reaches beyond that, {models[best]['accuracy']:.3f}, "
        f"rests on motion (exact paired tests, p = {max(found.p_value for found in behind.values()):.2g} or less)."
    )


def choose_champion(models: Models, labels: NDArray[np.int64], gate: GateParams) -> tuple[str | None, str]:
    """Return the model that is fit to be used, None if none is, and say why.

    That is the better model or, where no difference is shown, the faster one, if it passes the gate.
    """
    better = better_model(models, labels)
    name = better or min(MODEL_NAMES, key=lambda name: timings(models[name])["latency_milliseconds"])
    reason = "the better model" if better else "the faster model where no difference is shown"
    low, latency = models[name]["interval"][0], timings(models[name])["latency_milliseconds"]
    if low < gate.minimum_accuracy:
        return None, (
            f"No model becomes champion: the accuracy of {name}, {reason}, may be as low as {low:.3f}, below "
            f"gate.minimum_accuracy: {gate.minimum_accuracy:g}."
        )
    if latency > gate.maximum_latency:
        return None, (
            f"No model becomes champion: the latency of {name}, {reason}, is {latency:.1f} ms, above "
            f"gate.maximum_latency: {gate.maximum_latency:g}."
        )
    return name, f"Champion: {name}, {reason}; accuracy at least {low:.3f}, latency {latency:.1f} ms."


def summary_rows(models: Models) -> list[list[str]]:
    """Return the rows of the summary table: a name, then a cell a model."""
    cells: dict[str, Callable[[ModelResult], str]] = {
        "test clips right, per replicate": lambda m: ", ".join(f"{r['correct']}/{r['clips']}" for r in m["replicates"]),
        "accuracy, mean": lambda m: f"{m['accuracy']:.4f}",
        "95 % interval": lambda m: f"{m['interval'][0]:.3f} to {m['interval'][1]:.3f}",
        "parameters": lambda m: f"{m['training'].parameters:,}",
        "million FLOPs a clip": lambda m: f"{m['cost']['flops'] / 1e6:,.0f}",
        "epochs to the kept weights": lambda m: ", ".join(str(epoch) for epoch in m["training"].best_epochs),
        "training to there, seconds a replicate": lambda m: f"{m['training'].seconds:.1f}",
        "peak memory of training, MB": lambda m: f"{m['training'].peak_megabytes:,.0f}",
        "latency of one clip, ms (quartiles)": lambda m: _spread(m["cost"]["latency_milliseconds"], 1),
        "throughput in batches of 32, clips/s": lambda m: _spread(m["cost"]["clips_per_second"], 0),
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


def search_notes(models: Models) -> list[str]:
    """Say how much search each model had, and of each that had one how its promise was kept."""
    searches = {name: models[name]["search"] for name in MODEL_NAMES}
    trials = {name: search["trials"] if search else 0 for name, search in searches.items()}
    if not any(trials.values()):
        return ["Both models had the same effort of tuning: the parameters of neither come from a search."]
    same = "the same" if len(set(trials.values())) == 1 else "not the same"
    efforts = " and ".join(f"{name} {number} trials" for name, number in trials.items())
    return [
        f"The models had {same} effort of tuning: {efforts}.",
        *(
            f"The parameters of {name} are those of trial {search['number']} of study {search['study']}, the best of "
            f"{search['trials']}, with a validation loss of {search['validation_loss']:.3g}. At the epochs at which "
            f"the retrained replicates ended, the trial had {search['promised']:.3g} and they have "
            f"{search['retrained']:.3g}: an optimism gap of {search['retrained'] - search['promised']:+.4f} nats."
            for name, search in searches.items()
            if search
        ),
    ]


def condition_rows(models: Models) -> list[list[str]]:
    """Return rows of condition, level, accuracy of each model, difference, its interval, and the adjusted p-value.

    The difference is that of the two models, the controls aside.
    """
    right = {name: _right_under_conditions(model) for name, model in models.items()}
    ours, theirs = (right[name] for name in MODEL_NAMES)
    found = [compare(one, other) for one, other in zip(ours, theirs, strict=True)]
    adjusted = adjust([each.p_value for each in found])
    return [
        [
            condition["condition"].replace("_", " "),
            f"{condition['level']:g}",
            *(f"{answers[number].mean():.3f}" for answers in right.values()),
            f"{each.difference:+.3f} ({each.interval[0]:+.3f} to {each.interval[1]:+.3f})",
            f"{p_value:.2g}",
        ]
        for number, (condition, each, p_value) in enumerate(
            zip(models[MODEL_NAMES[0]]["replicates"][0]["conditions"], found, adjusted, strict=True)
        )
    ]


def _right_under_conditions(model: ModelResult) -> list[NDArray[np.bool_]]:
    """Return for each condition which answers are right, shape (replicates, clips)."""
    replicates = [[each["right"] for each in replicate["conditions"]] for replicate in model["replicates"]]
    return [np.array(same) for same in zip(*replicates, strict=True)]


def _clips_under_conditions(models: Models) -> int:
    conditions = models[MODEL_NAMES[0]]["replicates"][0]["conditions"]
    return len(conditions[0]["right"]) if conditions else 0


def disagreements(models: Models, split: Split, params: ConditionsParams, shown: int = 6) -> list[tuple[str, Clips]]:
    """Return clips on which most replicates of one model say other than most of the other's, and who says what.

    First those of the split as it is, then the first one under each condition, made again from `params`.
    """
    first, second = (_majorities(models[name]) for name in MODEL_NAMES)
    unchanged, *under = zip(first, second, strict=True)
    found = [
        (split, number, f"{number}, as it is", unchanged) for number in np.flatnonzero(unchanged[0] != unchanged[1])
    ]
    numbers, chosen = chosen_clips(split, params.clips_per_class)
    for each, majority in zip(models[MODEL_NAMES[0]]["replicates"][0]["conditions"], under, strict=True):
        if len(found) < shown and (majority[0] != majority[1]).any():
            changed = stressed(chosen, Condition(each["condition"], each["level"]), params.seed)
            first_such = np.flatnonzero(majority[0] != majority[1])[0]
            text = f"{numbers[first_such]}, {each['condition'].replace('_', ' ')} {each['level']:g}"
            found.append((changed, first_such, text, majority))
    names = split.class_names
    return [
        (
            f"test clip {text}\nis {names[changed.labels[number]]}\n"
            f"{MODEL_NAMES[0]}: {names[majority[0][number]]}\n{MODEL_NAMES[1]}: {names[majority[1][number]]}",
            changed.clips[number],
        )
        for changed, number, text, majority in found[:shown]
    ]


def _majorities(model: ModelResult) -> list[NDArray[np.int64]]:
    """Return what most replicates say of each clip, shape (clips,), of the split as it is and under each condition."""
    replicates = [
        [replicate["predicted"], *(each["predicted"] for each in replicate["conditions"])]
        for replicate in model["replicates"]
    ]
    return [mode(same, axis=0).mode for same in zip(*replicates, strict=True)]


def print_summary(models: Models, sentences: Sequence[str], report: Path) -> None:
    """Print the summary table, what there is to say, and where the report is."""
    table = Table("", *models, title="on the test split")
    for row in summary_rows(models):
        table.add_row(*row)
    console = Console()
    console.print(table)
    console.print("\n".join([*sentences, f"The report: {report}"]), soft_wrap=True, markup=False)


def draw_pictures(
    folder: Path, models: Models, histories: Mapping[str, pd.DataFrame], split: Split, params: ConditionsParams
) -> dict[str, str]:
    """Write the report's pictures to `folder`; return the caption of each by its name, which is the file's too.

    Args:
        split: the one that the models were tested on.
    """
    matrices = {
        name: np.sum([score["confusion"] for score in model["replicates"]], axis=0) for name, model in models.items()
    }
    errors = {
        name: (
            1 - model["accuracy"],
            (1 - model["interval"][1], 1 - model["interval"][0]),
            model["cost"]["latency_milliseconds"],
        )
        for name, model in models.items()
    }
    accuracies = accuracies_under_conditions(models, split.clips.shape[1])
    pictures = {
        "cost": ("Error against latency, with 95 % intervals and quartiles", error_against_latency(errors)),
        "conditions": (
            "Accuracy against the level of each condition, a band over the replicates, chance dotted",
            condition_curves(accuracies, 1 / len(split.class_names)),
        ),
        "confusions": ("Confusions, all replicates together", confusions(matrices, split.class_names)),
        "learning_curves": ("Learning curves", learning_curves(histories)),
        "samples": ("The first test clip of each class", contact_sheet(split)),
    }
    if clips := disagreements(models, split, params):
        pictures["disagreements"] = ("What was shown, and what most replicates of each model say", film_strips(clips))
    for name, (_, figure) in pictures.items():
        figure.savefig(folder / f"{name}.png", dpi=110)
    return {name: caption for name, (caption, _) in pictures.items()}


def write_reports(
    folder: Path, models: Models, class_names: Sequence[str], sentences: Sequence[str], pictures: Mapping[str, str],
    origin: Mapping[str, str],
) -> None:  # fmt: skip
    """Write report.md, which links the pictures in `folder`, and report.html, which holds them.

    Args:
        sentences: the verdict, and what else there is to say before the evidence.
        pictures: name to caption, as `draw_pictures` returns them.
        origin: run_id, url and commit of the run that drew them.
    """
    environment = Environment(
        loader=PackageLoader("motionbench"), autoescape=select_autoescape(["html.j2"]), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters["data_url"] = lambda name: _data_url(folder / f"{name}.png")
    # Neither tags nor links, of which some load pictures.
    environment.filters["markdown"] = lambda text: re.sub(r"([\\`|\[\]])", r"\\\1", html.escape(text))
    for name in ("report.md", "report.html"):
        text = environment.get_template(f"{name}.j2").render(
            sentences=sentences,
            models=list(models),
            names=MODEL_NAMES,
            summary=summary_rows(models),
            conditions=condition_rows(models),
            condition_clips=_clips_under_conditions(models),
            classes=class_rows(models, class_names),
            pictures=pictures,
            origin=origin,
        )
        (folder / name).write_text(text, encoding="utf-8")


def _data_url(picture: Path) -> str:
    content = base64.b64encode(picture.read_bytes()).decode()
    return f"data:image/png;base64,{content}"
