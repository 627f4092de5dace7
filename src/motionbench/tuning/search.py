"""The search: trials side by side, each in a process of its own, until the study has as many as it is to have."""

import multiprocessing
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Literal, NamedTuple, cast

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from motionbench.errors import UserError, deferred_interrupts
from motionbench.params import Params
from motionbench.processes import this_process
from motionbench.tuning.study import (
    HEARTBEAT_SECONDS,
    claim_trial,
    finished,
    model_values,
    retry,
    retry_abandoned,
    running,
    send_heartbeat,
)
from motionbench.tuning.trial import run_trial

POLL_SECONDS = 1.0


Event = Literal["started", "epoch", "completed", "pruned", "failed", "retried"]
OnEvent = Callable[[Event, Trial, Mapping[str, Any]], None]


class Running(NamedTuple):
    """A trial of this process, and the process that trains it."""

    trial: Trial
    process: BaseProcess


def search(
    storage: BaseStorage, study: Study, model_name: str, params: Params, trials: int, workers: int, on_event: OnEvent
) -> None:
    """Run trials until `trials` are done; what other processes have under way is waited for.

    Of each trial of this process, `on_event` is told that it started (with its values), each epoch (with its measures)
    and how it ended. If the search is interrupted, the trials under way are put back into the queue.
    """
    with deferred_interrupts() as interrupted:
        under_way: dict[Connection, Running] = {}
        heartbeat = 0.0
        try:
            while not interrupted():
                if time.monotonic() - heartbeat > HEARTBEAT_SECONDS:
                    retry_abandoned(study)
                    for each in under_way.values():
                        send_heartbeat(storage, each.trial)
                    heartbeat = time.monotonic()
                while len(under_way) < workers and (trial := claim_trial(study, params, model_name, trials)):
                    send_heartbeat(storage, trial)
                    connection, started = _start(trial, model_name, params)
                    on_event("started", trial, model_values(trial.params))
                    under_way[connection] = started
                if not under_way and not running(study):
                    if len(finished(study)) >= trials:
                        return
                    continue
                if not under_way:
                    time.sleep(POLL_SECONDS)
                for ready in wait(list(under_way), timeout=POLL_SECONDS):
                    connection = cast(Connection, ready)  # wait() takes other things too.
                    if _receive(connection, under_way[connection], study, params, on_event):
                        connection.close()
                        under_way.pop(connection).process.join()
            raise KeyboardInterrupt
        except (SQLAlchemyError, StorageInternalError) as error:
            reason = " ".join(str(error.__cause__ or error).split())[:200]
            raise UserError(
                f"OPTUNA_STORAGE: lost during the search ({reason}); what is done is kept: start the server, and "
                f"type the same again"
            ) from error
        except BaseException:
            for unfinished in running(study):
                if unfinished.user_attrs.get("owner") == this_process():
                    retry(study, unfinished.number)
            for each in under_way.values():
                on_event("retried", each.trial, {})
            raise
        finally:
            for each in under_way.values():
                each.process.kill()


def _start(trial: Trial, model_name: str, params: Params) -> tuple[Connection, Running]:
    ours, theirs = multiprocessing.Pipe(duplex=False)
    section = params.model(model_name)
    values = {**model_values(trial.params), "epochs": params.tuning.model(model_name).epochs}
    model = type(section).model_validate(section.model_dump() | values)
    arguments = (theirs, model_name, model, params.data, trial.user_attrs["seeds"], params.training.threads)
    # A process for each trial: memory cannot grow from one to the next, and a crash takes nothing with it.
    process = multiprocessing.get_context("spawn").Process(target=run_trial, args=arguments, daemon=True)
    process.start()
    theirs.close()
    trial.set_user_attr("process", process.pid)
    return ours, Running(trial, process)


def _receive(connection: Connection, each: Running, study: Study, params: Params, on_event: OnEvent) -> bool:
    """Take in what a trial sent; tell whether that was its end."""
    trial = each.trial
    try:
        kind, content = connection.recv()
    except (EOFError, OSError):  # It was killed, perhaps while it sent.
        retry(study, trial.number)
        on_event("retried", trial, {})
        return True
    match kind:
        case "cost":
            for key, value in content.items():
                trial.set_user_attr(key, value)
            return False
        case "epoch":
            on_event("epoch", trial, content)
            if params.tuning.objective == "pareto":  # Optuna prunes for one objective alone.
                return False
            trial.report(content["validation_loss"], content["epoch"])
            # The first trial, with the values of params.yaml, is what the others are held against.
            if trial.number == 0 or not trial.should_prune():
                return False
            each.process.kill()
            trial.set_user_attr("validation_accuracy", content["validation_accuracy"])
            study.tell(trial, state=TrialState.PRUNED)
            on_event("pruned", trial, content)
        case "completed":
            for key in ("validation_accuracy", "seconds", "peak_megabytes", "curve"):
                trial.set_user_attr(key, content[key])
            values = [content["validation_loss"]]
            if params.tuning.objective == "pareto":
                values.append(trial.user_attrs["latency_milliseconds"])
            study.tell(trial, values)
            on_event("completed", trial, content)
        case "failed":
            trial.set_user_attr("failure", content)
            study.tell(trial, state=TrialState.FAIL)
            on_event("failed", trial, {"failure": content})
    return True
