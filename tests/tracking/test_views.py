import json

import mlflow
import pytest

from motionbench.core.errors import UserError
from motionbench.tracking.store import open_store
from motionbench.tracking.views import prepare_views
from tests.tracking.conftest import Runs


def log_replicate(experiment_id: str, **params: str) -> None:
    client = mlflow.MlflowClient()
    run_id = client.create_run(experiment_id).info.run_id
    for key, value in params.items():
        client.log_param(run_id, key.replace("__", "."), value)


@pytest.mark.usefixtures("runs")
def test_the_view_shows_the_parameters_that_differ_between_replicates() -> None:
    experiment_id = open_store()
    for seed, filters in (("0", "5"), ("1", "5"), ("0", "8")):
        log_replicate(experiment_id, model="convlstm", seed=seed, convlstm__filters=filters, data__frames="20")
    log_replicate(experiment_id, model="cnn_lstm", seed="0", cnn_lstm__filters="4", data__frames="20")
    log_replicate(experiment_id, data__frames="30")  # of a stage
    urls = prepare_views("5001")
    page = f"http://127.0.0.1:5001/#/experiments/{experiment_id}/runs?workflowType=machine_learning"
    assert [*urls.values()] == [
        f"{page}&viewStateShareKey=replicates", f"{page}&viewStateShareKey=replicates&compareRunsMode=CHART",
    ]  # fmt: skip # short items
    tags = mlflow.MlflowClient().get_experiment(experiment_id).tags
    view = json.loads(tags["mlflow.sharedViewState.replicates"])
    state = json.loads(view["state"])
    params = [each for each in state["selectedColumns"] if each.startswith("params.")]
    assert params == ["params.`model`", "params.`seed`", "params.`fold`", "params.`convlstm.filters`"]
    assert len(mlflow.search_runs([experiment_id], state["searchFilter"])) == 4


def test_without_a_store_none_is_made(runs: Runs, working_directory: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{working_directory}/new.db")
    with pytest.raises(UserError, match=r"^no runs yet; to make some: make repro; .*: make mlflow-sync$"):
        prepare_views("5000")
    assert not runs()
