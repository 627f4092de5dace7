from pathlib import Path

import pandas as pd
import pytest
from optuna.trial import TrialState

from motionbench.core.errors import UserError
from motionbench.tuning.outcome import read_outcome, study_status, summarise_best, trial_record, write_outcome
from motionbench.tuning.study import retry
from tests.tuning.studies import Load, claim_too_late, claimed, finish, opened

pytestmark = pytest.mark.usefixtures("working_directory")


def test_best_is_the_lowest_loss_of_those_that_are_fast_enough(params_with: Load) -> None:
    params = params_with({})
    study = opened(params)

    def complete(loss: float, excess: float) -> None:
        trial = claimed(study, params, 4)
        trial.set_constraint("latency", excess)
        trial.report(loss, 1)
        study.tell(trial, loss)

    complete(0.1, 1.0)
    assert summarise_best(study) is None
    assert study_status(study) == (1, 0, None)
    for loss, excess in ((0.5, 0.0), (0.3, -1.0), (0.4, -2.0)):
        complete(loss, excess)
    assert study_status(study) == (4, 0, 0.3)
    best = summarise_best(study)
    assert best
    assert (best["number"], best["validation_loss"], best["curve"], best["trials"]) == (2, 0.3, [0.3], 4)


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
    retry(study, retried.number)
    records = [trial_record(study, trial.number) for trial in (completed, pruned, failed, retried)]
    assert [record.state for record in records] == ["completed", "pruned", "failed", "retried"]
    assert [record.failure for record in records] == [None, None, "no longer a number", None]
    assert records[0].measures == {"parameters": 7}
    assert records[0].params == {
        "filters": [5, 5, 5],
        "kernel_sizes": [4, 8, 8],
        "learning_rate": 0.003,
        "seeds": completed.user_attrs["seeds"],
    }
    assert [record.validation_losses for record in records] == [{1: 0.5, 2: 0.25}, {1: 0.75}, {}, {}]
    assert all(record.started <= record.ended for record in records)
    assert study_status(study) == (3, 1, 0.25)


def test_table_has_each_trial_that_ran_and_no_late_claim(params_with: Load, working_directory: Path) -> None:
    params = params_with({})
    study = opened(params)
    finish(study, params, 1)
    retry(study, claimed(study, params, 2).number)
    claim_too_late(opened(params), params, 1)
    finish(study, params, 2)
    write_outcome(working_directory, study, summarise_best(study))
    table = pd.read_csv("trials.csv")
    assert [*zip(table["number"], table["state"], strict=True)] == [(0, "complete"), (1, "fail"), (3, "complete")]


def test_damaged_or_missing_outcome_is_named(working_directory: Path) -> None:
    with pytest.raises(UserError, match="missing; search first: make tune MODEL=convlstm"):
        read_outcome(working_directory, "convlstm")
    (working_directory / "best.json").write_text('{"study": 3', encoding="utf-8")
    with pytest.raises(UserError, match="not readable; write it again"):
        read_outcome(working_directory, "convlstm")
