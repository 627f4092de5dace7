"""The search with acted trials: what each process sends is given, and nothing is trained."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from optuna.study import Study
from optuna.trial import TrialState

from motionbench.core.errors import UserError
from motionbench.core.files import write_json
from motionbench.core.paths import SOURCE, TRAIN, VALIDATION
from motionbench.execution.engine import FileTask, LocalEngine, Message
from motionbench.params.schema import Params
from motionbench.tracking.study_runs import TrialRecord
from motionbench.tuning import search as searches
from motionbench.tuning.study import finished, open_storage, open_study, retry, running
from tests.conftest import SOURCE_RECORD
from tests.tuning.studies import DATA, Load, claimed

pytestmark = pytest.mark.usefixtures("working_directory")

Script = Sequence[Message | None]  # None: nothing, for once
COST = [None, Message("completed", {"parameters": 7, "latency_milliseconds": 2.0})]
STARTED = Message("event", {"process": 1})
LOST = [STARTED, Message("lost", None)]
FAILED = [STARTED, Message("failed", ValueError("no number\nand more"))]


def completed(*losses: float) -> Script:
    epochs = [
        Message("event", {"epoch": epoch, "validation_loss": loss, "validation_accuracy": 0.5})
        for epoch, loss in enumerate(losses, start=1)
    ]
    return [STARTED, *epochs, Message("completed", {"validation_loss": losses[-1], "curve": list(losses)})]


class ActedEngine:
    """An engine whose tasks, in the order of their starts, send a script each: a message whenever it is waited for."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = iter(scripts)
        self.tasks: list[Any] = []
        self.running: list[Any] = []
        self.most_at_once = 0
        self.killed = 0
        self.closed = False

    def start(self, task: Any, *, threads: int = 1, fresh: bool = False) -> Any:
        self.tasks.append((task, threads, fresh))
        self.running.append(type("ActedTask", (), {"script": list(next(self.scripts))})())
        self.most_at_once = max(self.most_at_once, len(self.running))
        return self.running[-1]

    def wait(self, _timeout: float) -> list[tuple[Any, Message]]:
        sent = [(task, message) for task in self.running if (message := task.script.pop(0))]
        for task, message in sent:
            if message.kind != "event":
                self.running.remove(task)
        return sent

    def kill(self, task: Any) -> None:
        self.running.remove(task)
        self.killed += 1

    def close(self) -> None:
        self.closed = True


def run_search(
    engine: Any, params: Params, trials: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[Study, list[tuple[str, int]]]:
    costs = ActedEngine(*[COST] * 9)
    monkeypatch.setattr(searches, "local_engine", lambda: closing(costs))
    write_source()
    storage, place = open_storage()
    study = open_study(storage, place, "convlstm", params, DATA)
    ends: list[tuple[str, int]] = []
    try:
        searches.search(
            engine, storage, study, "convlstm", params, trials, workers, lambda end, number: ends.append((end, number))
        )
    except KeyboardInterrupt:
        ends.append(("interrupted", -1))
    assert costs.most_at_once == 1, "what is timed runs alone"
    assert len(costs.tasks) == len(study.get_trials(states=(TrialState.FAIL, TrialState.COMPLETE, TrialState.PRUNED)))
    return study, ends


def write_source() -> None:
    SOURCE.parent.mkdir(parents=True, exist_ok=True)
    write_json(SOURCE, SOURCE_RECORD.model_dump())


def test_lost_trial_runs_again_and_a_failed_one_counts(params_with: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ActedEngine(LOST, FAILED, completed(0.5))
    study, ends = run_search(engine, params_with({}), 2, 1, monkeypatch)
    # The retry comes before new trials, with the values that were lost.
    lost, retried, last = study.trials
    assert ends == [("retried", 0), ("failed", 1), ("completed", 2)]
    assert retried.params == lost.params
    assert retried.user_attrs["failure"] == "no number"
    assert (last.value, last.user_attrs["parameters"], last.user_attrs["curve"]) == (0.5, 7, [0.5])
    assert len(finished(study)) == 2
    assert not engine.closed, "it is left for the search of the next model"


def test_a_trial_is_trained_in_a_new_process_that_has_the_clips(
    params_with: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = ActedEngine(completed(0.5))
    run_search(engine, params_with({"training.threads": 3}), 1, 1, monkeypatch)
    [(task, threads, fresh)] = engine.tasks
    assert isinstance(task, FileTask)
    assert task.inputs == [SOURCE, TRAIN, VALIDATION]
    assert (threads, fresh) == (3, True)


def test_an_engine_that_refuses_ends_the_search_and_no_trial_counts(
    params_with: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = ActedEngine(completed(0.5))

    def refuse(_timeout: float) -> list[Any]:
        if engine.running:
            raise UserError("node: keras")
        return []

    monkeypatch.setattr(engine, "wait", refuse)
    with pytest.raises(UserError, match=r"^node: keras$"):
        run_search(engine, params_with({}), 1, 1, monkeypatch)
    assert engine.closed
    study = open_study(*open_storage(), "convlstm", params_with({}), DATA)
    assert not finished(study)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "WAITING"]


def test_as_many_trials_run_at_once_as_there_are_workers(params_with: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ActedEngine(*(completed(0.5) for _ in range(5)))
    study, ends = run_search(engine, params_with({}), 5, 2, monkeypatch)
    assert engine.most_at_once == 2
    assert sorted(ends) == [("completed", number) for number in range(5)]
    assert len(study.trials) == 5


def test_worse_trial_is_pruned_and_its_process_killed(params_with: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    # The first trial is worse still: it is what others are compared with, and so is never pruned.
    scripts = [completed(0.9, 0.9, 0.9), completed(0.1, 0.1, 0.1), completed(0.2, 0.2, 0.2), completed(0.8, 0.8, 0.8)]
    engine = ActedEngine(*scripts)
    params = params_with({"tuning.startup_trials": 3, "tuning.warmup_epochs": 1, "tuning.pruner_top_fraction": 0.5})
    study, ends = run_search(engine, params, 4, 1, monkeypatch)
    assert ends == [("completed", 0), ("completed", 1), ("completed", 2), ("pruned", 3)]
    assert engine.killed == 1
    assert study.trials[3].intermediate_values == {1: 0.8, 2: 0.8}
    assert study.trials[3].user_attrs["validation_accuracy"] == 0.5


def test_two_objectives_prune_nothing(params_with: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ActedEngine(completed(0.1, 0.1), completed(0.9, 0.9))
    params = params_with({"tuning.objective": "pareto", "tuning.startup_trials": 0, "tuning.warmup_epochs": 0})
    study, ends = run_search(engine, params, 2, 1, monkeypatch)
    assert ends == [("completed", 0), ("completed", 1)]
    assert [trial.values for trial in study.trials] == [[0.1, 2.0], [0.9, 2.0]]


def test_interrupted_search_puts_its_trials_back(params_with: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ActedEngine([STARTED] * 9, [STARTED] * 9)
    wait = engine.wait

    def wait_and_interrupt(timeout: float) -> list[tuple[Any, Message]]:
        if len(engine.running) == 2:
            signal.raise_signal(signal.SIGINT)
        return wait(timeout)

    monkeypatch.setattr(engine, "wait", wait_and_interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        study, ends = run_search(engine, params_with({}), 2, 2, monkeypatch)
    finally:
        signal.signal(signal.SIGINT, before)
    assert ends == [("retried", 0), ("retried", 1), ("interrupted", -1)]
    assert engine.closed
    assert not running(study)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "FAIL", "WAITING", "WAITING"]


def test_interrupted_search_logs_what_the_store_missed(params_with: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[tuple[list[int], bool]] = []

    @contextmanager
    def study_run(*_arguments: Any) -> Iterator[str]:
        yield "a run"

    def log_trials(_parent: str, _study: str, trials: list[TrialRecord], *, at_end: bool = False) -> None:
        logged.append(([trial.number for trial in trials], at_end))

    def interrupted_search(_engine: Any, _storage: Any, study: Study, *arguments: Any) -> None:
        trial = claimed(study, params, 1)
        study.tell(trial, 0.5)
        arguments[-2]("completed", trial.number)
        raise KeyboardInterrupt

    params = params_with({})
    for folder in ("train", "validation", "folds"):
        Path("data", folder).mkdir(parents=True)
    write_source()
    for name, acted in (("study_run", study_run), ("log_trials", log_trials), ("search", interrupted_search)):
        monkeypatch.setattr(searches, name, acted)
    with pytest.raises(KeyboardInterrupt):
        searches.tune(LocalEngine(), "convlstm", params, 1, 1)
    assert logged == [([0], False), ([0], True)]


@pytest.mark.parametrize("message", [completed(0.5), [Message("failed", "SyntaxError: invalid syntax")]])
def test_code_that_changes_during_a_search_ends_it(
    message: list[Message], params_with: Load, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class EditingEngine(ActedEngine):
        def start(self, task: Any, *, threads: int = 1, fresh: bool = False) -> Any:
            code.write_text("other code", encoding="utf-8")
            return super().start(task, threads=threads, fresh=fresh)

    @contextmanager
    def study_run(*_arguments: Any) -> Iterator[str]:
        yield ""

    for folder in ("train", "validation", "folds"):
        Path("data", folder).mkdir(parents=True)
    write_source()
    code = tmp_path / "code.py"
    code.touch()
    ended: list[TrialRecord] = []
    for name, acted in (
        ("code_folder", lambda _package: code),
        ("local_engine", lambda: closing(ActedEngine(*[COST] * 9))),
        ("study_run", study_run),
        ("log_trials", lambda _parent, _study, trials, **_: ended.extend(trials)),
    ):
        monkeypatch.setattr(searches, name, acted)
    engine: Any = EditingEngine(message)
    with pytest.raises(UserError, match=r"code\.py: changed while the search ran; finished trials are kept: run it"):
        searches.tune(engine, "convlstm", params_with({}), 1, 1)
    assert engine.closed
    assert {(trial.number, trial.state) for trial in ended} == {(0, "retried")}


def test_study_with_flips_belongs_to_the_label_maps(params_with: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    definitions: list[dict[str, Any]] = []

    @contextmanager
    def study_run(_name: str, _id: str, definition: dict[str, Any]) -> Iterator[str]:
        definitions.append(definition)
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(searches, "study_run", study_run)
    for folder in ("train", "validation", "folds"):
        Path("data", folder).mkdir(parents=True)
    write_source()
    for flip in (None, "left_right"):
        params = params_with({"training.augmentation.flip": flip, "tuning.study": f"flip-{flip}"})
        with pytest.raises(KeyboardInterrupt):
            searches.tune(LocalEngine(), "convlstm", params, 1, 1)
    assert [f"{SOURCE} md5" in definition for definition in definitions] == [False, True]


def test_trial_that_another_machine_retried_is_given_up(params_with: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ActedEngine(completed(0.5, 0.4), completed(0.3))
    wait = engine.wait

    def wait_and_sleep(timeout: float) -> list[tuple[Any, Message]]:
        if engine.running and len(engine.tasks) == 1:
            study = open_study(*open_storage(), "convlstm", params, DATA)
            for trial in running(study):
                retry(study, trial.number)
        return wait(timeout)

    params = params_with({})
    monkeypatch.setattr(engine, "wait", wait_and_sleep)
    study, ends = run_search(engine, params, 1, 1, monkeypatch)
    assert ends == [("completed", 1)]
    assert engine.killed == 1
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE"]
    assert study.trials[0].params == study.trials[1].params
