"""The whole workflow, with tiny parameters, as a user runs it: real DVC, real MLflow, real training."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run

from motionbench.core.dvc_files import read_stages
from motionbench.core.files import file_md5, path_md5, read_json
from motionbench.core.paths import DVC_YAML
from tests.conftest import edit_params, run
from tests.execution.test_engine import eventually

pytestmark = pytest.mark.slow  # they train for real

REFERENCES = ("frame_differences", "single_frame", "bag_of_frames")  # what contenders are compared with
STAGES = [
    "generate", "embed", "train_cnn_lstm", "train_convlstm", "train_cnn3d", "train_pretrained", "train_controls",
    "evaluate", "compare",
]  # fmt: skip # in two lines
OFF = ("embed", "train_cnn3d", "train_pretrained")  # no model that needs them is switched on
LOGGED = [stage for stage in STAGES if stage not in OFF]


def store(workspace: Path) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(tracking_uri=f"sqlite:///{workspace}/mlflow.db")


def runs(workspace: Path, query: str = "") -> list[Run]:
    client = store(workspace)
    experiment = client.get_experiment_by_name("motionbench")
    assert experiment
    return list(client.search_runs([experiment.experiment_id], filter_string=query, order_by=["start_time"]))


def stage_runs(workspace: Path) -> dict[str, Run]:
    return {run.info.run_name: run for run in runs(workspace) if "mlflow.parentRunId" not in run.data.tags}


def test_second_repro_runs_no_stage(reproduced: Path) -> None:
    done = run(reproduced, "dvc", "repro")
    assert done.returncode == 0
    assert "Running stage" not in done.stdout
    assert done.stdout.count("didn't change, skipping") == len(STAGES) + 1  # and keep_runs


def test_git_ignores_large_outputs(reproduced: Path) -> None:
    assert (reproduced / "reports/samples/contact_sheet.png").stat().st_size > 0
    untracked = run(reproduced, "git", "status", "--porcelain", "--untracked-files=all").stdout
    assert not re.search(r"keras|npy|parquet|png|mlflow|mlruns|partial", untracked), untracked


def test_mlflow_has_a_run_per_stage_and_child_per_replicate(reproduced: Path) -> None:
    parents = stage_runs(reproduced)
    assert list(parents) == LOGGED
    assert {run.info.status for run in runs(reproduced)} == {"FINISHED"}
    commit = run(reproduced, "git", "rev-parse", "HEAD").stdout.strip()
    for stage, parent in parents.items():
        assert parent.data.tags["mlflow.source.git.commit"] == commit
        assert parent.data.tags["git.dirty"] == "false"
        assert parent.data.tags["dvc.stage"] == stage
    for model in ("cnn_lstm", "convlstm"):
        parent = parents[f"train_{model}"]
        children = runs(reproduced, f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
        assert sorted(child.data.params["seed"] for child in children) == ["0", "1"]
        for child in children:
            curve = store(reproduced).get_metric_history(child.info.run_id, "validation_loss")
            assert [point.step for point in curve] == [1, 2]
            best = curve[int(child.data.metrics["best_epoch"]) - 1]
            assert child.data.metrics["best_validation_loss"] == best.value
            assert 0 <= child.data.metrics["test_accuracy_low"] <= child.data.metrics["test_accuracy"] <= 1
        files = store(reproduced).list_artifacts(parent.info.run_id, f"metrics/training/{model}")
        assert f"metrics/training/{model}/model_summary.txt" in [file.path for file in files]
    controls = runs(reproduced, f"tags.`mlflow.parentRunId` = '{parents['train_controls'].info.run_id}'")
    names = [child.info.run_name for child in controls]
    assert sorted(names) == sorted(f"train_{name} seed {seed}" for name in REFERENCES for seed in (0, 1))
    assert {f"{name}.best_epoch" for name in REFERENCES} <= set(parents["train_controls"].data.metrics)


def test_runs_have_the_declared_parameters_flat(reproduced: Path) -> None:
    stages = read_stages(reproduced / DVC_YAML)
    for stage, parent in stage_runs(reproduced).items():
        assert {key.partition(".")[0] for key in parent.data.params} == set(stages[stage].params)
    assert stage_runs(reproduced)["generate"].data.params["data.height"] == "16"
    assert stage_runs(reproduced)["evaluate"].data.params["training.seeds"] == "(0, 1)"


def test_runs_name_their_data_by_the_md5_of_dvc_lock(reproduced: Path) -> None:
    lock = (reproduced / "dvc.lock").read_text(encoding="utf-8")
    parents = stage_runs(reproduced)
    inputs = {stage: parent.inputs.dataset_inputs for stage, parent in parents.items() if parent.inputs}
    assert [item.dataset.name for item in inputs["generate"]] == ["train", "validation", "test"]
    assert [item.dataset.name for item in inputs["train_convlstm"]] == ["train", "validation"]
    assert [item.dataset.name for item in inputs["compare"]] == ["train", "validation", "test"]
    [test_data] = inputs["evaluate"]
    assert test_data.dataset.digest == parents["evaluate"].data.tags["data.md5.test"]
    assert test_data.dataset.digest == path_md5(reproduced / "data/test")
    assert f"md5: {test_data.dataset.digest}" in lock


def test_winner_becomes_champion(reproduced: Path) -> None:
    champion = store(reproduced).get_model_version_by_alias("motionbench", "champion")
    assert champion.run_id == stage_runs(reproduced)["compare"].info.run_id
    names = [path.parent.name for path in (reproduced / "models").glob("*/*") if champion.tags["md5"] == file_md5(path)]
    assert names in (["cnn_lstm"], ["convlstm"])
    challenger = store(reproduced).get_model_version_by_alias("motionbench", "challenger")
    assert {*names, challenger.tags["model"]} == {"cnn_lstm", "convlstm"}


def test_artifacts_have_no_pickle_and_the_table_of_predictions(reproduced: Path) -> None:
    files = [path for path in (reproduced / "mlruns").rglob("*") if path.is_file()]
    assert any(path.name.endswith(".keras") for path in files)
    assert not [path for path in files if "pickle" in path.name or path.suffix == ".pkl"]
    [table] = store(reproduced).list_artifacts(stage_runs(reproduced)["evaluate"].info.run_id, "data")
    assert table.path == "data/predictions.parquet"
    assert table.file_size == (reproduced / table.path).stat().st_size


def test_change_makes_the_stages_stale_that_depend_on_it(copy_of_reproduced: Path) -> None:
    def changed() -> list[str]:
        return list(json.loads(run(copy_of_reproduced, "dvc", "status", "--json").stdout))

    edits = {"convlstm.filters": [3, 2], "gate.maximum_latency": 50.0, "folder.seed": 1}
    edit_params(copy_of_reproduced / "params.yaml", edits)
    assert changed() == ["train_convlstm", "compare"], "no stage reads the section of another source"
    edit_params(copy_of_reproduced / "params.yaml", {"data.frames": 5})
    stale = ["generate", "train_convlstm", "compare"]
    assert changed() == stale, "the others read the shape of the clips from its outputs"
    assert run(copy_of_reproduced, "python", "-m", "pipeline.generate").returncode == 0
    assert changed() == [*STAGES, "keep_runs"]


def test_report_is_self_contained_and_agrees_with_scores(reproduced: Path) -> None:
    page = (reproduced / "reports/comparison/report.html").read_text(encoding="utf-8")
    assert re.findall(r'src="(?!data:)[^"]*', page) == []
    run_id = stage_runs(reproduced)["compare"].info.run_id
    assert set(re.findall(r'href="([^"]*)"', page)) == {f"http://127.0.0.1:5000/#/runs/{run_id}"}
    assert page.count("data:image/png;base64,") in (6, 7), "seven, if the models disagree on some clip"
    assert "<h2>Perturbed</h2>" in page
    text = (reproduced / "reports/comparison/report.md").read_text(encoding="utf-8")
    scores = read_json(reproduced / "metrics/comparison/scores.json")
    for replicates in scores.values():
        assert ", ".join(f"{score['correct']}/16" for score in replicates) in text
        assert all(sum(map(sum, score["confusion"])) == 16 for score in replicates)
    for link in re.findall(r"!\[.*\]\((.*)\)", text):
        assert (reproduced / "reports/comparison" / link).exists()


# What SIGINT does is what SIGTERM does here; searches and the end of a stage are interrupted by it.
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGKILL])
def test_interrupted_training_keeps_outputs_and_ends_its_runs(signal_number: signal.Signals, drawn: Path) -> None:
    endless = {"convlstm.epochs": 100_000, "training.min_delta": 0.0, "training.target_loss": 0.0}
    edit_params(drawn / "params.yaml", endless)
    (drawn / "models/convlstm").mkdir(parents=True)
    (drawn / "models/convlstm/seed-0.keras").write_text("the old one", encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.train", "convlstm"],
        cwd=drawn, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip # what runs, and how
    assert process.stdout
    assert "epoch 1" in process.stdout.readline()
    process.send_signal(signal_number)
    _, stderr = process.communicate(timeout=600)
    if signal_number == signal.SIGKILL:
        assert run(drawn, "python", "-m", "pipeline.generate").returncode == 0  # ends runs of the dead
    else:
        assert process.returncode == 130
        assert stderr.splitlines()[-1] == "interrupted: no output is half-written"
        assert "Traceback" not in stderr
        assert not list(drawn.rglob(".partial.*"))
    assert (drawn / "models/convlstm/seed-0.keras").read_text(encoding="utf-8") == "the old one"
    states = {run.info.run_name: run.info.status for run in runs(drawn) if "convlstm" in run.info.run_name}
    names = ("train_convlstm", "train_convlstm seed 0", "train_convlstm seed 1")
    assert states == dict.fromkeys(names, "KILLED")
    eventually(lambda: str(drawn) not in run(drawn, "ps", "-eo", "args").stdout)


def test_diverging_training_fails_in_one_line(drawn: Path) -> None:
    edit_params(drawn / "params.yaml", {"cnn_lstm.learning_rate": 1e30, "cnn_lstm.activation": "relu"})
    done = run(drawn, "python", "-m", "pipeline.train", "cnn_lstm")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "cnn_lstm.learning_rate: 1e+30: the loss of seed" in done.stderr
    assert not (drawn / "models/cnn_lstm").exists()
    assert {run.info.status for run in runs(drawn) if "cnn" in run.info.run_name} == {"FAILED"}
