"""A folder of video files with folds, from the files to the prediction: the example clips, small."""

import itertools
import json
import re
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run

from motionbench.core.files import read_json, read_yaml
from motionbench.data.decoding import decode_clip
from motionbench.data.params import Preprocessing
from motionbench.data.perturbations import PERTURBATIONS
from tests.conftest import add_backbone, edit_params, keep_stages, run
from tests.data.videos import write_video
from tests.integration.test_chaos import WALL_CLOCK, killed_in_the_middle, outputs

pytestmark = pytest.mark.slow  # they train for real

PRETRAINED = ("pretrained_lstm", "pretrained_linear", "pretrained_bag")
FOLDER = {
    "data.source": "folder",
    "data.colour": "rgb",
    "folder.group": r"(recorder-\d+)",
    "folder.folds": 3,
    "folder.reversed_labels": [["leftward", "rightward"]],
    "training.seeds": [0],
    "backbone.side": 32,
    "pretrained_lstm.epochs": 2,
    **{f"{name}.enabled": True for name in PRETRAINED},
    **{f"perturbations.{name}": [] for name in PERTURBATIONS if name not in ("backwards", "upside_down")},
}
MODELS = ("cnn_lstm", "convlstm", "single_frame", "bag_of_frames")


def add_clips(example_clips: Path, clone: Path) -> None:
    """Copy one example clip of each class by each recorder."""
    for path in example_clips.glob("*/*_01.mp4"):
        (clone / "data/clips" / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, clone / "data/clips" / path.parent.name)


def reproduce(clone: Path) -> str:
    """Run `dvc repro`, and return what it prints."""
    done = run(clone, "dvc", "repro")
    assert done.returncode == 0, done.stderr
    return done.stdout


def outs(clone: Path) -> dict[str, str]:
    """Return the md5 of each output in dvc.lock that holds no measured times, nor their md5s."""
    stages = read_yaml(clone / "dvc.lock")["stages"].values()
    found = {out["path"]: out["md5"] for stage in stages for out in stage.get("outs", [])}
    return {path: md5 for path, md5 in found.items() if not re.search("timing|inputs|reports/comparison", path)}


def mlflow_runs(clone: Path) -> list[Run]:
    client = mlflow.MlflowClient(f"sqlite:///{clone}/mlflow.db")
    experiment = client.get_experiment_by_name("motionbench")
    assert experiment
    return list(client.search_runs([experiment.experiment_id]))


@pytest.fixture(scope="module")
def folded(reproduced: Path, example_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `reproduced` after `make repro` on the example clips in three folds; tests must leave it as it is."""
    clone = Path(shutil.copytree(reproduced, tmp_path_factory.mktemp("folded") / "a copy", symlinks=True))
    # They name the old paths.
    (clone / "mlflow.db").unlink()
    shutil.rmtree(clone / "mlruns")
    add_clips(example_clips, clone)
    add_backbone(clone)
    edit_params(clone / "params.yaml", FOLDER)
    assert "cross-validation" in reproduce(clone).lower()
    assert run(clone, "git", "commit", "--quiet", "--all", "--message", "recorded").returncode == 0
    return clone


@pytest.fixture
def copy_of_folded(folded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folded, tmp_path / "a copy", symlinks=True))


def test_results_are_by_model_seed_and_fold(folded: Path) -> None:
    for name in MODELS:
        files = sorted(path.name for path in (folded / "models" / name).iterdir())
        assert files == [f"fold-{fold}-seed-0.keras" for fold in range(3)]
        assert pd.read_csv(folded / f"metrics/training/{name}/replicates.csv")["fold"].tolist() == [0, 1, 2]
    everything = pd.read_parquet(folded / "data/predictions.parquet")
    predictions = everything[(everything["condition"] == "unchanged") & (everything["model"] == "cnn_lstm")]
    labels = np.concatenate([np.load(folded / f"data/folds/{part}/labels.npy") for part in range(3)])
    assert predictions["label"].tolist() == labels.tolist(), "each clip is tested once per seed"
    assert predictions["fold"].tolist() == np.repeat([0, 1, 2], np.bincount(predictions["fold"])).tolist()
    tables = [pd.read_csv(folded / f"data/folds/{part}/clips.csv") for part in range(3)]
    assert predictions["file"].tolist() == [clip for table in tables for clip in table["clip"]]
    groups = pd.read_csv(folded / "metrics/comparison/groups.csv")
    assert groups["group"].tolist() == [f"recorder-{number:02}" for number in range(1, 13)]
    assert groups["clips"].tolist() == [3] * 12
    right = predictions["label"] == predictions["predicted"]
    assert groups["cnn_lstm"].tolist() == pytest.approx(right.groupby(predictions["group"]).mean().tolist())
    names = {each.info.run_name for each in mlflow_runs(folded)}
    assert {f"train_convlstm fold {fold} seed 0" for fold in range(3)} < names
    [replicate] = [each for each in mlflow_runs(folded) if each.info.run_name == "train_cnn_lstm fold 2 seed 0"]
    assert (replicate.data.params["fold"], replicate.data.params["seed"]) == ("2", "0")
    report = (folded / "reports/comparison/report.md").read_text(encoding="utf-8")
    assert "Cross-validation over 3 folds" in report
    assert "The 36 test clips are in 12 groups of 3, and clips of a group are alike" in report
    assert "; trained again: not known from one seed" in report
    assert "| backwards |" in report
    checks = [
        "single_frame",
        "bag_of_frames",
        "pretrained_bag",
        "metadata",
        "padding",
        "duplicates",
        "groups",
        "copies",
    ]
    assert [each["check"] for each in read_json(folded / "metrics/comparison/audit.json")] == checks
    assert "## Leak audit" in report
    assert "upside down" not in report, "it is not known which class a clip of the user's is in when it is upside down"


def test_lineage_names_the_parts(folded: Path) -> None:
    lines = run(folded, "python", "-m", "pipeline.lineage", "models/cnn_lstm/fold-1-seed-0.keras").stdout
    assert "as recorded" in lines
    assert "from data    data/folds " in lines
    assert "data.source=folder" in run(folded, "python", "-m", "pipeline.lineage", "data/folds").stdout


def test_verify_brings_the_clips_that_git_does_not_have_and_finds_equal_outputs(copy_of_folded: Path) -> None:
    keep_stages(copy_of_folded, "generate", "embed", "train_pretrained")
    # The replicates run side by side here, one after the other when they were recorded.
    settings = {"TMPDIR": str(copy_of_folded.parent), "LOKY_MAX_CPU_COUNT": "2"}
    done = run(copy_of_folded, "python", "-m", "pipeline.verify", **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 of 12 outputs are equal" in done.stdout
    assert "made with other versions" not in done.stderr


def test_killed_while_it_decodes_generate_ends_with_the_same_outputs(copy_of_folded: Path) -> None:
    expected = outputs(copy_of_folded, "generate")
    shutil.rmtree(copy_of_folded / ".decoded")
    assert killed_in_the_middle(copy_of_folded, "generate", 1.0, once_it_writes=False)
    done = run(copy_of_folded, "dvc", "repro", "--single-item", "--force", "generate")
    assert done.returncode == 0, done.stderr
    found = outputs(copy_of_folded, "generate")
    assert [path for path in expected if found[path] != expected[path] and not path.startswith(WALL_CLOCK)] == []
    assert not [path for path in copy_of_folded.rglob(".partial*") if path.parts[-2] != ".dvc"]


def test_a_new_clip_is_decoded_alone_and_a_bad_one_stops_before_anything_is_written(
    copy_of_folded: Path, example_clips: Path
) -> None:
    kept = {path.name: path.stat().st_ino for path in (copy_of_folded / ".decoded").iterdir()}
    clips = copy_of_folded / "data/clips"
    bad = clips / "square/recorder-01_09.mp4"
    bad.write_bytes((clips / "square/recorder-01_01.mp4").read_bytes()[:-900])
    expected = outputs(copy_of_folded, "generate")
    refused = run(copy_of_folded, "dvc", "repro", "generate")
    assert "bad clip: square/recorder-01_09.mp4: damaged" in refused.stderr
    assert "error: data/clips: 1 of 37 clips cannot be used" in refused.stderr
    assert "Traceback" not in refused.stderr
    # DVC removes the outputs of a stage before it runs; they are in its cache.
    assert run(copy_of_folded, "dvc", "checkout", "--force").returncode == 0
    assert outputs(copy_of_folded, "generate") == expected
    (clips / "leftward/recorder-01_01.mp4").rename(bad)  # known already, under another name
    done = run(copy_of_folded, "dvc", "repro", "generate")
    assert done.returncode == 0, done.stderr
    assert {path.name: path.stat().st_ino for path in (copy_of_folded / ".decoded").iterdir()} == kept
    shutil.copy(example_clips / "leftward/recorder-01_05.mp4", clips / "leftward")
    assert run(copy_of_folded, "dvc", "repro", "generate").returncode == 0
    now = {path.name: path.stat().st_ino for path in (copy_of_folded / ".decoded").iterdir()}
    assert len(now) == len(kept) + 1
    assert kept.items() < now.items()


def test_a_search_does_without_the_test_part_of_its_fold(copy_of_folded: Path) -> None:
    shutil.rmtree(copy_of_folded / "data/folds/0")
    tune = ("python", "-m", "pipeline.tune", "--model", "cnn_lstm", "--trials", "1", "--workers", "1")
    done = run(copy_of_folded, *tune)
    assert done.returncode == 0, done.stderr
    best = read_json(copy_of_folded / "reports/tuning/cnn_lstm/best.json")
    assert best["trials"] == 1


def test_going_back_to_synthetic_clips_trains_nothing(reproduced: Path, copy_of_folded: Path) -> None:
    synthetic, clone = outs(reproduced), copy_of_folded
    assert outs(clone)["models/cnn_lstm"] != synthetic["models/cnn_lstm"]
    shutil.copy(reproduced / "params.yaml", clone / "params.yaml")
    assert "epoch" not in reproduce(clone), "a stage trained"
    assert outs(clone) == synthetic
    assert (clone / "models/cnn_lstm/seed-1.keras").exists()
    assert not list((clone / "models/cnn_lstm").glob("fold*"))


def test_another_head_is_trained_on_the_same_features(copy_of_folded: Path) -> None:
    edit_params(copy_of_folded / "params.yaml", {"pretrained_lstm.lstm_units": 3})
    assert list(json.loads(run(copy_of_folded, "dvc", "status", "--json").stdout)) == ["train_pretrained"]


def test_a_champion_brings_its_backbone_and_predicts_files_as_evaluate_did(copy_of_folded: Path) -> None:
    edit_params(copy_of_folded / "params.yaml", {"cnn_lstm.enabled": False, "convlstm.enabled": False})
    reproduce(copy_of_folded)
    (copy_of_folded / "data/backbone/own.keras").unlink()
    done = run(copy_of_folded, "python", "-m", "pipeline.predict", "data/clips")
    assert done.returncode == 0, done.stderr
    found = pd.read_csv(next((copy_of_folded / "reports/predictions").glob("*.csv"))).set_index("file")
    champion = Path(read_json(copy_of_folded / "metrics/comparison_timing.json")["champion"])
    assert champion.parent.name in PRETRAINED
    table = pd.read_parquet(copy_of_folded / "data/predictions.parquet")
    table = table[(table["model"] == champion.parent.name) & (table["condition"] == "unchanged")]
    held_out = table[table["fold"] == int(champion.name.split("-")[1])].set_index("file").filter(like="probability ")
    assert len(held_out) == 12
    np.testing.assert_allclose(found.loc[held_out.index, held_out.columns], held_out, atol=1e-6)


def test_without_its_backbone_nothing_is_trained(copy_of_folded: Path) -> None:
    (copy_of_folded / "data/backbone/own.keras").unlink()
    edit_params(copy_of_folded / "params.yaml", {"training.patience": 2})
    done = run(copy_of_folded, "dvc", "repro")
    assert "Running stage 'train" not in done.stdout
    assert "error: params.yaml: backbone.path: data/backbone: 0 archives; make one: make backbone" in done.stderr
    assert "Traceback" not in done.stderr


def test_prediction_sees_what_training_saw(copy_of_folded: Path) -> None:
    edit_params(copy_of_folded / "params.yaml", {"data.height": 32, "data.colour": "grey", "folder.resize": "crop"})
    table = pd.read_csv(copy_of_folded / "data/folds/1/clips.csv")
    program = (
        "import sys, numpy\n"
        "from pathlib import Path\n"
        "sys.path.insert(0, 'src')\n"
        "from motionbench.tracking.champion import load_champion\n"
        "from motionbench.data.decoding import read_clip\n"
        "champion = load_champion()\n"
        f"clip, _ = read_clip(Path('data/clips', {table['clip'][4]!r}), champion.preprocessing)\n"
        "print((clip[0] == numpy.load('data/folds/1/clips.npy')[4]).all(), champion.preprocessing.resize)\n"
    )
    done = run(copy_of_folded, "python", "-c", program)
    assert done.stdout.endswith("True pad\n"), done.stderr
    predicted = run(copy_of_folded, "python", "-m", "pipeline.predict", f"data/clips/{table['clip'][4]}")
    assert predicted.returncode == 0, predicted.stderr
    assert all(name in predicted.stdout for name in ("leftward", "rightward", "square"))
    assert not (copy_of_folded / "reports/predictions").exists(), "the clip is not long"
    explained = run(copy_of_folded, "python", "-m", "pipeline.predict", f"data/clips/{table['clip'][4]}", "explain")
    assert explained.stdout.startswith(predicted.stdout), explained.stderr
    [picture] = (copy_of_folded / "reports/predictions").iterdir()
    assert f"\nreports/predictions/{picture.name}: how much of the probability of " in explained.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def long_video(example_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds: five clips of two seconds, one after the other."""
    paths = sorted(example_clips.glob("*/*_01.mp4"))[:5]
    clips = [decode_clip(path, Preprocessing(50, 48, 64, "rgb", "stretch"))[0] for path in paths]
    return write_video(tmp_path_factory.mktemp("long") / "it's a long one at 10.22.33.mp4", np.concatenate(clips))


def test_a_long_video_is_classified_in_windows(folded: Path, long_video: Path) -> None:
    done = run(folded, "python", "-m", "pipeline.predict", str(long_video), "explain")
    assert done.returncode == 0, done.stderr
    assert "was classified in 9 windows" in done.stdout
    [folder, picture] = sorted(folded.glob("reports/predictions/it_s a long one at 10_22_33~*"))
    assert picture.name == f"{folder.name}.png"
    assert picture.name in done.stdout
    windows = pd.read_csv(folder / "windows.csv")
    assert windows["start"].tolist() == pytest.approx([0, 1, 2, 3, 4, 5, 6, 7, 8])
    assert windows["end"].iloc[-1] == pytest.approx(10, abs=0.01)
    assert np.allclose(windows[["leftward", "rightward", "square"]].sum(axis=1), 1, atol=1e-5)
    assert (folder / "timeline.png").stat().st_size > 1000
    assert decode_clip(folder / "annotated.mp4", Preprocessing(5, 48, 64, "rgb", "pad"))[1].seconds == pytest.approx(
        10, abs=0.1
    )


def test_a_folder_is_classified_into_one_table(folded: Path, long_video: Path, tmp_path: Path) -> None:
    clips = tmp_path / "new clips"
    (clips / "inner").mkdir(parents=True)
    one = next((folded / "data/clips/square").iterdir())
    shutil.copy(one, clips / "inner/one.mp4")
    shutil.copy(long_video, clips)
    (clips / "bad.mp4").write_bytes(one.read_bytes()[:-900])
    (clips / "notes.txt").write_text("no clip")
    done = run(folded, "python", "-m", "pipeline.predict", str(clips), "explain")
    line = f"{clips}: a folder; a picture explains one clip: name a file, such as bad.mp4"
    assert (done.returncode, done.stderr) == (2, f"error: EXPLAIN: {line}\n")
    done = run(folded, "python", "-m", "pipeline.predict", str(clips))
    assert done.returncode == 0, done.stderr
    [written] = folded.glob("reports/predictions/new clips~*.csv")
    assert f"{written.name}: 2 of 3 files by motionbench version 1; 1 could not be read" in done.stdout
    table = pd.read_csv(written)
    assert table["file"].tolist() == ["bad.mp4", "inner/one.mp4", long_video.name]
    probabilities = table.filter(like="probability ")
    assert probabilities.sum(axis=1).tolist() == pytest.approx([0, 1, 1], abs=1e-4)
    assert "damaged" in table["not read"][0]
    assert table["class"].notna().tolist() == [False, True, True]


def test_of_many_classes_twenty_have_an_animation(workspace: Path) -> None:
    random = np.random.default_rng(0)
    for label, clip in itertools.product(range(21), range(3)):
        path = workspace / f"data/clips/class {label}/{clip}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, random.integers(0, 256, (4, 16, 20, 1), np.uint8))
    edit_params(workspace / "params.yaml", {"data.source": "folder", "folder.group": None})
    done = run(workspace, "python", "-m", "pipeline.generate")
    assert done.returncode == 0, done.stderr
    assert len(list((workspace / "reports/samples").glob("*.gif"))) == 20


def test_a_part_may_lack_a_class_where_each_group_is_one(drawn: Path, example_clips: Path) -> None:
    add_clips(example_clips, drawn)
    for path in drawn.glob("data/clips/*/recorder-01*"):
        if path.parent.name != "leftward":
            path.unlink()
    edit_params(drawn / "params.yaml", {**FOLDER, "folder.folds": "leave_one_group_out"})
    done = run(drawn, "python", "-m", "pipeline.generate")
    assert done.returncode == 0, done.stderr
    assert len(list((drawn / "reports/samples").glob("*.gif"))) == 3
