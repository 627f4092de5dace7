import os
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import Trial, TrialState

from motionbench.core.dvc_files import read_stages
from motionbench.core.errors import UserError
from motionbench.core.paths import JOURNAL
from motionbench.core.processes import this_process
from motionbench.tuning import study as studies
from motionbench.tuning.objective import seeds_of
from motionbench.tuning.space import check_search_space, model_values
from motionbench.tuning.storage import open_storage
from motionbench.tuning.study import (
    OWNERLESS_SECONDS,
    RETRIES,
    TRAINING_CODE,
    claim_trial,
    finished,
    open_study,
    retry,
    retry_abandoned,
    running,
    send_heartbeats,
)
from tests.conftest import ROOT
from tests.tuning.studies import DATA, Load, claim_too_late, claimed, finish, opened

pytestmark = pytest.mark.usefixtures("working_directory")


def test_first_trial_is_params_yaml_others_are_from_the_space(params_with: Load) -> None:
    spaces: dict[str, dict[str, Any]] = {
        "batch_normalization": {"choices": [False, True]},
        "dropout": {"low": 0.0, "high": 0.5},
        "learning_rate_schedule": {"choices": ["constant", "cosine"]},
        "weight_decay": {"low": 0.001, "high": 0.1, "log": True},
    }
    searched = {f"tuning.convlstm.space.{key}": space for key, space in spaces.items()}
    params = params_with({"convlstm.weight_decay": 0.01, "tuning.startup_trials": 8, **searched})
    check_search_space(params, "convlstm")
    study = opened(params)
    finish(study, params, 12)
    first, *others = (model_values(trial.params) for trial in study.trials)
    section = params.model("convlstm")
    assert section.model_dump() == section.model_validate(section.model_dump() | first).model_dump()
    space = params.tuning.model("convlstm").space
    for values in others:
        assert values.keys() == space.keys()
        for key, value in values.items():
            assert all(each in space[key] for each in (value if isinstance(value, list) else [value]))
        section.model_validate(section.model_dump() | values)
    assert len({str(trial.params) for trial in study.trials}) == 12
    for key in ("batch_normalization", "learning_rate_schedule"):
        assert {values[key] for values in others} == set(spaces[key]["choices"])


def test_trials_is_the_total_over_all_processes(params_with: Load) -> None:
    params = params_with({})
    one, other = opened(params), opened(params)
    trials = [claim_trial(study, params, "convlstm", 3) for study in (one, other, one, other)]
    assert [trial and trial.number for trial in trials] == [0, 1, 2, None]
    assert claim_trial(one, params, "convlstm", 4)


def test_late_claims_of_the_last_trial_count_nothing(params_with: Load) -> None:
    params = params_with({})
    study, late = opened(params), opened(params)
    finish(study, params, 2)
    last = claimed(study, params, 3)
    for _ in range(RETRIES + 1):
        claim_too_late(late, params, 3)
    study.tell(last, 0.5)
    assert [trial.number for trial in finished(study)] == [0, 1, 2]
    finish(study, params, 5)
    assert [trial.state.name for trial in finished(study)] == ["COMPLETE"] * 5


def test_late_claim_costs_a_lost_trial_no_retry(params_with: Load) -> None:
    params = params_with({})
    study, late = opened(params), opened(params)
    lost, alive = (claimed(study, params, 2) for _ in range(2))
    values = lost.params
    for _ in range(RETRIES):
        retry(study, lost.number)
        claim_too_late(late, params, 1)
        lost = claimed(study, params, 2)
        assert lost.params == values
    retry(study, lost.number)  # after its last retry
    assert {trial.number for trial in finished(study)} == {lost.number}
    assert [trial.number for trial in running(study)] == [alive.number]


def test_draws_depend_on_the_number_and_the_seed(params_with: Load) -> None:
    def drawn(changes: dict[str, Any]) -> list[Any]:
        params = params_with({"tuning.startup_trials": 100, **changes})
        study = opened(params)
        finish(study, params, 4)
        return [(trial.params, trial.user_attrs["seeds"]) for trial in study.trials]

    once = drawn({"tuning.study": "a"})
    assert drawn({"tuning.study": "b"}) == once
    others = drawn({"tuning.study": "c", "tuning.seed": 1})
    assert all(ours[0] != theirs[0] for ours, theirs in zip(once[1:], others[1:], strict=True))
    seeds = [seed for _, trial_seeds in [*once, *others] for seed in trial_seeds]
    assert len(set(seeds)) == len(seeds) == 16
    assert drawn({"tuning.study": "d", "tuning.replicates": 3})[0][1][:2] == once[0][1]
    assert seeds_of(0, 1, 2) == once[1][1]


def test_retried_trial_keeps_values_and_fails_after_three(params_with: Load) -> None:
    params = params_with({})
    study = opened(params)
    finish(study, params, 1)
    first_try = claimed(study, params, 2)
    values, seeds = first_try.params, first_try.user_attrs["seeds"]
    for _ in range(4):
        [lost] = running(study)
        assert lost.params == values
        assert lost.user_attrs["seeds"] == seeds
        # Two that notice at the same time retry it once, and one of them knows that it did.
        assert [retry(study, lost.number) for _ in range(2)] == [True, False]
        claim_trial(study, params, "convlstm", 2)
    assert not running(study)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL", "FAIL", "FAIL", "FAIL"]
    assert len(finished(study)) == 2


@pytest.mark.parametrize("url", [None, "sqlite:///studies.db"])
def test_a_retry_is_reported_by_who_made_it(
    url: str | None, params_with: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    if url:
        monkeypatch.setenv("OPTUNA_STORAGE", url)
    params = params_with({})
    (here, _), (there, _) = open_storage(), open_storage()
    ours, theirs = (open_study(storage, "a place", "convlstm", params, DATA) for storage in (here, there))
    lost, alive = (claimed(ours, params, 2) for _ in range(2))
    send_heartbeats(here, ours, [lost, alive])
    stop(lost, url)
    before = running(ours)
    assert retry_abandoned(there, theirs) == [lost.number]
    # We saw it running before they retried it.
    looks = iter([before])
    look = ours.get_trials
    monkeypatch.setattr(ours, "get_trials", lambda **options: next(looks, look(**options)))
    assert retry_abandoned(here, ours) == []
    assert [trial.number for trial in running(ours)] == [alive.number]
    for storage in (here, there):
        close(storage)


def stop(trial: Trial, url: str | None) -> None:
    """Make a trial that of a process which has ended; in a database, that of a machine whose heartbeat has stopped."""
    if not url:
        trial.set_user_attr("owner", {**this_process(), "byte": "1"})
        return
    trial.set_user_attr("owner", {**this_process(), "file": "elsewhere"})
    with closing(sqlite3.connect("studies.db")) as database, database:
        change = "UPDATE trial_heartbeats SET heartbeat = '2000-01-01 00:00:00' WHERE trial_id = ?"
        database.execute(change, (trial._trial_id,))


def close(storage: BaseStorage) -> None:
    if isinstance(storage, RDBStorage):
        storage.remove_session()
        storage.engine.dispose()


def test_trials_of_ended_processes_are_retried(params_with: Load) -> None:
    params = params_with({})
    storage, place = open_storage()
    study = open_study(storage, place, "convlstm", params, DATA)
    lost, copied, alive, fresh, ownerless = (claimed(study, params, 5) for _ in range(5))
    lost.set_user_attr("owner", {**this_process(), "byte": "1"})
    copied.set_user_attr("owner", {**this_process(), "file": "that of the folder that the journal was copied from"})
    for trial in (fresh, ownerless):
        trial.set_user_attr("owner", None)
    [stored] = [each for each in study.get_trials(deepcopy=False) if each.number == ownerless.number]
    stored.datetime_start = datetime.now() - timedelta(seconds=OWNERLESS_SECONDS + 1)
    assert retry_abandoned(storage, study) == [lost.number, copied.number, ownerless.number]
    assert {trial.number for trial in running(study)} == {alive.number, fresh.number}
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    assert [trial.params for trial in waiting] == [lost.params, copied.params, ownerless.params]
    assert not any(trial.user_attrs for trial in waiting), "whoever claims one will be its owner"
    assert retry_abandoned(storage, study) == []


def test_a_study_whose_creator_was_killed_at_once_is_defined_by_the_next(
    params_with: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studies, "UNDEFINED_SECONDS", 0, raising=False)
    optuna.create_study(storage=open_storage()[0], study_name="first.convlstm").set_user_attr("id", "of the killed one")
    finish(opened(params_with({})), params_with({}), 2)
    assert len(finished(opened(params_with({})))) == 2


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_line_that_was_cut_off_costs_no_finished_trial(
    goes_on: bool, params_with: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    params = params_with({})
    study = opened(params)
    finish(study, params, 2)
    other = opened(params)
    lost = claimed(study, params, 3)
    os.truncate(JOURNAL, JOURNAL.stat().st_size - 10)
    if goes_on:
        other.set_user_attr("written", "behind it")
    study = opened(params)
    assert capsys.readouterr().err == "optuna.journal: removed a line that was cut off; finished trials are kept\n"
    assert study.user_attrs.get("written") == ("behind it" if goes_on else None)
    assert [trial.number for trial in finished(study)] == [0, 1]
    study.tell(lost.number, 0.5)
    finish(opened(params), params, 4)
    assert len(finished(opened(params))) == 4
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_line_that_lacks_only_its_end_is_kept(
    goes_on: bool, params_with: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(opened(params_with({})), params_with({}), 3)
    other = opened(params_with({}))
    os.truncate(JOURNAL, JOURNAL.stat().st_size - 1)
    if goes_on:
        other.set_user_attr("written", "behind it")
    study = opened(params_with({}))
    assert len(finished(study)) == 3
    assert study.user_attrs.get("written") == ("behind it" if goes_on else None)
    assert capsys.readouterr().err == ""


def test_a_journal_that_is_damaged_otherwise_is_refused(params_with: Load) -> None:
    finish(opened(params_with({})), params_with({}), 1)
    JOURNAL.write_bytes(JOURNAL.read_bytes().replace(b"op_code", b"\0\0_code", 3))
    with pytest.raises(UserError, match=r"^optuna\.journal: damaged, not only at its end; .*: mv optuna\.journal opt"):
        open_storage()


@pytest.mark.parametrize(
    ("changes", "data", "message"),
    [
        (
            {"tuning.convlstm.space.filters": {"low": 2, "high": 9}},
            DATA,
            "tuning.convlstm.space.filters: {'low': 2, 'high': 9}, but study first.convlstm in optuna.journal was "
            "started with {'low': 2, 'high': 8}; undo the change, or start another study: tuning.study",
        ),
        ({}, {"data/train": "1", "data/validation": "3"}, "data/validation md5: 3, but study"),
        ({"convlstm.batch_size": 4}, DATA, "convlstm.batch_size: 4, but study"),
        ({"convlstm.filters": [5, 5], "convlstm.kernel_sizes": [4, 4]}, DATA, "convlstm.filters count: 2, but study"),
        ({"tuning.convlstm.epochs": 9}, DATA, "tuning.convlstm.epochs: 9, but study"),
        ({"tuning.maximum_latency": 5.0}, DATA, "tuning.maximum_latency: 5.0, but study"),
        ({"tuning.replicates": 3}, DATA, "tuning.replicates: 3, but study"),
        ({"tuning.seed": 3}, DATA, "tuning.seed: 3, but study"),
        ({"training.class_weights": "balanced"}, DATA, "training.class_weights: balanced, but study"),
        ({"training.augmentation.crop": 0.1}, DATA, "training.augmentation.crop: 0.1, but study"),
    ],
)
def test_study_with_other_settings_is_refused(
    changes: dict[str, Any], data: dict[str, str], message: str, params_with: Load
) -> None:
    opened(params_with({}))
    with pytest.raises(UserError) as refused:
        opened(params_with(changes), data)
    assert message in str(refused.value)
    opened(params_with({**changes, "tuning.study": "second"}), data)
    # Searched values may change: applying the best ones must not end the study.
    opened(params_with({"convlstm.filters": [4, 5, 6], "convlstm.epochs": 7}))


@pytest.mark.parametrize(
    ("settings", "loss", "first_pruned"),
    [
        ({}, 0.9, 3),
        ({"tuning.startup_trials": 6}, 0.9, None),
        ({"tuning.warmup_epochs": 3}, 0.9, 4),
        ({"tuning.pruner_top_fraction": 0.25}, 0.25, 3),
        ({"tuning.pruner_top_fraction": 0.5}, 0.25, None),
    ],
)
def test_pruner_waits_and_keeps_the_top_fraction(
    settings: dict[str, Any], loss: float, first_pruned: int | None, params_with: Load
) -> None:
    params = params_with({"tuning.startup_trials": 5, "tuning.warmup_epochs": 2, **settings})
    study = opened(params)
    for final in (0.1, 0.3, 0.5, 0.7, 0.2):
        trial = claimed(study, params, 6)
        for epoch in range(1, 6):
            trial.report(final, epoch)
        study.tell(trial, final)
    trial = claimed(study, params, 6)
    pruned = []
    for epoch in range(1, 6):
        trial.report(loss, epoch)
        pruned += [epoch] if trial.should_prune() else []
    assert next(iter(pruned), None) == first_pruned


def test_trials_without_a_heartbeat_are_retried_from_anywhere(
    params_with: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTUNA_STORAGE", "sqlite:///studies.db")
    params = params_with({})
    storage, place = open_storage()
    study = open_study(storage, place, "convlstm", params, DATA)
    lost, alive = claimed(study, params, 2), claimed(study, params, 2)
    for trial in (lost, alive):
        trial.set_user_attr("owner", {**this_process(), "file": "elsewhere"})
    send_heartbeats(storage, study, [lost, alive])
    assert retry_abandoned(storage, study) == []
    stop(lost, "sqlite:///studies.db")
    assert retry_abandoned(storage, study) == [lost.number]
    assert [trial.number for trial in running(study)] == [alive.number]
    close(storage)


@pytest.mark.parametrize("url", ["postgresql://someone:secret@127.0.0.1:1/optuna", "nonsense", "nosuch://host/db"])
def test_unreachable_storage_is_named_without_its_password(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTUNA_STORAGE", url)
    with pytest.raises(UserError) as refused:
        open_storage()
    assert str(refused.value).startswith("OPTUNA_STORAGE: ")
    assert "cannot be reached" in str(refused.value)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_study_of_other_code_is_refused(params_with: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(params_with({}))
    monkeypatch.setattr(studies, "code_md5s", lambda *packages: dict.fromkeys(packages, "another"))
    with pytest.raises(
        UserError, match=r"^code and package versions: \w{10}, but study .* was started with \w{10}; undo"
    ):
        opened(params_with({}))


def test_a_study_depends_on_the_code_that_a_training_depends_on() -> None:
    deps = map(str, read_stages(ROOT / "dvc.yaml")["train_convlstm"].deps)
    of_training = {dep.removeprefix("src/motionbench/") for dep in deps if dep.startswith("src/motionbench/")}
    assert set(TRAINING_CODE) == of_training | {"tuning"}
