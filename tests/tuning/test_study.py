"""Real studies in a journal file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.study import Study

from motionbench.core.errors import UserError
from motionbench.params.schema import Params
from motionbench.tuning.outcome import best_trial
from motionbench.tuning.space import model_values
from motionbench.tuning.study import claim_trial, finished, open_storage, open_study, retry, running
from motionbench.tuning.trial import seeds_of

Load = Callable[[dict[str, Any]], Params]
DATA = {"train": "1", "validation": "2"}


@pytest.fixture
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    return tmp_path


def opened(params: Params, data: dict[str, str] = DATA) -> Study:
    return open_study(*open_storage(), "convlstm", params, data)


def finish(study: Study, params: Params, trials: int) -> None:
    while trial := claim_trial(study, params, "convlstm", trials):
        study.tell(trial, trial.params["filters.1"] / 100)


@pytest.mark.usefixtures("in_a_folder")
def test_first_trial_is_params_yaml_others_are_from_the_space(params_with: Load) -> None:
    params = params_with({})
    study = opened(params)
    finish(study, params, 12)
    first, *others = study.trials
    values = model_values(first.params)
    assert values == {"filters": [5, 5, 5], "kernel_sizes": [4, 8, 8], "learning_rate": 0.003}
    space = params.tuning.model("convlstm").space
    for trial in others:
        for key, value in model_values(trial.params).items():
            assert all(each in space[key] for each in (value if isinstance(value, list) else [value]))
    assert len({str(trial.params) for trial in study.trials}) == 12


@pytest.mark.usefixtures("in_a_folder")
def test_trials_is_the_total_over_all_processes(params_with: Load) -> None:
    params = params_with({})
    one, other = opened(params), opened(params)
    claimed = [claim_trial(study, params, "convlstm", 3) for study in (one, other, one, other)]
    assert [trial and trial.number for trial in claimed] == [0, 1, 2, None]
    assert claim_trial(one, params, "convlstm", 4)


@pytest.mark.usefixtures("in_a_folder")
def test_late_claim_of_the_last_trial_is_put_back(params_with: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    params = params_with({})
    study, late = opened(params), opened(params)
    finish(study, params, 2)
    # Its first look at the study is from before the others' last claim.
    before, look = list(study.get_trials(deepcopy=False)), late.get_trials
    assert claim_trial(study, params, "convlstm", 3)
    looks = iter([before])
    monkeypatch.setattr(late, "get_trials", lambda **options: next(looks, None) or look(**options))
    assert claim_trial(late, params, "convlstm", 3) is None
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "RUNNING", "WAITING"]
    taken = claim_trial(study, params, "convlstm", 4)
    assert taken
    assert taken.number == 3


@pytest.mark.usefixtures("in_a_folder")
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


@pytest.mark.usefixtures("in_a_folder")
def test_retried_trial_keeps_values_and_fails_after_three(params_with: Load) -> None:
    params = params_with({})
    study = opened(params)
    finish(study, params, 1)
    first_try = claim_trial(study, params, "convlstm", 2)
    assert first_try
    values, seeds = first_try.params, first_try.user_attrs["seeds"]
    for _ in range(4):
        [lost] = running(study)
        assert lost.params == values
        assert lost.user_attrs["seeds"] == seeds
        retry(study, lost.number)
        retry(study, lost.number)  # Two who notice at once do it once.
        claim_trial(study, params, "convlstm", 2)
    assert not running(study)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL", "FAIL", "FAIL", "FAIL"]
    assert len(finished(study)) == 2


@pytest.mark.usefixtures("in_a_folder")
@pytest.mark.parametrize(
    ("changes", "data", "message"),
    [
        (
            {"tuning.convlstm.space.filters": {"low": 2, "high": 9}}, DATA,
            "tuning.convlstm.space.filters: {'low': 2, 'high': 9}, but study first.convlstm in optuna.journal was "
            "started with {'low': 2, 'high': 8}; undo the change, or start another study: tuning.study",
        ),
        ({}, {"train": "1", "validation": "3"}, "data/validation md5: 3, but study"),
        ({"convlstm.batch_size": 4}, DATA, "convlstm.batch_size: 4, but study"),
        ({"convlstm.filters": [5, 5], "convlstm.kernel_sizes": [4, 4]}, DATA, "convlstm.filters count: 2, but study"),
        ({"tuning.convlstm.epochs": 9}, DATA, "tuning.convlstm.epochs: 9, but study"),
        ({"tuning.objective": "pareto"}, DATA, "tuning.objective: pareto, but study"),
        ({"tuning.replicates": 3}, DATA, "tuning.replicates: 3, but study"),
        ({"tuning.seed": 3}, DATA, "tuning.seed: 3, but study"),
    ],
)  # fmt: skip
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


@pytest.mark.usefixtures("in_a_folder")
@pytest.mark.parametrize(
    ("settings", "loss", "first_pruned"),
    [
        ({}, 0.9, 3),
        ({"tuning.startup_trials": 6}, 0.9, None),
        ({"tuning.warmup_epochs": 3}, 0.9, 4),
        ({"tuning.pruner_top_fraction": 0.25}, 0.25, 3),
        ({"tuning.pruner_top_fraction": 0.5}, 0.25, None),
        ({"tuning.objective": "pareto"}, 0.9, None),
    ],
)
def test_pruner_waits_and_keeps_the_top_fraction(
    settings: dict[str, Any], loss: float, first_pruned: int | None, params_with: Load
) -> None:
    params = params_with({"tuning.startup_trials": 5, "tuning.warmup_epochs": 2, **settings})
    study = opened(params)
    pareto = params.tuning.objective == "pareto"
    for final in (0.1, 0.3, 0.5, 0.7, 0.2):
        trial = claim_trial(study, params, "convlstm", 6)
        assert trial
        for epoch in range(1, 6):
            if not pareto:
                trial.report(final, epoch)
        study.tell(trial, [final, 1.0] if pareto else final)
    trial = claim_trial(study, params, "convlstm", 6)
    assert trial
    pruned = []
    for epoch in range(1, 6):
        if not pareto:
            trial.report(loss, epoch)
            pruned += [epoch] if trial.should_prune() else []
    assert next(iter(pruned), None) == first_pruned


@pytest.mark.usefixtures("in_a_folder")
def test_best_of_two_objectives_is_as_fast_as_the_first(params_with: Load) -> None:
    params = params_with({"tuning.objective": "pareto"})
    study = opened(params)
    for loss, latency in ((0.5, 10.0), (0.1, 11.0), (0.3, 9.0), (0.4, 8.0)):
        trial = claim_trial(study, params, "convlstm", 4)
        assert trial
        study.tell(trial, [loss, latency])
    assert best_trial(study).number == 2
