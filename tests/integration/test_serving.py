"""Logged models as others open them: by Keras, by pyfunc, and over HTTP."""

import re
import sys
from ast import literal_eval
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import requests

from motionbench.core.files import read_json
from motionbench.core.paths import COMPARISON_TIMING
from motionbench.evaluation.predictions import read_predictions
from tests.conftest import run
from tests.tracking.servers import Server

pytestmark = pytest.mark.slow  # they use models that were trained


def test_a_fresh_process_opens_models_by_keras_and_pyfunc(reproduced: Path, tmp_path: Path) -> None:
    program = (
        "import mlflow, numpy\n"
        f"mlflow.set_tracking_uri('sqlite:///{reproduced}/mlflow.db')\n"
        f"clips = numpy.load({str(reproduced / 'data/test/clips.npy')!r})\n"
        "for name in ('convlstm', 'cnn_lstm'):\n"
        "    served = mlflow.pyfunc.load_model(f'models:/{name}/1')\n"
        "    raw = served.get_raw_model()\n"
        "    again = mlflow.keras.load_model(f'models:/{name}/1')\n"
        "    answers = served.predict(clips)\n"
        "    print(list(answers.columns), len(answers), served.metadata.metadata['clip_shape'])\n"
        "    before = raw.predict(clips, verbose=0)\n"
        "    assert numpy.allclose(before, answers, atol=1e-6)\n"
        "    assert (again.predict(clips, verbose=0) == before).all()\n"
        "    again.compile('sgd', 'sparse_categorical_crossentropy')\n"
        "    again.fit(clips, numpy.zeros(len(clips)), verbose=0)\n"
        "    assert not (again.predict(clips, verbose=0) == before).all()\n"
    )
    done = run(tmp_path, "python", "-c", program)
    assert done.returncode == 0, done.stderr
    assert done.stdout == 2 * "['constant', 'ascending', 'descending', 'sine'] 16 [4, 16, 20, 1]\n"


def test_keras_opens_a_logged_model_once_its_layers_are_imported(reproduced: Path, tmp_path: Path) -> None:
    program = (
        "import mlflow, motionbench.models.layers\n"
        f"mlflow.set_tracking_uri('sqlite:///{reproduced}/mlflow.db')\n"
        "print(mlflow.keras.load_model('models:/convlstm/1').input_shape)\n"
    )
    done = run(tmp_path, "python", "-c", program, PYTHONPATH=str(reproduced / "src"))
    assert done.stdout == "(None, 4, 16, 20, 1)\n", done.stderr


@pytest.fixture(scope="module")
def server(reproduced: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The champion, served over HTTP."""
    # Another backend of Keras, as a user's other work may have set it, is not used.
    environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{reproduced}/mlflow.db", "KERAS_BACKEND": "jax"}
    command = ["models", "serve", "-m", "models:/motionbench@champion", "--env-manager", "local"]
    with Server(tmp_path_factory.mktemp("serving"), *command, **environment) as started:
        yield started


def ask(server: Server, clips: Any) -> tuple[int, Any]:
    """Send clips; return status and answer."""
    answer = requests.post(f"{server.uri}/invocations", json={"inputs": clips}, timeout=600)
    return answer.status_code, answer.json()


def test_a_served_model_says_what_it_is_when_it_is_loaded(server: Server, reproduced: Path) -> None:
    head = run(reproduced, "git", "rev-parse", "HEAD").stdout[:8]
    [line] = [each for each in server.log.read_text(encoding="utf-8").splitlines() if "mlflow.motionbench" in each]
    assert re.search(
        r"INFO mlflow\.motionbench: \w+; trained on synthetic clips: constant, ascending, descending, sine; "
        rf"logged at commit {head}; 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC$",
        line,
    )


def test_a_served_model_names_the_classes(server: Server, reproduced: Path) -> None:
    clips = np.load(reproduced / "data/test/clips.npy")[:3]
    status, answer = ask(server, clips.tolist())
    assert status == 200, answer
    assert [list(each) for each in answer["predictions"]] == [["constant", "ascending", "descending", "sine"]] * 3
    for each in answer["predictions"]:
        assert sum(each.values()) == pytest.approx(1, abs=1e-5)
    assert ask(server, clips.astype(float).tolist()) == (status, answer), "whole floats mean the same"
    assert ask(server, [b64encode(clip.tobytes()).decode() for clip in clips]) == (status, answer)


def test_the_champion_answers_in_the_shell_as_it_is_served(server: Server, reproduced: Path, tmp_path: Path) -> None:
    clips = np.load(reproduced / "data/train/clips.npy")[:1]
    np.savez(tmp_path / "clip.npz", clips[0])
    done = run(reproduced, "python", "-m", "pipeline.predict", str(tmp_path / "clip.npz"))
    assert done.returncode == 0, done.stderr
    shown = {name: float(value) for name, value in re.findall(r"(\w+) +│ (\d\.\d+)", done.stdout)}
    _, answer = ask(server, clips.tolist())
    assert answer["predictions"] == [pytest.approx(shown, abs=1e-4)]


@pytest.mark.parametrize("name", ["", "frame_differences"])
def test_an_exported_model_answers_with_onnxruntime_and_numpy_alone(
    name: str, copy_of_reproduced: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run(copy_of_reproduced, "python", "-m", "pipeline.export", name)
    assert done.returncode == 0, done.stderr
    folder = copy_of_reproduced / done.stdout.partition(": model.onnx")[0]
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card.startswith(f"# {folder.name}\n")
    assert "Accuracy" in card
    clips, example = str(copy_of_reproduced / "data/test/clips.npy"), str(folder / "example.py")
    program = (
        "import runpy, sys\n"
        "sys.modules |= dict.fromkeys(['keras', 'mlflow', 'motionbench', 'onnx', 'tensorflow'])  # cannot be imported\n"
        f"sys.argv = ['', {clips!r}]\n"
        f"runpy.run_path({example!r})\n"
    )
    done = run(tmp_path, "python", "-c", program)
    assert done.returncode == 0, done.stderr
    answers = pd.DataFrame(map(literal_eval, done.stdout.splitlines()))
    monkeypatch.chdir(copy_of_reproduced)
    predictions = read_predictions()
    assert tuple(answers) == predictions.class_names
    number = predictions.seeds.index(int(re.findall(r"seed-(\d)\.keras", card)[0]))
    np.testing.assert_allclose(answers, predictions.unchanged.probabilities[folder.name][number], atol=1e-4)


def test_a_server_answers_as_evaluate_did_without_tensorflow(
    server: Server, reproduced: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, answer = ask(server, np.load(reproduced / "data/test/clips.npy").tolist())
    monkeypatch.chdir(reproduced)
    np.testing.assert_allclose(pd.DataFrame(answer["predictions"]), predicted_by_the_champion(), atol=1e-5)
    if sys.platform == "linux":
        parent = psutil.Process(server.process.pid)
        loaded = [each.path for one in (parent, *parent.children(recursive=True)) for each in one.memory_maps()]
        assert any("onnxruntime" in path for path in loaded)
        assert not any("tensorflow" in path for path in loaded)


def test_a_champion_of_before_onnx_files_answers_with_tensorflow(
    copy_of_reproduced: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = list(copy_of_reproduced.glob("mlruns/models/*/artifacts/data/*.onnx"))
    assert files
    for file in files:
        file.unlink()
    monkeypatch.chdir(copy_of_reproduced)
    np.savez(tmp_path / "clip.npz", np.load("data/test/clips.npy")[0])
    done = run(copy_of_reproduced, "python", "-m", "pipeline.predict", str(tmp_path / "clip.npz"))
    assert done.returncode == 0, done.stderr
    shown = {name: float(value) for name, value in re.findall(r"(\w+) +│ (\d\.\d+)", done.stdout)}
    expected = dict(zip(read_predictions().class_names, predicted_by_the_champion()[0].tolist(), strict=True))
    assert shown == pytest.approx(expected, abs=1e-4)


def predicted_by_the_champion() -> np.ndarray:
    """Return what evaluate wrote of the test clips, in this folder, shape (clips, classes)."""
    champion, predictions = Path(read_json(COMPARISON_TIMING)["champion"]), read_predictions()
    number = predictions.seeds.index(int(champion.stem.removeprefix("seed-")))
    probabilities: np.ndarray = predictions.unchanged.probabilities[champion.parent.name][number]
    return probabilities


CLIPS = np.full((2, 4, 16, 20, 1), 200)


@pytest.mark.parametrize(
    ("clips", "reason"),
    [
        (CLIPS / 255, "floats from 0 to 1"),
        (CLIPS + 0.5, "values that are not whole or outside 0 to 255"),
        (CLIPS + 100, "values that are not whole or outside 0 to 255"),
        (CLIPS - 300, "values that are not whole or outside 0 to 255"),
        (CLIPS[0], "an array of shape (4, 16, 20, 1)"),
        (CLIPS[..., 0], "an array of shape (2, 4, 16, 20)"),
        (CLIPS.repeat(3, axis=-1), "an array of shape (2, 4, 16, 20, 3)"),
        (CLIPS[:, :3], "an array of shape (2, 3, 16, 20, 1)"),
        (CLIPS[:0], "an array of shape (0,)"),
        (np.full(CLIPS.shape, "a"), "values of type <U1"),
    ],
)
def test_a_served_model_refuses_in_one_line_what_it_cannot_mean(clips: np.ndarray, reason: str, server: Server) -> None:
    expected = "send whole numbers from 0 to 255 of shape (clips, 4, 16, 20, 1)"
    status, answer = ask(server, clips.tolist())
    assert (status, answer) == (400, {"error_code": "INVALID_PARAMETER_VALUE", "message": f"{reason}; {expected}"})
