"""`make tune`: search better parameters for one model or all. Not a stage: it changes nothing that stages read."""

import argparse
import sys

import joblib
from filelock import FileLock

from motionbench.core.errors import UserError, run_command
from motionbench.core.files import atomic_outputs, path_md5
from motionbench.core.paths import PARAMS, TRAIN, TUNING_REPORTS, VALIDATION
from motionbench.data.splits import read_split
from motionbench.models.registry import CONTENDERS
from motionbench.params.loading import load_params
from motionbench.params.schema import Params
from motionbench.tuning.space import check_search_space


def main() -> None:
    """Search, and write reports/tuning/<model>/."""
    params = load_params()
    arguments = _read_arguments(params)
    models = [arguments.model] if arguments.model else list(CONTENDERS)
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
    parser.add_argument("--model", choices=CONTENDERS)
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
    # Imported late: keeps error messages fast.
    from motionbench.execution.progress import trial_progress
    from motionbench.tracking.trials import TrialRecord, log_outcome, log_trials, study_run
    from motionbench.tuning.outcome import (
        print_outcome,
        study_status,
        summarise_best,
        summarise_end,
        trial_record,
        write_outcome,
    )
    from motionbench.tuning.search import End, search
    from motionbench.tuning.study import finished, open_storage, open_study

    md5 = {folder.name: path_md5(folder) for folder in (TRAIN, VALIDATION)}
    storage, place = open_storage()
    study = open_study(storage, place, model_name, params, md5)
    name = study.study_name
    if trials < (done := len(finished(study))):
        raise UserError(f"TRIALS: {trials}: study {name} in {place} has {done} already; give {done} or more")
    with (
        study_run(name, study.user_attrs["id"], study.user_attrs["definition"]) as run_id,
        trial_progress(name, trials) as show,
    ):
        ended: list[TrialRecord] = []

        def on_end(end: End, number: int) -> None:
            ended.append(trial_record(study, number))
            log_trials(run_id, name, ended[-1:])
            show(*study_status(study), f"trial {number} {end}{summarise_end(ended[-1])}")

        show(*study_status(study), "")
        try:
            search(storage, study, model_name, params, trials, workers, on_end)
        except KeyboardInterrupt:
            print(
                f"{name}: {len(finished(study))} of {trials} trials are done and kept in {place}; "
                f"go on with: make tune MODEL={model_name} TRIALS={trials}",
                file=sys.stderr,
            )
            raise
        log_trials(run_id, name, ended, at_end=True)
        folder = TUNING_REPORTS / model_name
        outcome = summarise_best(study)
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Another `make tune` here may end at the same moment.
        with FileLock(folder.with_name(f".{model_name}.lock")), atomic_outputs(folder) as (new_folder,):
            write_outcome(new_folder, study, outcome)
        found = {"trials": outcome["trials"], "best_validation_loss": outcome["validation_loss"]}
        log_outcome(run_id, found, folder)
    print_outcome(study, outcome, PARAMS.read_text(encoding="utf-8"), model_name, folder)


if __name__ == "__main__":
    run_command(main)
