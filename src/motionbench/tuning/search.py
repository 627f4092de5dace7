"""The search: trials side by side, each in a process of its own, until the study has as many as it is to have."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from motionbench.core.errors import UserError, deferred_interrupts
from motionbench.core.processes import this_process
from motionbench.execution.engine import Message, Task, Worker, local_engine
from motionbench.params.schema import Params
from motionbench.tuning.space import model_values
from motionbench.tuning.study import (
    HEARTBEAT_SECONDS,
    claim_trial,
    finished,
    retry,
    retry_abandoned,
    running,
    send_heartbeat,
)
from motionbench.tuning.trial import run_trial

POLL_SECONDS = 1.0
End = Literal["completed", "pruned", "failed", "retried"]
OnEnd = Callable[[End, int], None]


def search(
    storage: BaseStorage, study: Study, model_name: str, params: Params, trials: int, workers: int, on_end: OnEnd
) -> None:
    """Run trials until `trials` are done; wait for what other processes have running.

    `on_end` is told the number of each trial that ended here and how. If the search is interrupted, the trials that
    run are put back into the queue.

    Raises:
        UserError: if the storage is lost.
    """
    with deferred_interrupts() as interrupted, local_engine() as engine:
        ours: dict[Worker, Trial] = {}
        heartbeat = 0.0
        try:
            while not interrupted():
                if time.monotonic() - heartbeat > HEARTBEAT_SECONDS:
                    for number in retry_abandoned(study):
                        on_end("retried", number)
                    for trial in ours.values():
                        send_heartbeat(storage, trial)
                    heartbeat = time.monotonic()
                while len(ours) < workers and (claimed := claim_trial(study, params, model_name, trials)):
                    send_heartbeat(storage, claimed)
                    # A process for each trial: memory cannot grow from one to the next.
                    worker = engine.start(_task(claimed, model_name, params), fresh=True)
                    claimed.set_user_attr("process", worker.process.pid)
                    ours[worker] = claimed
                if not ours and not running(study):
                    if len(finished(study)) >= trials:
                        return
                    continue
                if not ours:
                    time.sleep(POLL_SECONDS)
                for worker, message in engine.wait(POLL_SECONDS):
                    if end := _handle(message, ours[worker], study, params):
                        if end == "pruned":
                            engine.kill(worker)
                        on_end(end, ours.pop(worker).number)
            raise KeyboardInterrupt
        except (SQLAlchemyError, StorageInternalError) as error:
            reason = " ".join(str(error.__cause__ or error).split())[:200]
            raise UserError(
                f"OPTUNA_STORAGE: lost during the search ({reason}); what is done is kept: start the server and run "
                f"the command again"
            ) from error
        except BaseException:
            for unfinished in running(study):
                if unfinished.user_attrs.get("owner") == this_process():
                    retry(study, unfinished.number)
                    on_end("retried", unfinished.number)
            raise


def _task(trial: Trial, model_name: str, params: Params) -> Task[dict[str, Any]]:
    section = params.model(model_name)
    values = {**model_values(trial.params), "epochs": params.tuning.model(model_name).epochs}
    model = type(section).model_validate(section.model_dump() | values)
    return partial(run_trial, model_name, model, params.data, trial.user_attrs["seeds"], params.training.threads)


def _set_attributes(trial: Trial, attributes: Mapping[Any, Any]) -> None:
    """Store what is known of a trial."""
    for key, value in attributes.items():
        trial.set_user_attr(key, value)


def _handle(message: Message, trial: Trial, study: Study, params: Params) -> End | None:
    """Store what a trial sent; return how the trial ended, None if it goes on."""
    match message:
        case Message("event", {"epoch": epoch, "validation_loss": loss, "validation_accuracy": accuracy}):
            if params.tuning.objective == "pareto":  # Optuna prunes for one objective alone.
                return None
            trial.report(loss, epoch)
            # The first trial, with the values of params.yaml, is what the others are compared with.
            if trial.number == 0 or not trial.should_prune():
                return None
            trial.set_user_attr("validation_accuracy", accuracy)
            study.tell(trial, state=TrialState.PRUNED)
            return "pruned"
        case Message("event", cost):
            _set_attributes(trial, cost)
            return None
        case Message("completed", {"validation_loss": loss, **measures}):
            _set_attributes(trial, measures)
            pareto = params.tuning.objective == "pareto"
            study.tell(trial, [loss, *([trial.user_attrs["latency_milliseconds"]] if pareto else [])])
            return "completed"
        case Message("failed", error):
            # Such as a network too large for the memory: the study goes on without it.
            trial.set_user_attr("failure", str(error).splitlines()[0][:300])
            study.tell(trial, state=TrialState.FAIL)
            return "failed"
    retry(study, trial.number)  # The process was killed.
    return "retried"
