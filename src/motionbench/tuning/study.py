"""A study in its storage: created or joined, but never with another definition; its trials are claimed one by one."""

import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from motionbench.core.dvc_files import flatten
from motionbench.core.errors import UserError
from motionbench.core.inputs import code_md5s, differences, inputs_digest
from motionbench.core.processes import is_running, this_process
from motionbench.params.schema import Domain, Params
from motionbench.tuning.objective import seeds_of
from motionbench.tuning.space import NOT_SEARCHED

RETRIES = 3  # of a trial whose process crashed
LATE, INTERRUPTED = "late", "interrupted"
"""Why a trial was put back: it was claimed when another process had claimed the last one, or its search ended."""
PUT_BACK, ORIGINAL = "put_back", "original"  # attributes of trials: why, and whose values and seeds it has
UNDEFINED_SECONDS = 10  # after which whoever created a study without a trial counts as killed
OWNERLESS_SECONDS = 30  # after which a trial without an owner counts as abandoned
CODE = "code and package versions"
TRAINING_CODE = ("core", "data", "execution", "models", "params", "training", "tuning")


def open_study(storage: BaseStorage, place: str, model_name: str, params: Params, data: Mapping[str, str]) -> Study:
    """Create the study, with the model's current parameters as its first trial, or join it.

    Args:
        place: name of the storage, for messages.
        data: md5 of each file and folder of the clips that the trials see.

    Raises:
        UserError: if the study exists with another search space, other data or other settings.
    """
    tuning = params.tuning
    name = f"{tuning.study}.{model_name}"
    definition = _definition(model_name, params, data)
    try:
        study = optuna.create_study(storage=storage, study_name=name)
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(study_name=name, storage=storage)
        deadline = time.monotonic() + UNDEFINED_SECONDS
        while not study.get_trials(deepcopy=False) and time.monotonic() < deadline:
            time.sleep(0.1)
    if not study.get_trials(deepcopy=False):
        study.set_metric_names(["validation loss"])
        study.set_user_attr("id", uuid4().hex)
        study.set_user_attr("definition", definition)
        study.enqueue_trial({key: current for key, _, current in _searched(params, model_name)})
    for key, ours, theirs in differences(definition, study.user_attrs["definition"]):
        raise UserError(
            f"{'' if key == CODE else 'params.yaml: '}{key}: {ours}, but study {name} in {place} was started with "
            f"{theirs}; undo the change, or start another study: tuning.study"
        )
    study.pruner = optuna.pruners.PercentilePruner(
        100 * tuning.pruner_top_fraction,
        n_startup_trials=tuning.startup_trials,
        n_warmup_steps=tuning.warmup_epochs + 1,
    )
    return study


def _definition(model_name: str, params: Params, data: Mapping[str, str]) -> dict[str, str]:
    """Return what must be the same for two trials to be comparable, as text, by key of params.yaml or file."""
    search, model = params.tuning.model(model_name), params.model(model_name)
    space = {key: str(domain.model_dump(exclude_defaults=True)) for key, domain in search.space.items()}
    sections = {
        "tuning": {
            **params.tuning.model_dump(include={"maximum_latency", "replicates", "seed"}),
            model_name: {"epochs": search.epochs, "space": space},
        },
        model_name: {"filters count": len(model.filters), **model.model_dump(exclude={*search.space, *NOT_SEARCHED})},
        "training": params.training.model_dump(include={"threads", "class_weights", "augmentation"}),
    }
    settings = {key: str(value) for key, value in flatten(sections).items()}
    settings |= {f"{path} md5": md5 for path, md5 in data.items()}
    # Compared last, so that it is another only with other code or packages.
    return {**settings, CODE: inputs_digest(settings, code_md5s(*TRAINING_CODE))[:10]}


def _searched(params: Params, model_name: str) -> Iterator[tuple[str, Domain, Any]]:
    """Yield name, domain and current value of each searched number: of a list, each layer's, as in "filters.1"."""
    for key, domain in params.tuning.model(model_name).space.items():
        current = getattr(params.model(model_name), key)
        if isinstance(current, tuple):
            yield from ((f"{key}.{layer}", domain, value) for layer, value in enumerate(current, start=1))
        else:
            yield key, domain, current


def claim_trial(study: Study, params: Params, model_name: str, trials: int) -> Trial | None:
    """Claim the next trial for this process and draw its values; return None if `trials` are done or claimed."""
    if sum(map(_counts, study.get_trials(deepcopy=False))) >= trials:
        return None
    trial = study.ask()
    others = study.get_trials(deepcopy=False)
    if sum(_counts(other) for other in others if other.number < trial.number) >= trials:
        put_back(study, trial, LATE)  # Another process claimed the last trial at the same moment.
        return None
    trial.set_user_attr("owner", this_process())
    original = RetryHeartbeatStaleTrialCallback.retried_trial_number(others[trial.number])
    number = trial.number if original is None else original
    trial.set_user_attr(ORIGINAL, number)
    trial.set_user_attr("seeds", seeds_of(params.tuning.seed, number, params.tuning.replicates))
    # A new sampler for each trial: values depend on the trial's number, not on what this process drew before.
    [seed] = seeds_of(params.tuning.seed, number, 1)
    study.sampler = optuna.samplers.TPESampler(n_startup_trials=params.tuning.startup_trials, seed=seed)
    for name, domain, _ in _searched(params, model_name):
        if domain.choices is not None:
            trial.suggest_categorical(name, domain.choices)
        elif isinstance(domain.low, int) and isinstance(domain.high, int):
            trial.suggest_int(name, domain.low, domain.high, log=domain.log)
        elif domain.low is not None and domain.high is not None:
            trial.suggest_float(name, domain.low, domain.high, log=domain.log)
    return trial


def put_back(study: Study, trial: Trial, why: str) -> bool:
    """End a trial that is not at fault itself and enqueue it again, which costs no retry.

    Returns:
        False if it has ended already.
    """
    try:
        trial.set_user_attr(PUT_BACK, why)
        study.tell(trial, state=TrialState.FAIL)
    except (ValueError, UpdateFinishedTrialError):
        return False
    ended = study.get_trials(deepcopy=False)[trial.number]
    study.add_trial(
        optuna.trial.create_trial(
            state=TrialState.WAITING,
            params=ended.params,
            distributions=ended.distributions,
            system_attrs={"failed_trial": ended.number, **ended.system_attrs},  # as from Optuna's callback
        )
    )
    return True


def is_late(trial: FrozenTrial) -> bool:
    """Return whether a trial was only claimed, too late, and did not run."""
    return trial.user_attrs.get(PUT_BACK) == LATE


def is_baseline(trial: FrozenTrial | Trial) -> bool:
    """Return whether a trial has the values of params.yaml, with which others are compared."""
    return trial.user_attrs.get(ORIGINAL) == 0


def finished(study: Study) -> list[FrozenTrial]:
    """Return the trials that count as done: completed, pruned, or failed for good."""
    return [trial for trial in study.get_trials(deepcopy=False) if _counts(trial) and trial.state.is_finished()]


def _counts(trial: FrozenTrial) -> bool:
    if PUT_BACK in trial.user_attrs:
        return False
    if trial.state == TrialState.FAIL:
        # Its own failure, which would repeat itself, or the last retry of a trial whose process was killed.
        return "failure" in trial.user_attrs or len(RetryHeartbeatStaleTrialCallback.retry_history(trial)) >= RETRIES
    return trial.state != TrialState.WAITING


def running(study: Study) -> list[FrozenTrial]:
    """Return the trials that are running, in any process."""
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def retry(study: Study, number: int) -> bool:
    """End the trial as failed and enqueue its values again; after `RETRIES` retries, only end it.

    Returns:
        False if another process has already ended it.
    """
    try:
        study.tell(number, state=TrialState.FAIL)
    except (ValueError, UpdateFinishedTrialError):
        return False
    _enqueue_again(study, study.get_trials()[number])
    return True


def _enqueue_again(study: Study, failed: FrozenTrial) -> None:
    failed.user_attrs = {}  # The retry gets an owner of its own.
    RetryHeartbeatStaleTrialCallback(max_retry=RETRIES)(study, failed)


def retry_abandoned(storage: BaseStorage, study: Study) -> list[int]:
    """Retry the trials whose process has ended: of this folder at once, of others when their heartbeat has stopped.

    Returns:
        The numbers of the trials that this process retried: another one may do so at the same moment.
    """
    retried: list[int] = []

    def enqueue_stale(study: Study, failed: FrozenTrial) -> None:
        _enqueue_again(study, failed)
        retried.append(failed.number)

    if isinstance(storage, RDBStorage):
        storage.heartbeat_stale_trial_callback = enqueue_stale  # called for those that are ended here
        optuna.storages.fail_stale_trials(study)
    for trial in running(study):
        owner = trial.user_attrs.get("owner")
        assert trial.datetime_start
        age = datetime.now() - trial.datetime_start
        runs = is_running(owner) if owner else age <= timedelta(seconds=OWNERLESS_SECONDS)
        if runs is None:  # A journal that was copied has trials of another folder, which end there.
            runs = isinstance(storage, RDBStorage)
        if not runs and retry(study, trial.number):
            retried.append(trial.number)
    return retried


def was_retried(trial: FrozenTrial) -> bool:
    """Return whether a trial ended with its process, and not by a failure of its own."""
    return trial.state == TrialState.FAIL and "failure" not in trial.user_attrs


def send_heartbeats(storage: BaseStorage, study: Study, trials: Iterable[Trial]) -> None:
    """Show other machines that trials are running, if the storage is a database that they may share."""
    if isinstance(storage, RDBStorage):
        study_id = storage.get_study_id_from_name(study.study_name)
        for trial in trials:
            storage.record_heartbeat(storage.get_trial_id_from_study_id_trial_number(study_id, trial.number))
