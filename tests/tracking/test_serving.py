import re
import tomllib
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pytest

from motionbench.core.errors import UserError
from motionbench.core.files import file_md5
from motionbench.models.archive import save_model
from motionbench.models.cost import as_graph
from motionbench.models.onnx_layers import to_onnx
from motionbench.models.onnx_runtime import read_metadata
from motionbench.params.schema import Params
from motionbench.tracking.model_registry import log_model
from motionbench.tracking.record import REGISTERED, ModelRecord
from motionbench.tracking.serving import check_clips
from motionbench.tracking.store import open_store
from tests.conftest import ROOT, TINY, run
from tests.models.conftest import build_from

CLIPS = np.random.default_rng(0).integers(0, 256, (3, 4, 16, 20, 1), np.uint8)


@pytest.fixture
def model(params_with: Callable[[dict[str, Any]], Params]) -> keras.Model:
    return build_from(params_with(TINY), (4, 16, 20, 1), "convlstm")


def log_champion(model: keras.Model, onnx: Path | None = None) -> Path:
    """Log a model as the first version of the champions; return the folder that MLflow makes of it."""
    save_model(model, path := Path("seed-0.keras"))
    described = {"clip_shape": (4, 16, 20, 1), "class_names": ("a", "b", "c", "d"), "onnx": onnx}
    record = ModelRecord(name=REGISTERED, path=path, md5=file_md5(path), best=True, **described)
    experiment_id = open_store()
    run_id = mlflow.MlflowClient().create_run(experiment_id).info.run_id
    log_model(run_id, record, {}, Path(), {"commit": "1234"})
    return Path(mlflow.artifacts.download_artifacts(f"models:/{REGISTERED}/1"))


@pytest.mark.usefixtures("runs")
def test_without_an_onnx_file_answers_are_those_of_the_graph(
    model: keras.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "tensorflow==" in (log_champion(model) / "requirements.txt").read_text(encoding="utf-8")
    served = mlflow.pyfunc.load_model(f"models:/{REGISTERED}/1")
    expected = as_graph(model)(CLIPS)
    np.testing.assert_allclose(served.predict(CLIPS[:1]), expected[:1], atol=1e-6)
    monkeypatch.delattr(type(model.layers[0]), "call")  # A layer that is called from Python again would fail.
    np.testing.assert_array_equal(served.predict(CLIPS).to_numpy(), expected)


@pytest.mark.usefixtures("runs")
def test_with_an_onnx_file_no_package_of_training_is_needed(model: keras.Model) -> None:
    Path("model.onnx").write_bytes(to_onnx(model))
    folder = log_champion(model, Path("model.onnx"))
    assert read_metadata((folder / "data/seed-0.onnx").read_bytes()) == {"commit": "1234"}
    lines = (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line.partition("==")[0] for line in lines] == ["mlflow", "numpy", "onnxruntime", "pandas"]
    np.save("clips.npy", CLIPS)
    program = (
        "import sys, mlflow, numpy\n"
        "for name in ('av', 'h5py', 'joblib', 'keras', 'onnx', 'pathspec', 'ruamel', 'tensorflow'):\n"
        "    sys.modules[name] = None\n"
        f"served = mlflow.pyfunc.load_model({str(folder)!r})\n"
        "numpy.save('answers.npy', served.predict(numpy.load('clips.npy')))\n"
        "try:\n"
        "    served.get_raw_model()\n"
        "except Exception as error:\n"
        "    print(error)\n"
    )
    done = run(Path(), "python", "-c", program)
    assert done.returncode == 0, done.stderr
    said = "the Keras model needs keras, which is not installed; install what it needs: pip install keras "
    assert done.stdout.startswith(said)
    np.testing.assert_allclose(np.load("answers.npy"), model(CLIPS), rtol=0, atol=1e-6)


def test_clips_may_come_as_bytes_in_base64() -> None:
    texts = [b64encode(clip.tobytes()).decode() for clip in CLIPS]
    np.testing.assert_array_equal(check_clips(texts, CLIPS.shape[1:]), CLIPS)
    for wrong in (texts[0][:-4], f"{texts[0][:-1]}*", "", "é"):
        with pytest.raises(
            UserError, match=r"^a text that is not the 1280 bytes of a clip in base64; send whole numbers"
        ):
            check_clips([texts[0], wrong], CLIPS.shape[1:])


@pytest.mark.slow
@pytest.mark.usefixtures("runs")
def test_without_an_onnx_file_the_requirements_are_enough(model: keras.Model) -> None:
    folder = log_champion(model)
    required = (folder / "requirements.txt").read_text(encoding="utf-8")
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    others = {re.split(r"[^\w.-]", each)[0] for each in declared} - set(re.findall(r"[\w.-]+(?===)", required))
    program = (
        "import sys, mlflow, keras\n"
        f"for name in {others}:\n"
        "    sys.modules.setdefault(name, None)  # cannot be imported, unless Keras or MLflow need it\n"
        f"served = mlflow.pyfunc.load_model({str(folder)!r})\n"
        "assert served.get_raw_model().predict(__import__('numpy').zeros((1, 4, 16, 20, 1))).shape == (1, 4)\n"
    )
    done = run(Path(), "python", "-c", program)
    assert done.returncode == 0, done.stderr
