from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motionbench.core.errors import UserError
from motionbench.core.files import write_json
from motionbench.core.paths import DATASET_INFO, MODELS, TEST, ReplicateKey, part_path, replicate_path
from motionbench.data.folds import read_test
from motionbench.data.perturbations import chosen_numbers
from motionbench.data.splits import ClipRecord, write_split
from motionbench.data.synthetic.frames import draw_split
from motionbench.evaluation import held_out
from motionbench.evaluation.held_out import measure_costs, predict_held_out, trained_models
from motionbench.execution.engine import EventCallback, FileTask, local_engine, run_tasks
from motionbench.execution.runtime import importing_tensorflow
from motionbench.models.registry import MODEL_NAMES
from motionbench.params.schema import Params
from tests.conftest import DRAWN_DATASET, TINY, drawing

Load = Callable[[dict[str, Any]], Params]
KEYS = [ReplicateKey(seed, fold) for fold in range(3) for seed in (0, 1)]
MD5S = {"data/test": "1", "data/folds": "2"}


def save_constant(params: Params, shape: tuple[int, int, int, int], _on_event: EventCallback) -> None:
    """Save replicates each of which always predicts the same: seed + fold."""
    with importing_tensorflow():
        from motionbench.execution.threads import fix_threads
        from motionbench.models.archive import save_model
        from motionbench.models.networks import build_model
    fix_threads(1)
    for key in KEYS:
        model = build_model("single_frame", params.model("single_frame"), shape, 4)
        model.set_weights([np.zeros(weight.shape) for weight in model.get_weights()])
        model.layers[-1].bias.assign(np.eye(4)[key.seed + (key.fold or 0)])
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
def test_each_clip_is_predicted_by_the_replicates_that_have_not_seen_it(params_with: Load) -> None:
    params = params_with({**TINY, "perturbations.clips_per_class": 1, "perturbations.speed": [2.0]})
    for part in range(3):
        part_path(part).mkdir(parents=True)
        write_split(part_path(part), draw_split("test", drawing(params)))
        rows = [f"{number}.mp4,g{number % 5},4,1,4,20,16,False,False" for number in range(16)]
        text = "\n".join([",".join(ClipRecord.model_fields), *rows])
        (part_path(part) / "clips.csv").write_text(text, encoding="utf-8")
    for name in MODEL_NAMES:
        (MODELS / name).mkdir(parents=True)
    write_json(DATASET_INFO, {**DRAWN_DATASET.model_dump(), "folds": 3})
    with local_engine() as engine:
        _, *shape = read_test(0).clips.shape
        run_tasks(engine, [partial(save_constant, params, tuple(shape))], 1)
        elsewhere: Any = Elsewhere(engine)
        predictions = predict_held_out(elsewhere, params, MD5S)
        costs = measure_costs(elsewhere, params, predictions.models, Path("onnx"))
    # What is timed runs here, and predictions may be made elsewhere.
    assert all(isinstance(task, FileTask) for task in elsewhere.tasks)
    path = replicate_path(MODELS / "single_frame", KEYS[2])
    assert [path, part_path(1)] in [task.inputs for task in elsewhere.tasks]
    assert costs["single_frame"].latency_milliseconds > 0
    assert (costs["single_frame"].runtime, costs["single_frame"].latency_all_cores) == ("TensorFlow", None), "no file"

    assert (predictions.models, predictions.seeds, predictions.frames) == (["single_frame"], (0, 1), 4)
    assert predictions.labels.tolist() == np.repeat([0, 1, 2, 3], 4).tolist() * 3
    assert predictions.folds is not None
    assert predictions.folds.tolist() == np.repeat([0, 1, 2], 16).tolist()
    assert predictions.groups is not None
    assert predictions.groups[:6].tolist() == ["g0", "g1", "g2", "g3", "g4", "g0"]
    said = np.repeat([[0, 1, 2], [1, 2, 3]], 16, axis=1)
    assert (predictions.unchanged.predicted("single_frame") == said).all()
    assert [each.name for each in predictions.perturbed] == [
        name for name, _ in params.perturbations.settings(DRAWN_DATASET)
    ]
    for condition in predictions.perturbed:
        assert len(condition.clips) == 4
        spread = chosen_numbers(predictions.labels, predictions.groups, 1, params.perturbations.seed)
        assert condition.clips.tolist() == spread.tolist()
        assert (condition.predicted("single_frame") == said[:, condition.clips]).all()
    # Where up and down are swapped, what was ascending is class 2, descending.
    swapped = {condition.name: condition.labels for condition in predictions.perturbed}["upside_down"]
    assert swapped.tolist() == np.array([0, 2, 1, 3])[predictions.labels[predictions.perturbed[0].clips]].tolist()
    assert set(predictions.md5s) == {*MD5S, *(replicate_path(MODELS / "single_frame", key).as_posix() for key in KEYS)}


@pytest.fixture
def empty_project(working_directory: Path) -> None:
    """A working directory with the files that messages are made from."""
    (working_directory / "dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
    (working_directory / "params.yaml").write_text("{}\n", encoding="utf-8")


@pytest.mark.usefixtures("empty_project")
def test_predictions_that_are_not_numbers_are_refused_in_one_line(
    params_with: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = params_with(TINY)
    for folder in (TEST, DATASET_INFO.parent, *(MODELS / name for name in MODEL_NAMES)):
        folder.mkdir(parents=True)
    write_split(TEST, draw_split("test", drawing(params)))
    write_json(DATASET_INFO, DRAWN_DATASET.model_dump())
    (MODELS / "cnn_lstm/seed-1.keras").touch()
    right, wrong = np.full((2, 3, 4), 0.25, np.float32)
    wrong[2, 0] = np.nan
    # Only the last task, of seed 1, has another result.
    monkeypatch.setattr(held_out, "run_tasks", lambda _engine, tasks, _threads: [*[right] * (len(tasks) - 1), wrong])
    engine: Any = None
    with pytest.raises(
        UserError,
        match=r"^models/cnn_lstm/seed-1\.keras: its predictions of 1 of 3 clips are not numbers; train it again: "
        "dvc repro --single-item --force train_cnn_lstm$",
    ):
        predict_held_out(engine, params, MD5S)


@pytest.mark.usefixtures("empty_project")
def test_models_that_are_missing_are_named_with_what_trains_them() -> None:
    for name in MODEL_NAMES:
        with pytest.raises(UserError, match=f"^models/{name}: missing; train it: dvc repro train_{name}$"):
            trained_models()
        (MODELS / name).mkdir(parents=True)
    (MODELS / "cnn_lstm/seed-0.keras").touch()
    (MODELS / "convlstm/not_trained.txt").touch()
    assert trained_models() == ["cnn_lstm"]
