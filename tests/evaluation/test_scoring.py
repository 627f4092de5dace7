from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from motionbench.data.splits import read_split
from motionbench.data.synthetic.frames import write_split
from motionbench.execution.engine import EventCallback, local_engine, run_tasks
from motionbench.execution.runtime import importing_tensorflow
from motionbench.params.schema import Params
from tests.conftest import SOURCE_RECORD, TINY, drawing

Load = Callable[[dict[str, Any]], Params]


def evaluate(folder: Path, params: Params, _on_event: EventCallback) -> Any:
    with importing_tensorflow():
        from motionbench.evaluation.scoring import answer, measure_cost
        from motionbench.execution.threads import fix_threads
        from motionbench.models.archive import save_model
        from motionbench.models.registry import build_model
    fix_threads(1)
    split = read_split(folder)
    model = build_model("cnn_lstm", params.model("cnn_lstm"), split.clips.shape[1:], len(split.class_names))
    # All weights zero but one bias: the first replicate takes everything for class 1, the second for class 2.
    model.set_weights([np.zeros(weight.shape) for weight in model.get_weights()])
    paths = [folder / "first.keras", folder / "second.keras"]
    for path, bias in zip(paths, ([0, 1, 0, 0], [0, 0, 1, 0]), strict=True):
        model.layers[-1].bias.assign(bias)
        save_model(model, path)
    clips_per_class = params.perturbations.clips_per_class
    conditions = [None, *params.perturbations.settings(SOURCE_RECORD)]
    first, second = (
        {each: answer(path, split, 1, each, clips_per_class, 0, SOURCE_RECORD) for each in conditions} for path in paths
    )
    cost = measure_cost(paths[0], split, 1)
    paths[0].write_bytes(paths[1].read_bytes())
    rewritten = answer(paths[0], split, 1, None, clips_per_class, 0, SOURCE_RECORD)
    return first, second, rewritten, cost


def test_answers_are_those_worked_out_by_hand(params_with: Load, tmp_path: Path) -> None:
    params = params_with(TINY)
    write_split(tmp_path, "test", drawing(params))
    with local_engine() as engine:
        [(first, answers, rewritten, cost)] = run_tasks(engine, [partial(evaluate, tmp_path, params)], 1)
    assert first[None]["predicted"] == [1] * 16
    assert answers[None]["predicted"] == rewritten["predicted"] == [2] * 16
    assert answers[None]["right"] == [False] * 8 + [True] * 4 + [False] * 4
    right = {condition: each["right"] for condition, each in answers.items() if condition}
    assert len(right) == 17
    # Of each class, the first two clips: perturbations.clips_per_class.
    assert right["pixel_noise", 0.1] == [False] * 4 + [True] * 2 + [False] * 2
    # Where up and down are swapped, what was ascending is class 2, descending.
    assert right["upside_down", 1] == [False] * 2 + [True] * 2 + [False] * 4
    for quartiles in (cost["latency_milliseconds"], cost["clips_per_second"]):
        assert len(quartiles) == 3
        assert 0 < quartiles[0] <= quartiles[1] <= quartiles[2]
    assert cost["flops"] == 76_360
