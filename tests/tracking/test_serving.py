from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from motionbench.core.files import file_md5
from motionbench.models.archive import save_model
from motionbench.models.cost import as_graph
from motionbench.params.schema import Params
from motionbench.tracking.model_registry import log_model
from motionbench.tracking.record import REGISTERED, ModelRecord
from motionbench.tracking.store import open_store
from tests.conftest import TINY
from tests.models.conftest import build_from


@pytest.mark.usefixtures("runs")
def test_served_answers_are_those_of_the_graph_that_is_timed(
    params_with: Callable[[dict[str, Any]], Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_from(params_with(TINY), (4, 16, 20, 1), "convlstm")
    save_model(model, path := Path("seed-0.keras"))
    names = ("a", "b", "c", "d")
    record = ModelRecord(
        name=REGISTERED, path=path, md5=file_md5(path), clip_shape=(4, 16, 20, 1), class_names=names, best=True
    )
    run_id = mlflow.MlflowClient().create_run(open_store()).info.run_id
    log_model(run_id, record, {}, Path(), {})
    served = mlflow.pyfunc.load_model(f"models:/{REGISTERED}/1")
    clips = np.random.default_rng(0).integers(0, 256, (3, 4, 16, 20, 1), np.uint8)
    expected = as_graph(model)(clips)
    np.testing.assert_allclose(served.predict(clips[:1]), expected[:1], atol=1e-6)
    monkeypatch.delattr(type(model.layers[0]), "call")  # A layer that is called from Python again would fail.
    np.testing.assert_array_equal(served.predict(clips).to_numpy(), expected)
