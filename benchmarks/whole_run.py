"""A whole `dvc repro` in a fresh clone: where its time goes, and how it compares with the reference notebook's recipe.

python -m benchmarks.whole_run writes benchmarks/WHOLE_RUN.md. Every time in it was logged by the run itself, in its
MLflow store.
"""

import os
import sys
from pathlib import Path

import mlflow
import pandas as pd
import psutil
from mlflow.entities import Run

from benchmarks.common import HERE, machine, markdown_table, reproduce, run_in_new_process, temporary_clone, write_page
from benchmarks.notebook_recipe import run_notebook
from motionbench.core.dvc_files import read_stages
from motionbench.core.files import read_json
from motionbench.core.paths import DVC_YAML, MLFLOW_DATABASE, PREDICTIONS, training_paths

PARTS = (
    "start of Python, imports, parameters, store",
    "start of the workers, imports of TensorFlow",
    "first call",
    "epochs",
    "evaluation",
    "drawing clips and pictures, saving, logging",
)
TRAINING = ["first call", "epochs", "evaluation"]


def main() -> None:
    """Run both, and write where the time went."""
    with temporary_clone() as clone:
        seconds = reproduce(clone)
        parts = read_parts(clone)
        nothing_to_do = reproduce(clone)
    notebook = run_in_new_process(run_notebook)["seconds"]
    write_page(HERE / "WHOLE_RUN.md", as_markdown(seconds, parts, nothing_to_do, notebook))


def read_parts(clone: Path) -> pd.DataFrame:
    """Return the seconds of each part (rows) of each stage (columns)."""
    client = mlflow.MlflowClient(f"sqlite:///{clone / MLFLOW_DATABASE}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, order_by=["attributes.start_time"])
    children: dict[str, list[Run]] = {}
    for run in runs:
        children.setdefault(run.data.tags.get("mlflow.parentRunId", ""), []).append(run)
    declared = read_stages(clone / DVC_YAML)
    parts = {}
    for stage in children[""]:
        name = stage.data.tags["dvc.stage"]
        process = _process_start(stage.data.tags["process.started"])
        begin, end = stage.info.start_time / 1000, stage.info.end_time / 1000
        models = declared[name].model_names()
        if models and stage.info.run_id in children:  # A model that is not enabled has no replicates.
            timings = [read_json(clone / training_paths(model)[2]) for model in models]
            epochs = [
                metric.timestamp / 1000
                for run in children[stage.info.run_id]
                for metric in client.get_metric_history(run.info.run_id, "loss")
            ]
            fit = min(epochs) - timings[0]["first_epoch_seconds"]
            first_call = sum(timing["first_epoch_seconds"] - timing["epoch_seconds"] for timing in timings)
            times = [process, begin, fit, fit + first_call, max(epochs), max(epochs), end]
        elif name == "evaluate":
            # The stage writes this file first, after all measurements.
            measured = (clone / PREDICTIONS).stat().st_mtime
            times = [process, *[begin] * 4, measured, end]
        else:
            times = [process, *[begin] * 5, end]
        parts[name] = pd.Series(times).diff().iloc[1:].to_list()
    return pd.DataFrame(parts, index=pd.Index(PARTS))


def _process_start(tag: str) -> float:
    """Return when a process of this machine started, in seconds since 1970, from the tag of its run."""
    if sys.platform == "linux":
        return psutil.boot_time() + int(tag) / os.sysconf("SC_CLK_TCK")
    return float(tag)


def as_markdown(seconds: float, parts: pd.DataFrame, nothing_to_do: float, notebook: float) -> list[str]:
    """Return the page with a row per part and a column per stage.

    Args:
        seconds: of the whole run.
        parts: as `read_parts` returns them.
        nothing_to_do: seconds of a second run.
        notebook: seconds of the reference notebook's recipe.
    """
    table = parts.assign(all=parts.sum(axis="columns"))
    table.loc["DVC, ends of processes"] = {"all": seconds - table["all"].sum()}
    table.loc["all"] = table.sum()
    cells = table.map(lambda value: f"{value:.1f}" if value else "").replace("nan", "")
    training = table.loc[TRAINING, "all"].sum() / seconds
    return [
        "# A whole run",
        f"By `make bench` on {machine()}: `dvc repro` in a fresh clone, with the packages installed, took "
        f"{seconds:.0f} s from its start to the report. The reference notebook's recipe with stock layers, which "
        f"trains each model once and compares nothing, took {notebook:.0f} s directly afterwards: "
        f"**{notebook / seconds:.1f} times as long**. A `dvc repro` with nothing to do takes {nothing_to_do:.1f} s.",
        markdown_table([{"seconds": str(part)} | dict(row) for part, row in cells.iterrows()]),
        f"Training and evaluation are {training:.0%} of it, everything else {1 - training:.0%}. The first call is the "
        "time of the first epoch beyond that of a median epoch. Evaluation includes the start of its workers.",
    ]


if __name__ == "__main__":
    main()
