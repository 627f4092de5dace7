"""The leak audit of the example clips: it fires on the planted leak, and not without it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from motionbench.comparison.audit import audit
from motionbench.comparison.sentences import compare_with_controls
from motionbench.core.paths import ReplicateKey
from motionbench.data.examples import write_example_clips
from motionbench.data.folds import read_test
from motionbench.data.splits import write_dataset
from motionbench.evaluation.inference import predict
from motionbench.execution.engine import EventCallback, local_engine, run_tasks
from motionbench.params.schema import Params
from motionbench.training.replicates import train_replicate
from pipeline.generate import make_dataset

pytestmark = pytest.mark.slow  # it trains for real

SETTINGS = {
    "data.source": "folder",
    "data.frames": 12,
    "data.height": 24,
    "data.width": 32,
    "folder.group": "(recorder-[0-9]+)",
    "training.seeds": [0],
    "training.patience": 10,
    "cnn_lstm.kernel_sizes": [5, 3, 3],
    "convlstm.kernel_sizes": [5, 3, 3],
    "cnn3d.enabled": True,
    "single_frame.kernel_sizes": [5, 3, 3],
    "bag_of_frames.kernel_sizes": [5, 3, 3],
    "bag_of_frames.learning_rate": 0.003,
}
MODELS = ("bag_of_frames", "cnn3d", "single_frame")  # one contender is enough; the slowest first


def train(name: str, params: Params, on_event: EventCallback) -> None:
    [seed] = params.training.seeds
    train_replicate(name, ReplicateKey(seed), params, Path(f"{name}.keras"), "", lambda: True, on_event)


def classify(name: str, _on_event: EventCallback) -> NDArray[np.float32]:
    return predict(Path(f"{name}.keras"), read_test(None).clips, 1)


@pytest.mark.parametrize("leak", [False, True])
def test_it_fires_on_the_planted_leak_and_not_without_it(
    leak: bool, params_with: Callable[[dict[str, Any]], Params], working_directory: Path
) -> None:
    params = params_with(SETTINGS)
    write_example_clips(working_directory / "data/clips", leak=leak)
    dataset = make_dataset(params)
    write_dataset(dataset)
    with local_engine() as engine:
        run_tasks(engine, [partial(train, name, params) for name in MODELS], 1)
    # In new processes, as in a stage of its own: TensorFlow's threads are those of the first task of a process.
    with local_engine() as engine:
        predictions = run_tasks(engine, [partial(classify, name) for name in MODELS], 1)
    labels = read_test(None).labels
    right = {name: (each.argmax(axis=1) == labels)[np.newaxis] for name, each in zip(MODELS, predictions, strict=True)}
    # Clip by clip: three recorders are too few to show anything over groups.
    controls = compare_with_controls(right, groups=None, margin=0.02)
    findings = {finding.check: finding.fires for finding in audit(controls, right, dataset.info)}
    assert findings == {
        "single_frame": leak,
        "bag_of_frames": leak,
        "metadata": False,
        "padding": False,
        "duplicates": False,
        "groups": False,
        "copies": False,
    }
