"""What a search found: the best trial, tables, figures, and the change to params.yaml that it suggests."""

import warnings
from collections.abc import Callable
from difflib import unified_diff
from pathlib import Path
from typing import Any, TypedDict

import pandas as pd
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Table

from motionbench.core.errors import UserError
from motionbench.core.files import read_json, write_json
from motionbench.core.paths import PARAMS
from motionbench.params.editing import update_yaml
from motionbench.tracking.study_runs import TrialRecord
from motionbench.tuning.space import model_values
from motionbench.tuning.study import finished, is_baseline, is_late, was_retried

SHOWN = 5  # trials in the printed table
TABLE_WIDTH = 130  # characters, without a terminal
STATES = {TrialState.COMPLETE: "completed", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
MEASURES = ("validation_accuracy", "parameters", "flops", "seconds", "latency_milliseconds", "peak_megabytes")


class Outcome(TypedDict):
    """What is known of the best trial."""

    study: str
    trials: int  # the number of finished trials of which it was the best
    number: int
    values: dict[str, Any]  # of the model's section of params.yaml
    validation_loss: float
    curve: list[float]  # by epoch: the mean over the replicates of the lowest validation loss so far


def study_status(study: Study) -> tuple[int, int, float | None]:
    """Return how many trials are done, how many of them were pruned, and the validation loss of the best."""
    done, best = finished(study), _best_trial(study)
    return len(done), sum(trial.state == TrialState.PRUNED for trial in done), best.value if best else None


def _best_trial(study: Study) -> FrozenTrial | None:
    """Return the trial with the lowest validation loss, of those whose network is fast enough, if there is one."""
    try:
        return study.best_trial
    except ValueError:
        return None


def summarise_best(study: Study) -> Outcome | None:
    """Return what is known of the best trial; None if no trial has completed, or none is fast enough."""
    best = _best_trial(study)
    if best is None:
        return None
    return Outcome(
        study=study.study_name,
        trials=len(finished(study)),
        number=best.number,
        values=model_values(best.params),
        validation_loss=best.values[0],
        curve=list(best.intermediate_values.values()),
    )


def write_outcome(folder: Path, study: Study, outcome: Outcome | None) -> None:
    """Write trials.csv, the study's figures as HTML pages, or as a text that says why there is none, and best.json.

    Without an outcome there is no best.json.
    """
    from optuna import visualization  # imported late: plotly takes a while

    if outcome:
        write_json(folder / "best.json", outcome)
    rows = [
        {
            "number": trial.number,
            "state": trial.state.name.lower(),
            "validation_loss": trial.value,
            "epochs": len(trial.intermediate_values),
            **trial.params,
            **{key: trial.user_attrs.get(key) for key in (*MEASURES, "failure")},
        }
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished() and not is_late(trial)
    ]
    pd.DataFrame(rows).to_csv(folder / "trials.csv", index=False)
    # Low values are what is wanted.
    warnings.filterwarnings("ignore", message="PedAnovaImportanceEvaluator computes the importances of params")
    warnings.filterwarnings("ignore", message="The number of trials is too small to compute importances")
    plots: dict[str, Callable[..., Any]] = {
        "history": visualization.plot_optimization_history,
        "importances": visualization.plot_param_importances,
        "parallel_coordinates": visualization.plot_parallel_coordinate,
        "slices": visualization.plot_slice,
    }
    for name, plot in plots.items():
        try:
            page = plot(study, target_name="validation loss")
        except (ValueError, RuntimeError) as error:
            # Importances cannot be computed from trials that are all alike.
            (folder / f"{name}.txt").write_text(f"not drawn: {error}\n", encoding="utf-8")
        else:
            # All pages share one copy of plotly.js beside them, so that they open without a network.
            page.write_html(folder / f"{name}.html", include_plotlyjs="directory")


def trial_record(study: Study, number: int) -> TrialRecord:
    """Return the record of a trial that has ended, for MLflow."""
    trial = study.get_trials(deepcopy=False)[number]
    assert trial.datetime_start
    assert trial.datetime_complete
    return TrialRecord(
        number=number,
        state="retried" if was_retried(trial) else STATES[trial.state],
        params={**model_values(trial.params), "seeds": trial.user_attrs.get("seeds")},
        measures={key: value for key, value in trial.user_attrs.items() if key in MEASURES},
        validation_losses=trial.intermediate_values,
        failure=trial.user_attrs.get("failure"),
        started=int(trial.datetime_start.timestamp() * 1000),
        ended=int(trial.datetime_complete.timestamp() * 1000),
    )


def print_outcome(study: Study, outcome: Outcome, model_name: str, folder: Path) -> None:
    """Print the best trials and the first, and the change to params.yaml."""
    completed = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    # Those whose network is too slow come last.
    ranked = sorted(completed, key=lambda trial: (max(trial.constraints.values(), default=0) > 0, trial.values[0]))
    shown = ranked[:SHOWN]
    columns = ["trial", "validation loss", "accuracy", "latency, ms", "parameters", *outcome["values"]]
    table = Table(*columns, title=f"{study.study_name}: the {len(shown)} best of {outcome['trials']} trials")
    for trial in [*shown, *filter(is_baseline, ranked[SHOWN:])]:
        marks = {outcome["number"]: " best"}.get(trial.number, "") + (" default" if is_baseline(trial) else "")
        values = model_values(trial.params).values()
        table.add_row(
            f"{trial.number}{marks}",
            f"{trial.values[0]:.3g}",
            f"{trial.user_attrs['validation_accuracy']:.3f}",
            f"{trial.user_attrs['latency_milliseconds']:.1f}",
            f"{trial.user_attrs['parameters']:,}",
            *(f"{value:.3g}" if isinstance(value, float) else str(value) for value in values),
        )
    console = Console()
    if not console.is_terminal:
        console.width = TABLE_WIDTH
    console.print(table)
    lines = ["\nThe best trial's values are those of params.yaml already."]
    if change := suggested_change(PARAMS.read_text(encoding="utf-8"), model_name, outcome):
        lines = [f"\nThe best trial as a change to params.yaml (make tune-apply MODEL={model_name} makes it):", *change]
    console.print("\n".join([*lines, f"\nFigures and all trials: {folder}"]), soft_wrap=True, markup=False)


def suggested_change(params_text: str, model_name: str, outcome: Outcome) -> list[str]:
    """Return the lines of the diff between params.yaml and params.yaml with the best trial's values."""
    # Written in the same way, since DVC writes null and comments otherwise.
    before, after = (update_yaml(params_text, changes) for changes in ({}, {model_name: outcome["values"]}))
    return list(unified_diff(before.splitlines(), after.splitlines(), "params.yaml", "params.yaml", n=1, lineterm=""))


def read_outcome(folder: Path, model_name: str) -> Outcome:
    """Read what `write_outcome` wrote.

    Raises:
        UserError: if there is none, or it is damaged.
    """
    path = folder / "best.json"
    try:
        outcome: Outcome = read_json(path)
        assert set(outcome) == Outcome.__required_keys__
        return outcome
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing; search first: make tune MODEL={model_name}") from error
    except (OSError, ValueError, AssertionError) as error:
        raise UserError(f"{path}: not readable; write it again: make tune MODEL={model_name}") from error
