"""A study in its storage: opened by whoever comes, never with another meaning, its trials claimed one by one."""

import os
import time
import warnings
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import ArgumentError, IntegrityError, ProgrammingError, SQLAlchemyError

from motionbench.core.errors import UserError, without_password
from motionbench.core.paths import JOURNAL
from motionbench.core.processes import is_gone, this_process
from motionbench.models.registry import ModelParams
from motionbench.params.schema import Domain, Params
from motionbench.tuning.trial import seeds_of

HEARTBEAT_SECONDS, GRACE_SECONDS = 20, 90  # of trials in a shared database, whose owners may be on other machines
RETRIES = 3  # of a trial whose process crashed
OWNERLESS_SECONDS = 30  # after which a trial without an owner counts as abandoned


def open_storage() -> tuple[BaseStorage, str]:
    """Return the storage, and its name: the URL in `OPTUNA_STORAGE`, or else the journal file at the root.

    Raises:
        UserError: if it cannot be reached.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Who asks here sends the heartbeats too.
    warnings.filterwarnings("ignore", message="Heartbeat of storage is supposed to be used with Study.optimize")
    # Heartbeats, retries and pictures have been so for years.
    warnings.filterwarnings("ignore", message=".* is experimental", category=ExperimentalWarning)
    warnings.filterwarnings("ignore", message="Argument ``heartbeat.*experimental", category=ExperimentalWarning)
    url = os.environ.get("OPTUNA_STORAGE")
    if not url:
        return JournalStorage(JournalFileBackend(str(JOURNAL))), str(JOURNAL)
    try:
        return _open_database(url), without_password(url)
    except (SQLAlchemyError, ImportError, ValueError, optuna.exceptions.StorageInternalError) as error:
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        form = " as postgresql://user:password@host/database" if isinstance(error, ArgumentError | ValueError) else ""
        raise UserError(
            f"OPTUNA_STORAGE: {without_password(url)}: cannot be reached ({reason}); start the server, or set an "
            f"address that can{form}, or unset it to search in {JOURNAL}"
        ) from error


def _open_database(url: str) -> RDBStorage:
    attempts = 5
    while True:
        try:
            return RDBStorage(
                url,
                # A connection that a server's restart has cut is replaced, not used.
                engine_kwargs={"pool_pre_ping": True},
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=GRACE_SECONDS,
                heartbeat_stale_trial_callback=_requeue,
            )
        except (IntegrityError, ProgrammingError):
            # Two who come to an empty database at once both create its tables, and one of them fails.
            attempts -= 1
            if not attempts:
                raise
            time.sleep(1)


def open_study(storage: BaseStorage, place: str, model_name: str, params: Params, data: Mapping[str, str]) -> Study:
    """Create the study, with the model's current parameters as its first trial, or join it.

    Args:
        place: name of the storage, for messages.
        data: md5 of each split that the trials see.

    Raises:
        UserError: if the study that is there was begun with another search space, other data or other settings.
    """
    tuning = params.tuning
    name = f"{tuning.study}.{model_name}"
    definition = _definition(model_name, params, data)
    objectives = ["validation loss", *(["latency, ms"] if tuning.objective == "pareto" else [])]
    try:
        study = optuna.create_study(storage=storage, study_name=name, directions=["minimize"] * len(objectives))
        study.set_metric_names(objectives)
        study.set_user_attr("id", uuid4().hex)
        study.set_user_attr("definition", definition)
        study.enqueue_trial(_current_values(params.model(model_name), params.tuning.model(model_name).space))
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(study_name=name, storage=storage)
        _await_definition(study, name, place)
    if (difference := _difference(definition, study.user_attrs["definition"])) is not None:
        key, ours, theirs = difference
        raise UserError(
            f"params.yaml: {key}: {ours}, but study {name} in {place} was begun with {theirs}; take the change back, "
            f"or begin another study: tuning.study"
        )
    study.pruner = (
        optuna.pruners.PercentilePruner(
            100 * tuning.pruner_top_fraction,
            n_startup_trials=tuning.startup_trials,
            n_warmup_steps=tuning.warmup_epochs + 1,
        )
        if tuning.objective == "loss"
        else optuna.pruners.NopPruner()
    )
    return study


def _await_definition(study: Study, name: str, place: str) -> None:
    """Wait until who created the study has defined it, which takes a moment."""
    deadline = time.monotonic() + 10
    while "definition" not in study.user_attrs or not study.get_trials(deepcopy=False):
        if time.monotonic() > deadline:
            raise UserError(
                f"{place}: study {name}: left without a definition by who created it; begin another: tuning.study"
            )
        time.sleep(0.1)


def _definition(model_name: str, params: Params, data: Mapping[str, str]) -> dict[str, Any]:
    """Return what must be the same for two trials to be comparable, flat, by key of params.yaml or file."""
    tuning, search = params.tuning, params.tuning.model(model_name)
    shared = {f"tuning.{key}": getattr(tuning, key) for key in ("objective", "replicates", "seed")} | {
        f"tuning.{model_name}.epochs": search.epochs
    }
    space = {
        f"tuning.{model_name}.space.{key}": str(domain.model_dump(exclude_defaults=True))
        for key, domain in search.space.items()
    }
    model = params.model(model_name)
    layers = {f"{model_name}.filters count": len(model.filters)}
    fixed = {
        f"{model_name}.{key}": str(value)
        for key, value in model.model_dump().items()
        if key not in search.space and key != "epochs"
    }
    return {**shared, **space, **layers, **fixed, **{f"data/{split} md5": md5 for split, md5 in data.items()}}


def _difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    for key in [*ours, *theirs]:
        if ours.get(key) != theirs.get(key):
            return key, ours.get(key, "not given"), theirs.get(key, "none")
    return None


def _distributions(model: ModelParams, space: Mapping[str, Domain]) -> dict[str, BaseDistribution]:
    """Return the distributions by name: the key, with the number of the layer where the key holds a list."""
    found: dict[str, BaseDistribution] = {}
    for key, domain in space.items():
        if domain.choices is not None:
            distribution: BaseDistribution = CategoricalDistribution(domain.choices)
        elif isinstance(domain.low, int) and isinstance(domain.high, int):
            distribution = IntDistribution(domain.low, domain.high, log=domain.log)
        else:
            assert domain.low is not None
            assert domain.high is not None
            distribution = FloatDistribution(domain.low, domain.high, log=domain.log)
        current = getattr(model, key)
        layers = [f"{key}.{number + 1}" for number in range(len(current))] if isinstance(current, tuple) else [key]
        found |= dict.fromkeys(layers, distribution)
    return found


def _current_values(model: ModelParams, space: Mapping[str, Domain]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key in space:
        current = getattr(model, key)
        values |= {f"{key}.{i}": v for i, v in enumerate(current, 1)} if isinstance(current, tuple) else {key: current}
    return values


def claim_trial(study: Study, params: Params, model_name: str, trials: int) -> Trial | None:
    """Claim the next trial for this process, its values drawn, or return None while `trials` are done or claimed."""
    if sum(map(_counts, study.get_trials(deepcopy=False))) >= trials:
        return None
    trial = study.ask()
    others = study.get_trials(deepcopy=False)
    if sum(_counts(other) for other in others if other.number < trial.number) >= trials:
        # Another process claimed the last one in the same moment. Unlike tell(), this leaves no trace of a failure.
        study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
        return None
    trial.set_user_attr("owner", this_process())
    original = RetryHeartbeatStaleTrialCallback.retried_trial_number(others[trial.number])
    number = trial.number if original is None else original
    trial.set_user_attr("seeds", seeds_of(params.tuning.seed, number, params.tuning.replicates))
    # Made anew for each trial: what it draws depends on the trial's number, not on what this process drew before.
    study.sampler = optuna.samplers.TPESampler(
        n_startup_trials=params.tuning.startup_trials,
        multivariate=True,
        seed=seeds_of(params.tuning.seed, number, 1)[0],
    )
    for name, distribution in _distributions(params.model(model_name), params.tuning.model(model_name).space).items():
        match distribution:
            case CategoricalDistribution():
                trial.suggest_categorical(name, distribution.choices)
            case IntDistribution():
                trial.suggest_int(name, distribution.low, distribution.high, log=distribution.log)
            case FloatDistribution():
                trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
    return trial


def finished(study: Study) -> list[FrozenTrial]:
    """Return the trials that count as done: completed, pruned, or failed for good."""
    return [trial for trial in study.get_trials(deepcopy=False) if _counts(trial) and trial.state.is_finished()]


def _counts(trial: FrozenTrial) -> bool:
    if trial.state == TrialState.FAIL:
        # Failed by itself, so that trying again would fail again, or lost its process once too often.
        return "failure" in trial.user_attrs or len(RetryHeartbeatStaleTrialCallback.retry_history(trial)) >= RETRIES
    return trial.state != TrialState.WAITING


def running(study: Study) -> list[FrozenTrial]:
    """Return the trials under way, in any process."""
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def retry(study: Study, number: int) -> None:
    """End the trial as failed, and put its values back into the queue; after `RETRIES` times, only end it."""
    try:
        study.tell(number, state=TrialState.FAIL)
    except ValueError:
        return  # It is finished: another process saw to it.
    _requeue(study, study.get_trials()[number])


def _requeue(study: Study, failed: FrozenTrial) -> None:
    failed.user_attrs = {}  # Its owner was another process.
    RetryHeartbeatStaleTrialCallback(max_retry=RETRIES)(study, failed)


def retry_abandoned(study: Study) -> list[int]:
    """Retry the trials whose process is gone: of this machine at once, of others when their heartbeat has stopped.

    Returns:
        The numbers of the trials of this machine.
    """
    abandoned = []
    for trial in running(study):
        owner = trial.user_attrs.get("owner")
        if owner is None:
            assert trial.datetime_start
            lost = datetime.now() - trial.datetime_start > timedelta(seconds=OWNERLESS_SECONDS)
        else:
            lost = is_gone(owner)
        if lost:
            retry(study, trial.number)
            abandoned.append(trial.number)
    fail_stale_trials(study)
    return abandoned


def send_heartbeat(storage: BaseStorage, trial: Trial) -> None:
    """Tell other machines that a trial is alive, where the storage is one that they may share."""
    if isinstance(storage, RDBStorage):
        storage.record_heartbeat(trial._trial_id)
