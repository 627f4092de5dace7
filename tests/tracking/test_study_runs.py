from collections.abc import Callable
from pathlib import Path

import pytest

from motionbench.core.errors import UserError
from motionbench.tracking import store
from motionbench.tracking.study_runs import MISSED, TrialRecord, log_outcome, log_trials, study_run
from tests.tracking.conftest import Runs


def trial(number: int, state: str, failure: str | None = None) -> TrialRecord:
    losses = {1: 0.5, 2: 0.25} if state == "completed" else {}
    return TrialRecord(number, state, {"filters": [2, 3]}, {"parameters": 7}, losses, failure, 1_000, 2_000)


TRIALS = [trial(0, "completed"), trial(1, "pruned"), trial(2, "failed", "no number"), trial(3, "retried")]


def test_trials_become_child_runs_once(runs: Runs) -> None:
    with study_run("s", "id", {"space": 1}) as run_id:
        log_trials(run_id, "s", TRIALS[:1])
        log_trials(run_id, "s", TRIALS)
        log_trials(run_id, "s", TRIALS, at_end=True)
    logged = runs()
    assert {name: run.info.status for name, run in logged.items()} == {
        "tune s": "FINISHED", "s trial 0": "FINISHED", "s trial 1": "FINISHED", "s trial 2": "FAILED",
        "s trial 3": "KILLED",
    }  # fmt: skip # short items
    assert logged["tune s"].data.params == {"space": "1"}
    for each in TRIALS:
        run = logged[f"s trial {each.number}"]
        assert run.data.tags["mlflow.parentRunId"] == run_id
        assert run.data.tags["tuning.state"] == each.state
        assert run.data.tags.get("tuning.failure") == each.failure
        assert run.data.params == {"filters": "[2, 3]"}
        assert run.data.metrics["parameters"] == 7
        assert (run.info.start_time, run.info.end_time) == (each.started, each.ended)
    assert logged["s trial 0"].data.metrics["validation_loss"] == 0.25


def test_what_the_store_missed_of_a_search_is_logged_at_its_end(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with study_run("s", "id", {}) as run_id:
        with monkeypatch.context() as patch:
            patch.setattr(store, "log_batches", fail)
            log_trials(run_id, "s", TRIALS[:1])
        log_trials(run_id, "s", TRIALS[1:2])  # The store is back, which nobody knows yet.
        assert "s trial 1" not in runs()
        log_trials(run_id, "s", TRIALS[:2], at_end=True)
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert {name for name, run in runs().items() if "tuning.state" in run.data.tags} == {"s trial 0", "s trial 1"}
    assert runs()["s trial 0"].data.params == {"filters": "[2, 3]"}


def fail(*_arguments: object, **_options: object) -> None:
    raise OSError("no answer")


def test_one_failure_of_the_store_costs_neither_the_outcome_nor_the_next_search(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "outcome").mkdir()
    with study_run("s", "id", {}) as run_id:
        with monkeypatch.context() as patch:
            patch.setattr(store, "log_batches", fail)
            log_trials(run_id, "s", TRIALS[:1])
        log_trials(run_id, "s", TRIALS[:1], at_end=True)
        log_outcome(run_id, {"trials": 1}, tmp_path / "outcome")
    with study_run("t", "another id", {}) as run_id:
        log_outcome(run_id, {"trials": 2}, tmp_path / "outcome")
    logged = runs()
    assert {name: logged[name].data.metrics for name in ("tune s", "tune t")} == {
        "tune s": {"trials": 1},
        "tune t": {"trials": 2},
    }
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith(f"; work goes on; {MISSED}")


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, "KILLED"), (UserError, "FAILED")])
def test_study_has_one_run_however_often_it_continues(
    error: Callable[[str], BaseException], status: str, runs: Runs, tmp_path: Path
) -> None:
    with pytest.raises((KeyboardInterrupt, UserError)), study_run("s", "id", {"space": 1}) as first:
        raise error("stopped")
    assert runs()["tune s"].info.status == status
    (tmp_path / "outcome").mkdir()
    with study_run("s", "id", {"space": 1}) as second:
        log_outcome(second, {"trials": 4}, tmp_path / "outcome")
    assert first == second
    assert runs()["tune s"].info.status == "FINISHED"
    assert runs()["tune s"].data.metrics == {"trials": 4}


def test_unavailable_store_costs_a_search_no_trial(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    with study_run("s", "id", {}) as run_id:
        log_trials(run_id, "s", TRIALS, at_end=True)
        log_outcome(run_id, {"trials": 4}, Path())
    assert run_id == ""
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith(f"; work goes on; {MISSED}")
    assert runs() == {}
