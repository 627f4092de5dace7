"""A whole `dvc repro` in a fresh clone: where its time goes, and how it compares with the source's recipe.

python -m benchmarks.whole_run writes benchmarks/WHOLE_RUN.md. Every moment in it was noted by the run itself, in its
MLflow store.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import joblib
import mlflow
import psutil
from mlflow.entities import Run

import pipeline  # noqa: F401 # puts src/ on the path, as for the stages
from benchmarks.compare_layers import processor
from motionbench.core.files import read_json
from motionbench.models.registry import CONTROLS

HERE = Path(__file__).parent
PARTS = (
    "start of Python, imports, parameters, store",
    "start of the workers, imports of TensorFlow",
    "first call",
    "epochs",
    "evaluation",
    "drawing clips and pictures, saving, logging",
)
TRAINING = ("first call", "epochs", "evaluation")


def main() -> None:
    """Run both, and write the account."""
    with TemporaryDirectory() as folder:
        clone = Path(folder, "clone")
        subprocess.run(["git", "clone", "--quiet", str(HERE.parent), str(clone)], check=True)
        started = time.time()
        subprocess.run(["dvc", "repro"], cwd=clone, check=True)
        seconds = time.time() - started
        account = _account(clone)
        began = time.perf_counter()
        subprocess.run(["dvc", "repro"], cwd=clone, check=True, stdout=subprocess.DEVNULL)
        nothing_to_do = time.perf_counter() - began
    done = subprocess.run([sys.executable, "-m", "benchmarks.source_recipe"], stdout=subprocess.PIPE, check=True)
    text = _as_markdown(seconds, account, nothing_to_do, json.loads(done.stdout))
    (HERE / "WHOLE_RUN.md").write_text(text, encoding="utf-8")
    print(text)


def _account(clone: Path) -> dict[str, dict[str, float]]:
    """Return the seconds of each part of each stage."""
    client = mlflow.MlflowClient(f"sqlite:///{clone / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, order_by=["attributes.start_time"])
    children: dict[str, list[Run]] = {}
    for run in runs:
        children.setdefault(run.data.tags.get("mlflow.parentRunId", ""), []).append(run)
    account = {}
    for stage in children[""]:
        name = stage.data.tags["dvc.stage"]
        process = _process_start(stage.data.tags["process.started"])
        begin, end = stage.info.start_time, stage.info.end_time
        if name.startswith("train_"):
            models = CONTROLS if name == "train_controls" else [name.removeprefix("train_")]
            timings = [read_json(clone / f"metrics/timing/{model}.json") for model in models]
            epochs = [
                metric.timestamp / 1000
                for run in children[stage.info.run_id]
                for metric in client.get_metric_history(run.info.run_id, "loss")
            ]
            fit = min(epochs) - timings[0]["first_epoch_seconds"]
            first_call = sum(timing["first_epoch_seconds"] - timing["epoch_seconds"] for timing in timings)
            moments = [process, begin / 1000, fit, fit + first_call, max(epochs), max(epochs), end / 1000]
        elif name == "compare":
            # The first file that it writes, once all is measured.
            measured = (clone / "metrics/comparison/scores.json").stat().st_mtime
            moments = [process, *[begin / 1000] * 4, measured, end / 1000]
        else:
            moments = [process, *[begin / 1000] * 5, end / 1000]
        account[name] = {part: moments[i + 1] - moments[i] for i, part in enumerate(PARTS)}
    return account


def _process_start(tag: str) -> float:
    """Return when a process of this machine started, in seconds since 1970, from what its run says of it."""
    if sys.platform == "linux":
        return psutil.boot_time() + int(tag) / os.sysconf("SC_CLK_TCK")
    return float(tag)


def _as_markdown(
    seconds: float, account: Mapping[str, Mapping[str, float]], nothing_to_do: float, source: Mapping[str, float]
) -> str:
    lines = [
        "# A whole run",
        "",
        f"By `make bench` on {joblib.cpu_count()} cores ({processor()}): `dvc repro` in a fresh clone, the packages "
        f"installed, took {seconds:.0f} s from its start to the report. The source's recipe with stock layers, which "
        f"trains each model once and compares nothing, took {source['seconds']:.0f} s straight after: "
        f"**{source['seconds'] / seconds:.1f} times as long**. A `dvc repro` with nothing to do takes "
        f"{nothing_to_do:.1f} s.",
        "",
        f"| seconds |{''.join(f' {stage} |' for stage in account)} all |",
        "|---" * (len(account) + 2) + "|",
    ]
    totals = {part: sum(parts[part] for parts in account.values()) for part in PARTS}
    for part, total in totals.items():
        cells = (f"{parts[part]:.1f}" if parts[part] else "" for parts in account.values())
        lines.append(f"| {part} | {' | '.join(cells)} | {total:.1f} |")
    sums = [sum(parts.values()) for parts in account.values()]
    training = sum(totals[part] for part in TRAINING) / seconds
    lines += [
        f"| DVC, ends of processes |{' |' * len(sums)} {seconds - sum(sums):.1f} |",
        f"| all | {' | '.join(f'{each:.1f}' for each in sums)} | {seconds:.1f} |",
        "",
        f"Training and evaluation are {training:.0%} of it, all else {1 - training:.0%}. The first call is the first "
        "epoch's seconds beyond those of a median epoch. Evaluation includes the start of its workers.",
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
