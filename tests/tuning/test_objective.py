"""A trial in a process of its own, trained for real."""

from functools import partial
from typing import Any

import joblib
import numpy as np
import pytest

from motionbench.core.files import write_json
from motionbench.core.paths import DATASET_INFO, TRAIN, VALIDATION
from motionbench.data.splits import write_split
from motionbench.data.synthetic.frames import draw_split
from motionbench.execution.engine import local_engine, run_tasks
from motionbench.tuning.objective import measure_cost, run_trial
from tests.conftest import DRAWN_DATASET, TINY, drawing
from tests.tuning.studies import Load


@pytest.mark.slow
@pytest.mark.usefixtures("working_directory")
def test_trials_train_as_the_section_training_says(params_with: Load) -> None:
    for folder in (TRAIN, VALIDATION):
        folder.mkdir(parents=True)
        write_split(folder, draw_split(folder.name, drawing(params_with(TINY))))
        for array in ("clips", "labels"):  # of the last class fewer than of the others
            np.save(folder / f"{array}.npy", np.load(folder / f"{array}.npy")[:-2])
    DATASET_INFO.parent.mkdir()
    write_json(DATASET_INFO, DRAWN_DATASET.model_dump())
    changes: list[dict[str, Any]] = [{}, {"training.augmentation.crop": 0.5}, {"training.class_weights": "balanced"}]
    whole = [params_with(TINY | each) for each in changes]
    with local_engine() as engine:
        tasks = [partial(run_trial, "cnn_lstm", each.model("cnn_lstm"), each.training, [3]) for each in whole]
        losses = [trial["validation_loss"] for trial in run_tasks(engine, tasks, joblib.cpu_count())]
        assert len(set(losses)) == 3
        sections = [params_with(TINY | {"cnn_lstm.filters": [2, number]}).model("cnn_lstm") for number in (2, 3)]
        costs = [partial(measure_cost, "cnn_lstm", section, whole[0].training) for section in sections]
        small, large = run_tasks(engine, costs, joblib.cpu_count())
    assert all(small[key] < large[key] for key in ("parameters", "flops"))
    assert small["latency_milliseconds"] > 0
