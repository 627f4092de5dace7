"""`make tune`: search better parameters for one model or both. Not a stage: it changes nothing that stages read."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
from filelock import FileLock

from motionbench.data.splits import read_split
from motionbench.errors import UserError, run_command
from motionbench.files import folder_md5, replaced_whole
from motionbench.params import MODEL_NAMES, Params, check_search_space, load_params
from motionbench.tuning.trial import TRAIN, VALIDATION

if TYPE_CHECKING:
    from optuna.trial import Trial


def main() -> None:
    """Search, and write reports/tuning/<model>/."""
    params = load_params()
    arguments = _read_arguments(params)
    models = [arguments.model] if arguments.model else list(MODEL_NAMES)
    for model_name in models:
        check_search_space(params, model_name)
    for folder in (TRAIN, VALIDATION):
        read_split(folder, params.data)
    if arguments.workers * params.training.threads > joblib.cpu_count():
        print(
            f"warning: WORKERS: {arguments.workers} with {params.training.threads} threads each are more than the "
            f"{joblib.cpu_count()} cores here; trials will take longer each",
            file=sys.stderr,
        )
    for model_name in models:
        _tune(model_name, params, arguments.trials, arguments.workers)


def _read_arguments(params: Params) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="pipeline.tune", exit_on_error=False)
    parser.add_argument("--model", choices=MODEL_NAMES)
    parser.add_argument("--trials", type=int, default=params.tuning.trials)
    parser.add_argument("--workers", type=int, default=params.tuning.workers)
    try:
        arguments = parser.parse_args()
    except argparse.ArgumentError as error:
        option = str(error.argument_name).removeprefix("--").upper()
        raise UserError(f"{option}: {error.message}; as in make tune MODEL=convlstm TRIALS=40 WORKERS=4") from error
    for option in ("trials", "workers"):
        if getattr(arguments, option) < 1:
            raise UserError(f"{option.upper()}: {getattr(arguments, option)} is not allowed: must be at least 1")
    return arguments


def _tune(model_name: str, params: Params, trials: int, workers: int) -> None:
    # Late: a bad argument is to be answered in a blink.
    from motionbench import tracking
    from motionbench.progress import trial_progress
    from motionbench.tuning.outcome import ATTRIBUTES, describe, print_outcome, standing, write_outcome
    from motionbench.tuning.search import Event, search
    from motionbench.tuning.study import finished, open_storage, open_study

    md5 = {folder.name: folder_md5(folder) for folder in (TRAIN, VALIDATION)}
    storage, place = open_storage()
    study = open_study(storage, place, model_name, params, md5)
    if trials < (done := len(finished(study))):
        raise UserError(
            f"TRIALS: {trials}: study {study.study_name} in {place} has {done} already; give {done} or more"
        )
    with (
        tracking.study_run(study.study_name, study.user_attrs["id"], study.user_attrs["definition"]) as parent,
        trial_progress(study.study_name, trials) as show,
    ):
        runs: dict[int, str] = {}

        def on_event(event: Event, trial: "Trial", content: Mapping[str, Any]) -> None:
            if event == "started":
                drawn = {**content, "seeds": trial.user_attrs["seeds"]}
                runs[trial.number] = tracking.start_trial_run(parent, study.study_name, trial.number, drawn)
            elif event == "epoch":
                tracking.log_trial_epoch(runs[trial.number], content)
            else:
                measured = {key: value for key, value in trial.user_attrs.items() if key in ATTRIBUTES}
                tracking.end_trial_run(runs.pop(trial.number), event, measured)
                show(*standing(study), f"trial {trial.number} {event}{_detail(content)}")

        show(*standing(study), "")
        try:
            search(storage, study, model_name, params, trials, workers, on_event)
        except KeyboardInterrupt:
            print(
                f"{study.study_name}: {len(finished(study))} of {trials} trials are done and kept in {place}; "
                f"go on with: make tune MODEL={model_name} TRIALS={trials}",
                file=sys.stderr,
            )
            raise
        folder = Path("reports/tuning", model_name)
        outcome = describe(study)
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Another `make tune` here may end at the same moment.
        with FileLock(folder.with_name(f".{model_name}.lock")), replaced_whole(folder) as (new_folder,):
            write_outcome(new_folder, study, outcome)
        found = {"trials": outcome["trials"], "best_validation_loss": outcome["validation_loss"]}
        tracking.log_outcome(parent, found, folder)
    print_outcome(study, outcome, Path("params.yaml").read_text(encoding="utf-8"), model_name, folder)


def _detail(content: Mapping[str, Any]) -> str:
    if "failure" in content:
        return f": {content['failure']}"
    return f", validation loss {content['validation_loss']:.3g}" if content else ""


if __name__ == "__main__":
    run_command(main)
