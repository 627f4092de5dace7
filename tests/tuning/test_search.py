"""The search with acted trials: what each process sends is given, and nothing is trained."""

import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.study import Study
from optuna.trial import Trial

from motionbench.core.errors import UserError
from motionbench.core.files import write_json
from motionbench.core.paths import DATASET_INFO, TRAIN, TUNING_REPORTS, VALIDATION
from motionbench.execution.engine import FileTask, Message
from motionbench.tracking.study_runs import TrialRecord
from motionbench.tuning import search as searches
from motionbench.tuning import study as studies
from motionbench.tuning.outcome import write_outcome
from motionbench.tuning.storage import open_storage
from motionbench.tuning.study import RETRIES, retry, running
from tests.conftest import DRAWN_DATASET
from tests.tuning.studies import Load

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
    return [STARTED, *epochs, Message("completed", {"validation_loss": losses[-1], "seconds": 1.0})]


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


@pytest.fixture(autouse=True)
def ends(working_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, int]]]:  # noqa: ARG001
    """How each trial ended and its number, as MLflow is told, in a folder with clips. Costs are acted too."""
    told: list[tuple[str, int]] = []
    costs = ActedEngine(*[COST] * 10)

    @contextmanager
    def study_run(*_arguments: Any) -> Iterator[str]:
        yield "a run"

    def log_trials(_parent: str, _study: str, trials: list[TrialRecord], *, at_end: bool = False) -> None:
        ended = [(trial.state, trial.number) for trial in trials]
        if at_end:
            assert ended == told, "all that the store may have missed"
        else:
            told.extend(ended)

    for folder in (TRAIN, VALIDATION, DATASET_INFO.parent):
        folder.mkdir(parents=True)
    write_json(DATASET_INFO, DRAWN_DATASET.model_dump())
    for name, acted in (("study_run", study_run), ("log_trials", log_trials), ("local_engine", lambda: closing(costs))):
        monkeypatch.setattr(searches, name, acted)
    for name in ("write_outcome", "log_outcome", "print_outcome"):
        monkeypatch.setattr(searches, name, lambda *_arguments: None)
    yield told
    assert costs.most_at_once <= 1, "what is timed runs alone"


def stored() -> Study:
    return optuna.load_study(study_name="first.convlstm", storage=open_storage()[0])


def states() -> list[str]:
    return [trial.state.name for trial in stored().trials]


def test_lost_trial_runs_again_and_a_failed_one_counts(params_with: Load, ends: list[tuple[str, int]]) -> None:
    engine: Any = ActedEngine(LOST, FAILED, completed(0.5))
    params = params_with({"training.threads": 3, "tuning.maximum_latency": 2.5})
    searches.tune(engine, "convlstm", params, 2, 1)
    # The retry comes before new trials, with the values that were lost.
    assert ends == [("retried", 0), ("failed", 1), ("completed", 2)]
    lost, retried, last = stored().trials
    assert retried.params == lost.params
    assert retried.user_attrs["failure"] == "no number"
    assert (last.value, last.user_attrs["parameters"], last.user_attrs["seconds"]) == (0.5, 7, 1.0)
    assert all(trial.constraints == {"latency": -0.5} for trial in (lost, retried, last))
    assert not engine.closed, "it is left for the search of the next model"
    for task, threads, fresh in engine.tasks:
        assert isinstance(task, FileTask)
        assert (task.inputs, threads, fresh) == ([DATASET_INFO, TRAIN, VALIDATION], 3, True)


@pytest.mark.filterwarnings("ignore:Target and region quantiles")  # Two trials are few for importances.
@pytest.mark.parametrize("script", [completed(0.5), FAILED])
def test_search_without_a_best_trial_shows_what_it_tried(
    script: Script, params_with: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searches, "write_outcome", write_outcome)
    folder = TUNING_REPORTS / "convlstm"
    folder.mkdir(parents=True)
    (folder / "best.json").write_text("of an earlier search", encoding="utf-8")
    engine: Any = ActedEngine(script, script)
    params = params_with({"tuning.maximum_latency": 1.5})
    with pytest.raises(UserError, match=r"^study first\.convlstm: no trial has completed with at most 1\.5 ms"):
        searches.tune(engine, "convlstm", params, 2, 1)
    assert len((folder / "trials.csv").read_text(encoding="utf-8").splitlines()) == 3
    assert {path.stem for path in folder.iterdir()} > {"history", "importances", "parallel_coordinates", "slices"}
    assert not (folder / "best.json").exists()


def test_an_engine_that_refuses_ends_the_search_and_no_trial_counts(
    params_with: Load, ends: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Any = ActedEngine(completed(0.5))

    def refuse(_timeout: float) -> list[Any]:
        raise UserError("node: keras")

    monkeypatch.setattr(engine, "wait", refuse)
    with pytest.raises(UserError, match=r"^node: keras$"):
        searches.tune(engine, "convlstm", params_with({}), 1, 1)
    assert engine.closed
    assert ends == [("retried", 0)]
    assert states() == ["FAIL", "WAITING"]


def test_as_many_trials_run_at_once_as_there_are_workers(params_with: Load, ends: list[tuple[str, int]]) -> None:
    engine: Any = ActedEngine(*(completed(0.5) for _ in range(5)))
    searches.tune(engine, "convlstm", params_with({}), 5, 2)
    assert engine.most_at_once == 2
    assert sorted(ends) == [("completed", number) for number in range(5)]
    with pytest.raises(UserError, match=r"^TRIALS: 4: study first\.convlstm in optuna\.journal has 5 already; give 5 "):
        searches.tune(engine, "convlstm", params_with({}), 4, 1)


def test_worse_trial_is_pruned_and_its_process_killed(params_with: Load, ends: list[tuple[str, int]]) -> None:
    # The first trial is worse still: it is what others are compared with, and so is never pruned.
    engine: Any = ActedEngine(*(completed(loss, loss, loss) for loss in (0.9, 0.1, 0.2, 0.8)))
    params = params_with({"tuning.startup_trials": 3, "tuning.warmup_epochs": 1, "tuning.pruner_top_fraction": 0.5})
    searches.tune(engine, "convlstm", params, 4, 1)
    assert ends == [("completed", 0), ("completed", 1), ("completed", 2), ("pruned", 3)]
    assert engine.killed == 1
    pruned = stored().trials[3]
    assert pruned.intermediate_values == {1: 0.8, 2: 0.8}
    assert pruned.user_attrs["validation_accuracy"] == 0.5


def test_no_number_of_interruptions_loses_a_trial(params_with: Load, ends: list[tuple[str, int]]) -> None:
    class Interrupted(ActedEngine):
        def wait(self, timeout: float) -> list[tuple[Any, Message]]:
            if len(self.running) == 2:
                signal.raise_signal(signal.SIGINT)
            return super().wait(timeout)

    times = RETRIES + 1
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for number in range(times):
            ends.clear()
            engine: Any = Interrupted([STARTED] * 9, [STARTED] * 9)
            with pytest.raises(KeyboardInterrupt):
                searches.tune(engine, "convlstm", params_with({}), 2, 2)
            assert engine.closed
            assert ends == [("retried", 2 * number), ("retried", 2 * number + 1)]
    finally:
        signal.signal(signal.SIGINT, before)
    assert states() == ["FAIL"] * (2 * times) + ["WAITING"] * 2
    ends.clear()
    engine = ActedEngine(completed(0.5), completed(0.5))
    searches.tune(engine, "convlstm", params_with({}), 2, 1)
    first, last = stored().trials[:2], stored().trials[-2:]
    for ours, theirs in zip(first, last, strict=True):
        assert (ours.params, ours.user_attrs["seeds"]) == (theirs.params, theirs.user_attrs["seeds"])
    assert [trial.state.name for trial in last] == ["COMPLETE"] * 2


def test_the_baseline_is_not_pruned_when_it_is_retried(params_with: Load, ends: list[tuple[str, int]]) -> None:
    others = [completed(loss, loss, loss) for loss in (0.1, 0.2, 0.3)]
    engine: Any = ActedEngine([STARTED, *[None] * 20, LOST[1]], *others, completed(0.9, 0.9, 0.9))
    params = params_with({"tuning.startup_trials": 3, "tuning.warmup_epochs": 1, "tuning.pruner_top_fraction": 0.5})
    searches.tune(engine, "convlstm", params, 4, 2)
    assert ends == [*(("completed", number) for number in (1, 2, 3)), ("retried", 0), ("completed", 4)]
    assert [studies.is_baseline(trial) for trial in stored().trials] == [True, False, False, False, True]


@pytest.mark.parametrize("message", [completed(0.5), [Message("failed", "SyntaxError: invalid syntax")]])
def test_code_that_changes_during_a_search_ends_it(
    message: list[Message], params_with: Load, ends: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    code = Path("code.py")
    code.touch()
    monkeypatch.setattr(searches, "code_folder", lambda _package: code)
    engine: Any = ActedEngine(message)
    start = engine.start

    def edit_and_start(*arguments: Any, **options: Any) -> Any:
        code.write_text("other code", encoding="utf-8")
        return start(*arguments, **options)

    monkeypatch.setattr(engine, "start", edit_and_start)
    with pytest.raises(UserError, match=r"code\.py: changed while the search ran; finished trials are kept: run it"):
        searches.tune(engine, "convlstm", params_with({}), 1, 1)
    assert engine.closed
    assert ends == [("retried", 0)]


@pytest.mark.parametrize("flip", [None, "left_right"])
def test_study_with_flips_belongs_to_the_label_maps(flip: str | None, params_with: Load) -> None:
    engine: Any = ActedEngine(completed(0.5))
    searches.tune(engine, "convlstm", params_with({"training.augmentation.flip": flip}), 1, 1)
    assert (f"{DATASET_INFO} md5" in stored().user_attrs["definition"]) == bool(flip)


@pytest.mark.parametrize(("script", "killed"), [(completed(0.5, 0.4), 1), (LOST[1:], 0)])
def test_trial_that_another_machine_retried_is_given_up(
    script: Script, killed: int, params_with: Load, ends: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Any = ActedEngine(script, completed(0.3))
    wait = engine.wait

    def wait_and_sleep(timeout: float) -> list[tuple[Any, Message]]:
        if engine.running and len(engine.tasks) == 1:
            for trial in running(stored()):
                retry(stored(), trial.number)
        return list(wait(timeout))

    monkeypatch.setattr(engine, "wait", wait_and_sleep)
    searches.tune(engine, "convlstm", params_with({}), 1, 1)
    assert ends == [("completed", 1)]
    assert engine.killed == killed
    assert states() == ["FAIL", "COMPLETE"]
    assert stored().trials[0].params == stored().trials[1].params


def test_running_trials_send_heartbeats(params_with: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    engine: Any = ActedEngine([STARTED, None, *completed(0.5)[1:]])
    sent: list[tuple[list[int], int]] = []

    def record(_storage: object, _study: Study, trials: Iterable[Trial]) -> None:
        sent.append(([trial.number for trial in trials], len(engine.tasks)))

    monkeypatch.setattr(searches, "HEARTBEAT_SECONDS", 0)
    monkeypatch.setattr(studies, "send_heartbeats", record)
    searches.tune(engine, "convlstm", params_with({}), 1, 1)
    assert sent.count(([0], 0)) == len(COST), "each time that its cost was waited for"
    assert sent.count(([0], 1)) == 3, "each time that the trial itself was, but for the first, right after its cost"
