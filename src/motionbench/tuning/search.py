"""The search: trials in parallel, each in a process of its own, until the study has the number asked for.

Optuna is asked and told here, in the main process; where trials are trained, it is not known.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from filelock import FileLock
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from motionbench.core.commands import deferred_interrupts
from motionbench.core.errors import UserError, one_line
from motionbench.core.files import atomic_outputs, path_md5
from motionbench.core.inputs import code_folder, file_stamps
from motionbench.core.paths import DATASET_INFO, TUNING_REPORTS
from motionbench.core.redaction import without_secrets
from motionbench.data.folds import training_folders
from motionbench.data.splits import read_dataset_info
from motionbench.execution.engine import Engine, FileTask, Message, local_engine
from motionbench.execution.progress import trial_progress
from motionbench.params.schema import Params
from motionbench.tracking.study_runs import TrialRecord, log_outcome, log_trials, study_run
from motionbench.tuning import study as studies
from motionbench.tuning.objective import measure_cost, run_trial
from motionbench.tuning.outcome import print_outcome, study_status, summarise_best, trial_record, write_outcome
from motionbench.tuning.space import model_values
from motionbench.tuning.storage import HEARTBEAT_SECONDS, open_storage

POLL_SECONDS = 1.0


def tune(engine: Engine, model_name: str, params: Params, trials: int, workers: int) -> None:
    """Search until the study has `trials` trials; log them to MLflow, write reports/tuning/<model>/ and print the best.

    Raises:
        UserError: if the study has more trials already or another definition, if its storage is unavailable or lost, if
            code or clips are changed while the search runs, or if it found no trial that is fast enough.
    """
    storage, place = open_storage()
    seen = training_folders(read_dataset_info().fold_numbers()[0])
    if params.training.augmentation.flip:
        seen.append(DATASET_INFO)  # says which clips may be flipped
    used = [*map(code_folder, studies.TRAINING_CODE), *seen]
    before = file_stamps(used)

    def check() -> None:
        if changed := dict(file_stamps(used).items() ^ before.items()):
            raise UserError(f"{min(changed)}: changed while the search ran; finished trials are kept: run it again")

    study = studies.open_study(storage, place, model_name, params, {str(path): path_md5(path) for path in seen})
    name = study.study_name
    if trials < (done := len(studies.finished(study))):
        raise UserError(f"TRIALS: {trials}: study {name} in {place} has {done} already; give {done} or more")
    ended: list[TrialRecord] = []
    with (
        study_run(name, study.user_attrs["id"], study.user_attrs["definition"]) as run_id,
        trial_progress(name, trials) as show,
    ):

        def on_end(number: int) -> None:
            trial = trial_record(study, number)
            ended.append(trial)
            log_trials(run_id, name, [trial])
            losses = trial.validation_losses if trial.state != "retried" else {}
            loss = f", validation loss {losses[max(losses)]:.3g}" if losses else ""
            show(*study_status(study), f"trial {number} {trial.state}{f': {trial.failure}' if trial.failure else loss}")

        show(*study_status(study), "")
        try:
            search(engine, storage, study, model_name, params, trials, workers, on_end, check)
        except KeyboardInterrupt:
            print(
                f"{name}: {len(studies.finished(study))} of {trials} trials are done and kept in {place}; "
                f"go on with: make tune MODEL={model_name} TRIALS={trials}",
                file=sys.stderr,
            )
            raise
        finally:
            log_trials(run_id, name, ended, at_end=True)
        outcome, folder = summarise_best(study), TUNING_REPORTS / model_name
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Another `make tune` here may end at the same moment.
        with FileLock(folder.with_name(f".{model_name}.lock")), atomic_outputs(folder) as (new_folder,):
            write_outcome(new_folder, study, outcome)
        best = {"best_validation_loss": outcome["validation_loss"]} if outcome else {}
        log_outcome(run_id, {"trials": len(studies.finished(study)), **best}, folder)
        if not outcome:
            limit = params.tuning.maximum_latency
            fast = "" if limit is None else f" with at most {limit} ms (tuning.maximum_latency)"
            raise UserError(
                f"study {name}: no trial has completed{fast}; run more: TRIALS; those that ran are in "
                f"{folder / 'trials.csv'}"
            )
    print_outcome(study, outcome, model_name, folder)


def search(
    engine: Engine,
    storage: BaseStorage,
    study: Study,
    model_name: str,
    params: Params,
    trials: int,
    workers: int,
    on_end: Callable[[int], None],
    check: Callable[[], None],
) -> None:
    """Run trials until `trials` are done, and wait for those that run in other processes.

    A trial is trained by `engine`, after the cost of its network was measured on this machine, whatever the engine.
    `on_end` is called with the number of each trial that ended here. If the search is interrupted, its running trials
    are ended and enqueued again, which costs them no retry. `check`, called before each trial and at its end, raises
    what must end the search.

    Raises:
        UserError: if the connection to the storage is lost, or from `check`.
    """
    threads, section = params.training.threads, params.model(model_name)
    inputs = [DATASET_INFO, *training_folders(read_dataset_info().fold_numbers()[0])]
    maximum_latency = params.tuning.maximum_latency
    with deferred_interrupts() as interrupted, local_engine() as here:
        ours: dict[Any, Trial] = {}  # by task
        claimed: Trial | None = None
        heartbeat = 0.0
        try:
            while not interrupted():
                if time.monotonic() - heartbeat > HEARTBEAT_SECONDS:
                    for number in studies.retry_abandoned(storage, study):
                        on_end(number)
                    studies.send_heartbeats(storage, study, ours.values())
                    heartbeat = time.monotonic()
                claimed = None
                if len(ours) < workers:
                    check()
                    claimed = studies.claim_trial(study, params, model_name, trials)
                if claimed:
                    values = {**model_values(claimed.params), "epochs": params.tuning.model(model_name).epochs}
                    drawn = type(section).model_validate(section.model_dump() | values)
                    # One network at a time, so that they do not slow each other.
                    here.start(partial(measure_cost, model_name, drawn, params.training), threads=threads)
                    told: list[tuple[Any, Message]] = []
                    while not told and not interrupted():
                        studies.send_heartbeats(storage, study, [*ours.values(), claimed])
                        told = here.wait(POLL_SECONDS)
                    for _, message in told:
                        check()
                        if not _store(message, claimed, study, maximum_latency, on_end):
                            seeds = claimed.user_attrs["seeds"]
                            call = partial(run_trial, model_name, drawn, params.training, seeds)
                            # A process for each trial: memory cannot grow from one to the next.
                            task = engine.start(FileTask(call, inputs=inputs), threads=threads, fresh=True)
                            ours[task] = claimed
                elif not ours and not studies.running(study) and len(studies.finished(study)) >= trials:
                    return
                for task, message in engine.wait(0.0 if claimed else POLL_SECONDS):
                    check()  # before an epoch prunes the trial, or its end is stored
                    if _store(message, ours[task], study, maximum_latency, on_end):
                        del ours[task]
                        if message.kind == "event":
                            engine.kill(task)
            raise KeyboardInterrupt
        except BaseException as error:
            engine.close()
            if isinstance(error, SQLAlchemyError | StorageInternalError):
                raise UserError(
                    f"OPTUNA_STORAGE: lost during the search ({one_line(error.__cause__ or error)}); what is done is "
                    "kept: start the server and run the command again"
                ) from error
            trials_here = (*ours.values(), *filter(None, [claimed]))
            back = [trial.number for trial in trials_here if studies.put_back(study, trial, studies.INTERRUPTED)]
            for number in back:  # once all are: the terminal may be closed, and printing fail
                on_end(number)
            raise


def _store(
    message: Message, trial: Trial, study: Study, maximum_latency: float | None, on_end: Callable[[int], None]
) -> bool:
    """Store what a trial sent; return whether it has ended."""
    try:
        match message:
            case Message("event", {"epoch": epoch, "validation_loss": loss, "validation_accuracy": accuracy}):
                trial.report(loss, epoch)
                # The first trial, with the values of params.yaml, is never pruned: the others are compared with it.
                if studies.is_baseline(trial) or not trial.should_prune():
                    return False
                trial.set_user_attr("validation_accuracy", accuracy)
                study.tell(trial, state=TrialState.PRUNED)
            case Message("completed", {"validation_loss": loss, **measures}):
                for key, value in measures.items():
                    trial.set_user_attr(str(key), value)
                study.tell(trial, loss)
            case Message("event" | "completed", attributes):  # the process, or the cost
                for key, value in attributes.items():
                    trial.set_user_attr(key, value)
                # Of a retried trial the first measure counts: Optuna takes no second one.
                if maximum_latency and "latency_milliseconds" in attributes and not trial.constraints:
                    trial.set_constraint("latency", attributes["latency_milliseconds"] - maximum_latency)
                return False
            case Message("failed", error):
                # Such as a network too large for the memory: the study goes on without this trial.
                trial.set_user_attr("failure", without_secrets(str(error)).splitlines()[0][:300])
                study.tell(trial, state=TrialState.FAIL)
            case _:  # The process was killed.
                if not studies.retry(study, trial.number):
                    return True
    except UpdateFinishedTrialError:  # This machine slept, and another one retried the trial and logged that.
        return True
    on_end(trial.number)
    return True
