import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from motionbench.core.files import write_json
from motionbench.core.paths import TEST
from motionbench.execution.engine import EventCallback, local_engine, run_tasks
from motionbench.execution.runtime import importing_tensorflow
from motionbench.models.registry import ModelParams
from motionbench.params.loading import load_params
from tests.conftest import ROOT

CLIPS = np.random.default_rng(0).integers(0, 256, (9, 4, 16, 20, 1), dtype=np.uint8)


def evaluate(folder: Path, section: ModelParams, clips: NDArray[np.uint8], _on_event: EventCallback) -> Any:
    with importing_tensorflow():
        from motionbench.evaluation.inference import predict, time_inference, write_onnx
        from motionbench.execution.threads import fix_threads
        from motionbench.models.archive import save_model
        from motionbench.models.networks import build_model
    fix_threads(1)
    model = build_model("single_frame", section, clips.shape[1:], 4)
    # All weights zero but one bias: the first replicate takes everything for class 1, the second for class 2.
    model.set_weights([np.zeros(weight.shape) for weight in model.get_weights()])
    paths = [folder / "first.keras", folder / "second.keras"]
    for path, bias in zip(paths, ([0, 1, 0, 0], [0, 0, 1, 0]), strict=True):
        model.layers[-1].bias.assign(bias)
        save_model(model, path)
    first, second = (predict(path, clips, 1) for path in paths)
    os.chdir(folder)
    TEST.mkdir(parents=True)
    np.save(TEST / "clips.npy", clips)
    np.save(TEST / "labels.npy", np.zeros(len(clips), np.int64))
    write_json(TEST / "class_names.json", ["a"])
    costs = [time_inference(paths[0], None, 1, file := folder / "first.onnx", print)]
    content = write_onnx(paths[0], None, first, 1, print)
    assert isinstance(content, bytes), content
    file.write_bytes(content)
    costs.append(time_inference(paths[0], None, 1, file, print))
    paths[0].write_bytes(paths[1].read_bytes())
    rewritten = predict(paths[0], clips, 1)
    return first, second, rewritten, costs


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Any:
    section = load_params(ROOT / "params.yaml").model("single_frame")
    small = section.model_copy(update={"filters": (2, 2), "kernel_sizes": (3, 3)})
    folder = tmp_path_factory.mktemp("models")
    with local_engine() as engine:
        return run_tasks(engine, [partial(evaluate, folder, small, CLIPS)], 1)[0]


def test_predictions_are_those_worked_out_by_hand(evaluated: Any) -> None:
    first, second, rewritten, _ = evaluated
    e = np.e / (np.e + 3)
    assert first.dtype == np.float32
    assert first == pytest.approx(np.tile([(1 - e) / 3, e, (1 - e) / 3, (1 - e) / 3], (9, 1)), abs=1e-6)
    assert second.argmax(axis=1).tolist() == [2] * 9
    assert (rewritten == second).all()


def test_the_cost_is_a_median_between_its_quartiles(evaluated: Any) -> None:
    for cost in evaluated[3]:
        for median, (low, high) in (cost[1:3], cost[3:5]):
            assert 0 < low <= median <= high
        assert cost.flops == 17_600


def test_what_is_timed_is_what_predict_runs(evaluated: Any) -> None:
    without_file, with_file = evaluated[3]
    assert (without_file.runtime, without_file.latency_all_cores) == ("TensorFlow", None)
    assert with_file.runtime == "ONNX Runtime"
    assert with_file.latency_all_cores > 0
