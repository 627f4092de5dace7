from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from motionbench.core.files import write_json
from motionbench.core.paths import MODELS, SOURCE, TEST, ReplicateKey, replicate_path
from motionbench.data.splits import Split, join, read_test
from motionbench.data.synthetic.frames import write_split
from motionbench.evaluation.held_out import held_out_clips
from motionbench.evaluation.results import Answers
from motionbench.evaluation.testing import evaluate_models, score
from motionbench.execution.engine import EventCallback, FileTask, local_engine, run_tasks
from motionbench.execution.runtime import importing_tensorflow
from motionbench.params.schema import Params
from tests.conftest import SOURCE_RECORD, TINY, drawing
from tests.evaluation.made_up import training

NAMES = ("still", "up", "down")


def part(*labels: int) -> Split:
    return Split(np.zeros((len(labels), 2, 4, 4, 1), np.uint8), np.array(labels), NAMES)


NOISE = [("pixel_noise", 0.1)]


def answers(*predicted: int, right: list[bool]) -> list[Answers]:
    """Answers to clips as they are, and to noisy ones."""
    return [
        Answers(predicted=list(predicted), right=[False] * len(predicted)),
        Answers(predicted=[0] * len(right), right=right),
    ]


def test_scores_are_those_worked_out_by_hand() -> None:
    scores = score([answers(0, 0, 1, 1, right=[True])], NOISE, part(0, 1, 1, 0))
    assert (scores["correct"], scores["clips"], scores["accuracy"]) == (2, 4, 0.5)
    assert scores["confusion"] == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert scores["classes"]["up"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert scores["classes"]["down"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0}


def test_answers_to_the_parts_of_folds_are_joined() -> None:
    test = join([part(0, 1), part(2), part(1, 1)])
    parts = [answers(0, 1, right=[True, False]), answers(0, right=[False]), answers(1, 2, right=[True])]
    scores = score(parts, NOISE, test)
    assert scores["predicted"] == [0, 1, 0, 1, 2]
    assert (scores["correct"], scores["clips"]) == (3, 5)
    assert scores["classes"]["up"]["recall"] == pytest.approx(2 / 3)
    [noisy] = scores["perturbed"]
    assert (noisy["perturbation"], noisy["level"]) == NOISE[0]
    assert noisy["right"] == [True, False, False, True]


def save_untrained(params: Params, shape: tuple[int, int, int, int], _on_event: EventCallback) -> None:
    with importing_tensorflow():
        from motionbench.execution.threads import fix_threads
        from motionbench.models.archive import save_model
        from motionbench.models.registry import build_model
    fix_threads(1)
    for key in map(ReplicateKey, params.training.seeds):
        model = build_model("single_frame", params.model("single_frame"), shape, 4)
        save_model(model, replicate_path(MODELS / "single_frame", key))


class Elsewhere:
    """An engine that is not known as this machine's, although it is; it keeps what it is to run."""

    retries = 0

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.tasks: list[Any] = []

    def start(self, task: Any, **options: Any) -> Any:
        self.tasks.append(task)
        return self.engine.start(task, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)


@pytest.mark.slow
@pytest.mark.usefixtures("working_directory")
def test_answers_may_be_given_elsewhere_and_what_is_timed_runs_here(
    params_with: Callable[[dict[str, Any]], Params],
) -> None:
    params = params_with(TINY)
    for folder in (TEST, SOURCE.parent, MODELS / "single_frame"):
        folder.mkdir(parents=True)
    write_split(TEST, "test", drawing(params))
    write_json(SOURCE, SOURCE_RECORD.model_dump())
    tests = [read_test(None)]
    with local_engine() as engine:
        _, *shape = tests[0].clips.shape
        run_tasks(engine, [partial(save_untrained, params, tuple(shape))], 1)
        elsewhere: Any = Elsewhere(engine)
        trained = {"single_frame": training([0.1], [0.1])}
        models = evaluate_models(elsewhere, trained, params, tests, held_out_clips(tests, None, 2))
    assert all(isinstance(task, FileTask) for task in elsewhere.tasks)
    paths = [replicate_path(MODELS / "single_frame", ReplicateKey(seed)) for seed in (0, 1)]
    conditions = 1 + len(params.perturbations.settings(SOURCE_RECORD))
    assert [task.inputs for task in elsewhere.tasks] == [[path, TEST] for path in paths for _ in range(conditions)]
    assert models["single_frame"]["cost"]["latency_milliseconds"][0] > 0
