"""Files are the truth, MLflow is a view: a store can be made again from files, and its loss costs nothing."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow.entities import Run

from motionbench.core.dvc_files import read_lock
from motionbench.core.files import path_md5
from tests.conftest import edit_params, keep_stages, run
from tests.integration.test_pipeline import LOGGED
from tests.tracking.servers import mlflow_server

pytestmark = pytest.mark.slow  # they train for real

# Tags that say when, by whom and by which route a run came to be there.
ROUTE = (
    "mlflow.", "process.", "record.id", "git.dirty", "dvc.experiment", "restored", "environment", "md5.metrics/inputs",
)  # fmt: skip # short items


def contents(uri: str) -> dict[str, Any]:
    """Return everything a store holds, by the runs' names, without ids and times; no two runs may share a name."""
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("motionbench")
    assert experiment
    runs: list[Run] = client.search_runs([experiment.experiment_id], max_results=1000)
    names = {run.info.run_id: run.info.run_name for run in runs}
    assert len(set(names.values())) == len(names)
    versions = client.search_model_versions()
    return {
        "models": sorted((v.name, v.version, names[v.run_id], v.tags["md5"]) for v in versions),
        **{
            run.info.run_name: {
                "status": run.info.status,
                "below": names.get(run.data.tags.get("mlflow.parentRunId", "")),
                "params": run.data.params,
                "curves": {
                    key: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, key)]
                    for key in run.data.metrics
                },
                "tags": {key: value for key, value in run.data.tags.items() if not key.startswith(ROUTE)},
                "data": [
                    (each.dataset.name, each.dataset.digest)
                    for each in (run.inputs.dataset_inputs if run.inputs else [])
                ],
                "files": sorted(files(client, run.info.run_id)),
                "logged models": len(run.outputs.model_outputs) if run.outputs else 0,
            }
            for run in runs
        },
    }


def files(client: mlflow.MlflowClient, run_id: str, folder: str | None = None) -> Iterator[str]:
    for file in client.list_artifacts(run_id, folder):
        if file.is_dir:
            yield from files(client, run_id, file.path)
        else:
            yield file.path


def sync(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return run(folder, "python", "-m", "pipeline.mlflow_sync", **environment)


def promote(folder: Path, *version: str) -> str:
    return run(folder, "python", "-m", "pipeline.promote", *version).stdout


def predict(folder: Path) -> subprocess.CompletedProcess[str]:
    return run(folder, "python", "-m", "pipeline.predict", "reports/samples/sine.gif")


def lineage(folder: Path, what: str) -> subprocess.CompletedProcess[str]:
    return run(folder, "python", "-m", "pipeline.lineage", what)


def test_deleted_store_is_restored_and_its_models_load(copy_of_reproduced: Path) -> None:
    uri = f"sqlite:///{copy_of_reproduced}/mlflow.db"
    live = contents(uri)
    (copy_of_reproduced / "mlflow.db").unlink()
    shutil.rmtree(copy_of_reproduced / "mlruns")
    for shown in (": logged", ": there already"):
        done = run(copy_of_reproduced, "sh", "-c", "python -m pipeline.mlflow_sync 2>&1")
        assert done.returncode == 0, done.stdout
        assert done.stdout.count(shown) == len(LOGGED)
        if shown == ": logged":
            assert done.stdout.index("generate: logged") < done.stdout.index("model 'cnn_lstm'"), "when logged"
        assert contents(uri) == live
    assert [(name, version) for name, version, *_ in live["models"]] == [
        (name, 1) for name in ("bag_of_frames", "cnn_lstm", "convlstm", "frame_differences", "motionbench")
    ] + [("motionbench", 2), ("single_frame", 1)]
    program = (
        f"import mlflow, numpy; mlflow.set_tracking_uri({uri!r})\n"
        f"clips = numpy.load({str(copy_of_reproduced / 'data/test/clips.npy')!r})\n"
        "print(mlflow.pyfunc.load_model('models:/cnn_lstm/1').predict(clips).shape)"
    )
    assert run(copy_of_reproduced, "python", "-c", program).stdout == "(16, 4)\n"


def test_a_deleted_champion_is_registered_again_and_used_by_its_number(copy_of_reproduced: Path) -> None:
    uri = f"sqlite:///{copy_of_reproduced}/mlflow.db"
    predicted = predict(copy_of_reproduced)
    mlflow.MlflowClient(uri).delete_model_version("motionbench", "1")
    refused = predict(copy_of_reproduced)
    assert refused.returncode == 2
    assert refused.stderr.endswith("make mlflow-sync\n")
    done = sync(copy_of_reproduced)
    assert done.returncode == 0, done.stderr
    assert "compare: restored: version of motionbench\n" in done.stdout
    assert "is registered and not in use, none is; to use it: make promote VERSION=3\n" in done.stdout
    assert predict(copy_of_reproduced).returncode == 2, "a sync puts nothing in use"
    assert "version 3 of motionbench (" in promote(copy_of_reproduced)
    assert promote(copy_of_reproduced, "3").startswith("in use: version 3 of motionbench (")
    first, others = predicted.stdout.split("\n", 1)
    assert first.startswith("champion: version 1 of motionbench (")
    assert predict(copy_of_reproduced).stdout.split("\n", 1)[1] == others.replace("version 1", "version 3")


def test_champion_in_use_is_named_with_what_it_was_made_from(copy_of_reproduced: Path) -> None:
    def first_line() -> str:
        done = predict(copy_of_reproduced)
        assert done.returncode == 0, done.stderr
        assert "mlflow.motionbench" not in done.stderr, "it is said once"
        return done.stdout.splitlines()[0]

    head = run(copy_of_reproduced, "git", "rev-parse", "HEAD").stdout[:8]
    said = first_line()
    classes = "constant, ascending, descending, sine"
    described = rf"\w+; trained on synthetic clips: {classes}; logged at commit {head}; 20.* UTC"
    assert re.fullmatch(rf"champion: version 1 of motionbench \({described}\)", said)
    edit_params(copy_of_reproduced / "params.yaml", {"gate.maximum_latency": 0.0001, "synthetic.seed": 5})
    done = run(copy_of_reproduced, "dvc", "repro", "--single-item", "--force", "compare")
    assert "No model becomes champion" in done.stdout
    still = (
        rf"The champion in use is still version 1 of motionbench \({described}\), which was made from the same clips\."
    )
    assert re.search(still, done.stdout)
    assert re.search(still, (copy_of_reproduced / "reports/comparison/report.md").read_text(encoding="utf-8"))
    assert run(copy_of_reproduced, "dvc", "repro", "generate").returncode == 0
    assert first_line() == f"{said}: OTHER clips than dvc.lock records here"
    (copy_of_reproduced / "dvc.lock").unlink()
    assert first_line() == said


def test_server_that_hangs_and_dies_costs_no_epoch(workspace: Path, tmp_path: Path) -> None:
    edit_params(workspace / "params.yaml", {"cnn_lstm.epochs": 6, "training.target_loss": 0.0})
    assert run(workspace, "python", "-m", "pipeline.generate").returncode == 0
    with mlflow_server(tmp_path / "server") as server:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.train", "cnn_lstm"],
            cwd=workspace,
            text=True,
            env={**os.environ, "MLFLOW_TRACKING_URI": server.uri, "MLFLOW_HTTP_REQUEST_TIMEOUT": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout
        for line in process.stdout:
            if "seed 0" in line and "epoch 2" in line:
                server.hang()
            if "seed 0" in line and "epoch 4" in line:
                server.stop()
        _, stderr = process.communicate(timeout=600)
        assert process.returncode == 0, stderr
        assert len([line for line in stderr.splitlines() if "warning" in line]) == 1, stderr
        assert "Traceback" not in stderr
        server.start()
        for shown in (", pending: logged", ""):
            done = sync(workspace, MLFLOW_TRACKING_URI=server.uri)
            assert done.stdout.strip().endswith(shown), done.stdout + done.stderr
            assert bool(done.stdout) == bool(shown)
        held = contents(server.uri)
    assert set(held) == {"models", "train_cnn_lstm", "train_cnn_lstm seed 0", "train_cnn_lstm seed 1"}
    assert len(held["models"]) == 1
    history = pd.read_csv(workspace / "metrics/training/cnn_lstm/history.csv")
    assert len(history) == 12
    for seed, epochs in history.groupby("seed"):
        replicate = held[f"train_cnn_lstm seed {seed}"]
        assert (replicate["status"], replicate["logged models"]) == ("FINISHED", 1)
        for measure in ("loss", "accuracy", "validation_loss", "validation_accuracy"):
            assert sorted(replicate["curves"][measure]) == list(zip(epochs["epoch"], epochs[measure], strict=True))


def test_lineage_shows_stage_data_parameters_and_run(reproduced: Path) -> None:
    lock = read_lock(reproduced / "dvc.lock")
    file = "models/convlstm/seed-0.keras"
    md5 = path_md5(reproduced / file)
    shown = lineage(reproduced, file).stdout
    assert shown == lineage(reproduced, md5).stdout
    assert f"{file}: {md5}, in models/convlstm {lock['train_convlstm'].outs['models/convlstm']}, as recorded" in shown
    assert "stage train_convlstm: python -m pipeline.train convlstm" in shown
    assert f"data/train {lock['generate'].outs['data/train']}" in shown
    assert "convlstm.filters=[2, 2]" in shown
    assert "none yet: this dvc.lock is not committed" in shown
    assert re.search(r"environment .*Python 3\.\d+\.\d+, av .*, keras .*; requirements.lock", shown)
    [run_id] = re.findall(r"MLflow run   (\w{32}) train_convlstm, FINISHED", shown)
    shown = lineage(reproduced, run_id).stdout
    assert f"file         {file} {md5}, same here" in shown
    assert f"data         data/train {lock['generate'].outs['data/train']}" in shown


def test_verify_finds_equal_outputs_and_a_changed_seed(copy_of_reproduced: Path) -> None:
    training = copy_of_reproduced / "src/motionbench/training/loop.py"
    code = training.read_text(encoding="utf-8")
    planted = code.replace("set_random_seed(seed)", 'set_random_seed(seed + (model_name == "convlstm"))')
    assert planted != code
    training.write_text(planted, encoding="utf-8")
    timing = copy_of_reproduced / "metrics/training_timing/convlstm.json"
    timing.write_text(re.sub("SIMD ", "SIMD OTHER ", timing.read_text(encoding="utf-8")), encoding="utf-8")
    keep_stages(copy_of_reproduced, "generate", "train_cnn_lstm", "train_convlstm")
    done = run(copy_of_reproduced, "python", "-m", "pipeline.verify", TMPDIR=str(copy_of_reproduced.parent))
    assert done.returncode == 1, done.stderr
    found = dict(re.findall(r"│ (\w+/[\w./]+) +│.*│ (equal|DIFFERENT|not compared: timings) +│", done.stdout))
    assert {out for out, equal in found.items() if equal == "equal"} == {
        "data/train", "data/validation", "data/test", "data/folds", "reports/samples", "models/cnn_lstm",
        "metrics/training/cnn_lstm",
    }  # fmt: skip # short items
    assert found["metrics/training/convlstm"] == found["models/convlstm"] == "DIFFERENT"
    assert re.search(r"here: .* cores, .*Python 3\.", done.stdout)
    assert "training.threads: 1" in done.stdout
    # Other code made the outputs, so that the machine is not why they differ.
    assert "metrics/training/convlstm, models/convlstm" in done.stdout
    assert "differ, NOT as expected" in done.stdout
    assert "\nconclusions: " in done.stdout
    assert "warning: dvc.lock was made with other versions of: src/motionbench/training" in done.stderr
    assert not list(copy_of_reproduced.parent.glob("motionbench-verify-*"))
