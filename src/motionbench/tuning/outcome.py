"""What a search found: the best trial, tables, figures, and the change to params.yaml that it suggests."""

import warnings
from collections.abc import Callable, Sequence
from difflib import unified_diff
from pathlib import Path
from typing import Any, TypedDict

import matplotlib as mpl
import matplotlib.pyplot as plt
import optuna
import pandas as pd
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Table

from motionbench.core.errors import UserError
from motionbench.core.files import read_json, write_json
from motionbench.params.editing import update_yaml
from motionbench.tracking.trials import TrialEnd, TrialRecord
from motionbench.tuning.space import model_values
from motionbench.tuning.study import finished

SHOWN = 5
STATES: dict[TrialState, TrialEnd] = {
    TrialState.COMPLETE: "completed",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}
TABLE_WIDTH = 130  # characters, where there is no terminal
ATTRIBUTES = (
    "validation_accuracy", "parameters", "flops", "seconds", "latency_milliseconds", "peak_megabytes", "failure",
)  # fmt: skip


class Outcome(TypedDict):
    """What is known of the best trial."""

    study: str
    trials: int
    """Done when it was the best."""
    number: int
    values: dict[str, Any]
    """Of the model's section of params.yaml."""
    validation_loss: float
    curve: list[float]
    """Of each epoch, the mean over the replicates of the lowest validation loss so far."""


def best_trial(study: Study) -> FrozenTrial:
    """Return the completed trial with the lowest validation loss; with two objectives, of those as fast as the first.

    Raises:
        UserError: if no trial has completed.
    """
    completed = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not completed:
        raise UserError(f"study {study.study_name}: no trial has completed; give it more: TRIALS")
    first = study.get_trials(deepcopy=False)[0]
    if len(study.directions) > 1 and first in completed:
        completed = [trial for trial in completed if trial.values[1] <= first.values[1]]
    return min(completed, key=lambda trial: trial.values[0])


def study_status(study: Study) -> tuple[int, int, float | None]:
    """Return how many trials are done, how many of them were pruned, and the lowest validation loss."""
    done = finished(study)
    losses = [trial.values[0] for trial in done if trial.state == TrialState.COMPLETE]
    return len(done), sum(trial.state == TrialState.PRUNED for trial in done), min(losses, default=None)


def summarise_best(study: Study) -> Outcome:
    """Return what there is to know of the best trial."""
    best = best_trial(study)
    return Outcome(
        study=study.study_name,
        trials=len(finished(study)),
        number=best.number,
        values=model_values(best.params),
        validation_loss=best.values[0],
        curve=list(best.user_attrs["curve"]),
    )


def write_outcome(folder: Path, study: Study, outcome: Outcome) -> None:
    """Write best.json, trials.csv, and the study's figures, for a browser and as pictures."""
    write_json(folder / "best.json", outcome)
    _as_frame(study).to_csv(folder / "trials.csv", index=False)
    mpl.use("agg")  # No window is opened.
    # Low values are what is wanted.
    warnings.filterwarnings(
        "ignore", message="PedAnovaImportanceEvaluator computes the importances of params to achieve"
    )
    interactive, plain = optuna.visualization, optuna.visualization.matplotlib
    for name, draw, plot in _figures(study, interactive, plain):
        try:
            figure, axes = draw(), plot()
        except (ValueError, RuntimeError) as error:
            # Importances cannot be told from trials that are all alike.
            (folder / f"{name}.txt").write_text(f"not drawn: {error}\n", encoding="utf-8")
            continue
        # One copy of the library for all pages beside it: they open without a network.
        figure.write_html(folder / f"{name}.html", include_plotlyjs="directory")
        picture = (axes.flat[0] if hasattr(axes, "flat") else axes).figure
        picture.set_size_inches(max(10, picture.get_size_inches()[0]), 5)
        if name == "parallel_coordinates":
            for axis in picture.axes:
                axis.grid(visible=False)  # Each axis would draw its own.
        picture.savefig(folder / f"{name}.png", dpi=110, bbox_inches="tight")
        plt.close(picture)


def _figures(study: Study, interactive: Any, plain: Any) -> list[tuple[str, Callable[[], Any], Callable[[], Any]]]:
    """Return for each figure its name and how to draw it, by plotly and by matplotlib."""
    if len(study.directions) > 1:
        names = {"target_names": ["validation loss", "latency, ms"]}
        front = (
            "front",
            lambda: interactive.plot_pareto_front(study, **names),
            lambda: plain.plot_pareto_front(study, **names),
        )
        options: dict[str, Any] = {"target": lambda trial: trial.values[0], "target_name": "validation loss"}
    else:
        front, options = None, {"target_name": "validation loss"}
    kinds = {
        "history": "plot_optimization_history",
        "importances": "plot_param_importances",
        "parallel_coordinates": "plot_parallel_coordinate",
        "slices": "plot_slice",
    }
    drawn = [
        (
            name,
            lambda kind=kind: getattr(interactive, kind)(study, **options),
            lambda kind=kind: getattr(plain, kind)(study, **options),
        )
        for name, kind in kinds.items()
    ]
    return [*drawn, *([front] if front else [])]


def _as_frame(study: Study) -> pd.DataFrame:
    """Return a row a trial."""
    rows = [
        {
            "number": trial.number,
            "state": trial.state.name.lower(),
            "validation_loss": trial.values[0] if trial.values else None,
            "epochs": len(trial.intermediate_values) or len(trial.user_attrs.get("curve", [])),
            **trial.params,
            **{key: trial.user_attrs.get(key) for key in ATTRIBUTES},
        }
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished()
    ]
    return pd.DataFrame(rows)


def trial_record(study: Study, number: int) -> TrialRecord:
    """Return a trial that has ended as MLflow is to hold it."""
    trial = study.get_trials(deepcopy=False)[number]
    assert trial.datetime_start
    assert trial.datetime_complete
    retried = trial.state == TrialState.FAIL and "failure" not in trial.user_attrs
    return TrialRecord(
        number=number,
        state="retried" if retried else STATES[trial.state],
        params={**model_values(trial.params), "seeds": trial.user_attrs.get("seeds")},
        measures={key: value for key, value in trial.user_attrs.items() if key in ATTRIBUTES and key != "failure"},
        validation_losses=dict(trial.intermediate_values) or dict(enumerate(trial.user_attrs.get("curve", []), 1)),
        failure=trial.user_attrs.get("failure"),
        started=int(trial.datetime_start.timestamp() * 1000),
        ended=int(trial.datetime_complete.timestamp() * 1000),
    )


def summarise_end(trial: TrialRecord) -> str:
    """Return what a line of progress says of a trial that has ended."""
    if trial.failure:
        return f": {trial.failure}"
    losses = [loss for _, loss in sorted(trial.validation_losses.items())]
    return f", validation loss {losses[-1]:.3g}" if losses and trial.state != "retried" else ""


def print_outcome(study: Study, outcome: Outcome, params_text: str, model_name: str, folder: Path) -> None:
    """Print the best trials and the first, and the change to params.yaml."""
    completed = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    ranked = sorted(completed, key=lambda trial: trial.values[0])
    if len(study.directions) > 1:
        front = {trial.number for trial in study.best_trials}
        shown, title = [trial for trial in ranked if trial.number in front], "the front of validation loss and latency"
    else:
        shown, title = ranked[:SHOWN], f"the {min(SHOWN, len(ranked))} best of {outcome['trials']} trials"
    if (first := study.get_trials(deepcopy=False)[0]) not in shown and first in completed:
        shown.append(first)
    columns = ["trial", "validation loss", "accuracy", "latency, ms", "parameters", *outcome["values"]]
    table = Table(*columns, title=f"{study.study_name}: {title}")
    for trial in shown:
        attributes = trial.user_attrs
        marks = [*(["best"] if trial.number == outcome["number"] else []), *(["default"] if trial is first else [])]
        values = model_values(trial.params).values()
        table.add_row(
            " ".join([str(trial.number), *marks]), f"{trial.values[0]:.3g}",
            f"{attributes['validation_accuracy']:.3f}", f"{attributes['latency_milliseconds']:.1f}",
            f"{attributes['parameters']:,}", *(f"{v:.3g}" if isinstance(v, float) else str(v) for v in values),
        )  # fmt: skip
    console = Console()
    if not console.is_terminal:
        console.width = TABLE_WIDTH
    console.print(table)
    change = suggested_change(params_text, model_name, outcome)
    if change:
        lines = [f"\nThe best trial as a change to params.yaml (make tune-apply MODEL={model_name} makes it):", *change]
    else:
        lines = ["\nThe best trial's values are those of params.yaml already."]
    console.print("\n".join([*lines, f"\nFigures and all trials: {folder}"]), soft_wrap=True, markup=False)


def suggested_change(params_text: str, model_name: str, outcome: Outcome) -> Sequence[str]:
    """Return the difference between params.yaml and the same with the best trial's values, line by line."""
    changed = update_yaml(params_text, {model_name: outcome["values"]})
    return list(
        unified_diff(params_text.splitlines(), changed.splitlines(), "params.yaml", "params.yaml", n=1, lineterm="")
    )


def read_outcome(folder: Path, model_name: str) -> Outcome:
    """Read what `write_outcome` wrote.

    Raises:
        UserError: if there is none, or it is damaged.
    """
    try:
        outcome: Outcome = read_json(folder / "best.json")
        assert set(outcome) == Outcome.__required_keys__
        return outcome
    except FileNotFoundError as error:
        raise UserError(f"{folder / 'best.json'}: missing; search first: make tune MODEL={model_name}") from error
    except (OSError, ValueError, AssertionError) as error:
        raise UserError(
            f"{folder / 'best.json'}: not readable; write it again: make tune MODEL={model_name}"
        ) from error
