from pathlib import Path

import pytest
from optuna.trial import TrialState

from motionbench.core.errors import UserError
from motionbench.tuning.outcome import best_trial, read_outcome, study_status, trial_record
from motionbench.tuning.study import retry
from tests.tuning.studies import Load, claimed, opened

pytestmark = pytest.mark.usefixtures("working_directory")


def test_best_of_two_objectives_is_as_fast_as_the_first(params_with: Load) -> None:
    params = params_with({"tuning.objective": "pareto"})
    study = opened(params)
    for loss, latency in ((0.5, 10.0), (0.1, 11.0), (0.3, 9.0), (0.4, 8.0)):
        study.tell(claimed(study, params, 4), [loss, latency])
    assert best_trial(study).number == 2


def test_study_without_a_completed_trial_has_no_best(params_with: Load) -> None:
    with pytest.raises(UserError, match=r"study first\.convlstm: no trial has completed; run more: TRIALS"):
        best_trial(opened(params_with({})))


def test_records_of_trials_say_how_each_ended(params_with: Load) -> None:
    params = params_with({})
    study = opened(params)
    completed, pruned, failed, retried = (claimed(study, params, 4) for _ in range(4))
    for epoch, loss in ((1, 0.5), (2, 0.25)):
        completed.report(loss, epoch)
    completed.set_user_attr("parameters", 7)
    study.tell(completed, 0.25)
    pruned.report(0.75, 1)
    study.tell(pruned, state=TrialState.PRUNED)
    failed.set_user_attr("failure", "no longer a number")
    study.tell(failed, state=TrialState.FAIL)
    assert retry(study, retried.number)
    records = [trial_record(study, trial.number) for trial in (completed, pruned, failed, retried)]
    assert [record.state for record in records] == ["completed", "pruned", "failed", "retried"]
    assert [record.failure for record in records] == [None, None, "no longer a number", None]
    assert records[0].measures == {"parameters": 7}
    assert records[0].params == {
        "filters": [5, 5, 5], "kernel_sizes": [4, 8, 8], "learning_rate": 0.003, "seeds": completed.user_attrs["seeds"],
    }  # fmt: skip
    assert [record.validation_losses for record in records] == [{1: 0.5, 2: 0.25}, {1: 0.75}, {}, {}]
    assert all(record.started <= record.ended for record in records)
    assert study_status(study) == (3, 1, 0.25)


def test_damaged_or_missing_outcome_is_named(working_directory: Path) -> None:
    with pytest.raises(UserError, match="missing; search first: make tune MODEL=convlstm"):
        read_outcome(working_directory, "convlstm")
    (working_directory / "best.json").write_text('{"study": 3', encoding="utf-8")
    with pytest.raises(UserError, match="not readable; write it again"):
        read_outcome(working_directory, "convlstm")
