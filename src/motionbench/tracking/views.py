"""Views of MLflow's list of runs that are prepared: a table and a chart of all replicates.

MLflow keeps a view as JSON in a tag of the experiment, names it under Views, and opens it by its key in an address.
"""

import json
from collections import defaultdict
from typing import Any

import mlflow
from mlflow.entities import Run

from motionbench.core.errors import UserError
from motionbench.tracking import address, store
from motionbench.tracking.errors import store_errors

REPLICATES = "params.seed != ''"
METRICS = ("best_validation_loss", "test_accuracy", "test_accuracy_low", "test_accuracy_high", "latency_milliseconds")
ALWAYS = ("model", "seed", "fold")  # parameters
MOST_PARAMS = 12  # more columns than a screen shows
WIDTH = 100  # pixels
MOST_RUNS = 1000  # the newest
LAYOUT = {
    "runsHiddenMode": "SHOW_ALL", "autoRefreshEnabled": True, "hideEmptyCharts": True, "groupBy": None,
    "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
}  # fmt: skip # what belongs together on one line
SECTION = {"uuid": "replicates", "name": " all replicates", "display": True, "isReordered": False, "isGenerated": False}
CHARTS: list[dict[str, Any]] = [
    {"type": "LINE", "metricKey": "validation_loss"},
    {"type": "LINE", "metricKey": "validation_accuracy"},
    {"type": "BAR", "metricKey": "test_accuracy"},
    {
        "type": "SCATTER",
        "xaxis": {"key": "latency_milliseconds", "type": "METRIC"}, "yaxis": {"key": "test_accuracy", "type": "METRIC"},
    },
]  # fmt: skip # a chart on a line where it fits


def prepare_views(port: str) -> dict[str, str]:
    """Write the views anew, with the parameters that differ now; return the URL of each by what it is.

    Args:
        port: of `make ui`.

    Raises:
        UserError: if there is no store, or it fails.
    """
    file = address.sqlite_file(address.store_uri())
    if file and not file.exists():  # MLflow's server creates it now: two at a time would corrupt it.
        raise UserError("no runs yet; to make some: make repro; to log those of the files here: make mlflow-sync")
    with store_errors():
        return _write_views(store.open_store(), address.pages_url(port))


def _write_views(experiment_id: str, pages: str) -> dict[str, str]:
    runs = mlflow.search_runs([experiment_id], REPLICATES, max_results=MOST_RUNS, output_format="list")
    columns = [
        "attributes.`User`",
        *(f"params.`{name}`" for name in (*ALWAYS, *differing_params(runs))),
        *(f"metrics.`{name}`" for name in METRICS),
    ]
    charts = [
        {**chart, "uuid": f"replicates-{number}", "metricSectionId": SECTION["uuid"], "deleted": False,
         "isGenerated": False, "runsCountToCompare": 100}
        for number, chart in enumerate(CHARTS)
    ]  # fmt: skip # what belongs together on one line
    state = {
        **LAYOUT, "searchFilter": REPLICATES, "orderByKey": "metrics.`test_accuracy`", "orderByAsc": False,
        "startTime": "ALL", "lifecycleFilter": "Active", "modelVersionFilter": "All Runs", "datasetsFilter": [],
        "selectedColumns": columns, "columnOrder": columns, "columnWidths": dict.fromkeys(columns, WIDTH),
        "compareRunCharts": charts, "compareRunSections": [SECTION],
    }  # fmt: skip # what belongs together on one line
    view = {"name": "All replicates", "createdAt": 0, "state": json.dumps(state)}
    mlflow.MlflowClient().set_experiment_tag(experiment_id, "mlflow.sharedViewState.replicates", json.dumps(view))
    url = f"{pages}/#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey=replicates"
    return {"all replicates": url, "as a chart": f"{url}&compareRunsMode=CHART"}


def differing_params(runs: list[Run]) -> list[str]:
    """Return the parameters that have several values among the runs, those of the most values first."""
    values = defaultdict(set)
    for run in runs:
        for key, value in run.data.params.items():
            values[key].add(value)
    names = [key for key, found in values.items() if len(found) > 1 and key not in ALWAYS]
    return sorted(names, key=lambda key: (-len(values[key]), key))[:MOST_PARAMS]
