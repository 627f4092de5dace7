"""What `make inspect` finds in folders, and the experiment that it writes."""

import shutil
from pathlib import Path

import pytest

from motionbench.core.errors import UserError
from motionbench.core.paths import BACKBONES, EXPERIMENTS
from motionbench.data.folder.listing import ClipFile
from motionbench.models.registry import SEARCHABLE
from motionbench.params.editing import read_experiment
from motionbench.reporting.inspection import find_groupings, inspect_folder
from motionbench.tuning.space import check_search_space
from pipeline import inspect
from tests.conftest import ROOT
from tests.data.folder.recordings import record

ALL = ("cnn_lstm", "convlstm", "cnn3d")


@pytest.fixture(autouse=True)
def clips(working_directory: Path, example_clips: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of example clips in the working directory: two clips of each class by each of six recorders."""
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    shutil.copy(ROOT / "params.yaml", working_directory)
    EXPERIMENTS.mkdir()
    shutil.copy(ROOT / EXPERIMENTS / "folder.yaml", EXPERIMENTS)
    for path in example_clips.glob("*/recorder-0[1-6]_0[12].mp4"):
        copy = working_directory / "my clips" / path.relative_to(example_clips)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    return working_directory / "my clips"


def run_inspect(monkeypatch: pytest.MonkeyPatch, folder: Path | str, name: str = "") -> None:
    monkeypatch.setattr("sys.argv", ["inspect", str(folder), name])
    inspect.main()


def test_the_experiment_is_accepted_and_says_why(
    clips: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (clips / "square/notes.mp4").write_text("no video")
    first = clips / "square/recorder-01_01.mp4"
    # The same pixels, and another content: an empty box at the end.
    first.with_name("recorder-01_09.mp4").write_bytes(first.read_bytes() + b"\0\0\0\x08free")
    run_inspect(monkeypatch, clips)
    values, params = read_experiment("my-clips")
    assert values["folder.path"] == "my clips"
    assert values["folder.group"] == "[/_ .-](recorder-[0-9]+)"
    assert (values["folder.folds"], values["folder.on_bad"], values["folder.resize"]) == (5, "skip", "pad")
    assert params.data.clip_shape() == (12, 40, 56, 1)
    assert {*ALL, "single_frame", "bag_of_frames"} <= set(params.enabled_models())
    for model in params.enabled_models():
        if model in SEARCHABLE:
            check_search_space(params, model)
    text = (EXPERIMENTS / "my-clips.yaml").read_text()
    assert "# 6 groups, such as recorder-01" in text
    printed = capsys.readouterr().out
    assert "37 clips can be used, 1 cannot" in printed
    assert " square/recorder-01_01.mp4   square/recorder-01_09.mp4 " in printed
    assert "square/notes.mp4" in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_uneven_classes_and_proportions_change_what_is_suggested(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in clips.glob("square/*_01.mp4"):
        path.unlink()
    record(clips / "leftward/recorder-01_07.mp4", height=48, width=32)
    run_inspect(monkeypatch, clips, "mine")
    values, _ = read_experiment("mine")
    assert values["folder.resize"] == "crop"
    assert values["training.class_weights"] == "balanced"


def test_a_backbone_gets_larger_frames_and_networks_from_pixels_as_many_as_without(
    clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    BACKBONES.mkdir(parents=True)
    (BACKBONES / "some.keras").touch()
    run_inspect(monkeypatch, clips, "mine")
    _, params = read_experiment("mine")
    assert params.data.clip_shape() == (12, 84, 112, 1)
    assert {params.model(name).downsample for name in (*ALL, "single_frame", "bag_of_frames")} == {2}
    assert {"pretrained_lstm", "pretrained_linear", "pretrained_bag"} <= set(params.enabled_models())


@pytest.mark.parametrize(
    ("names", "pattern", "example"),
    [
        (["{label}/v_{label}_g{one:02}_c{two:02}.avi"], "[/_ .-](g[0-9]+)", "g01"),
        (["{label}/person{one:02}_{label}_{two}.mp4"], "[/_ .-](person[0-9]+)", "person01"),
        (["{label}/{who}_{label}_{two}.mp4"], "/([^/_ -]+)[_ -][^/]*$", "anna"),
        (["{label}/red_{who}_{two}.mp4"], "/([^/]+)[_ -][0-9]+[.]", "red_anna"),
        (["{label}/{who}/{two}.mp4"], "^[^/]+/([^/]+)/", "anna"),
        (["{label}/clip{one}{two}.mp4"], None, None),
        (["{label}/{label}_{one}{two}.mp4"], None, None),
        (["{label}/{who}_{two}.mp4", "{label}/{two}.mp4"], None, None),
        (["{label}/{who}  a\u0308_{two}.mp4", "{label}/{who} \u00e4_{two}.mp4"], "/([^/]+)[_ -][0-9]+[.]", "anna ä"),
    ],
)
def test_names_suggest_groups(names: list[str], pattern: str | None, example: str | None) -> None:
    paths = {
        name.format(label=label, one=one, two=two, who=who): label
        for name in names
        for label in ("wave", "bow")
        for one, who in enumerate(("anna", "bert", "carl"), start=1)
        for two in range(4)
    }
    files = [ClipFile(Path(name), name, label, name) for name, label in paths.items()]
    best = next(iter(find_groupings(files)), None)
    assert (best and best.pattern, best and best.groups[0]) == (pattern, example)


def test_a_manifest_names_the_groups(clips: Path) -> None:
    rows = [f"{path.relative_to(clips)},{path.parent.name},{path.stem[9:11]}" for path in clips.glob("*/*.mp4")]
    header = '\ufeff"path","label","group"'  # as spreadsheets write it
    (clips / "clips.csv").write_text("\n".join([header, *rows]), encoding="utf-8")
    (clips / "people.csv").write_text("group,age\n01,30\n")
    (clips / "log.csv").write_text("x" * 200_000)  # more than a field may have
    (clips / "a folder.csv").mkdir()
    found = inspect_folder(clips)
    assert found.manifest == "clips.csv"
    assert (found.groupings[0].pattern, found.groupings[0].groups[0], found.groupings[0].folds) == (None, "01", 5)


def test_what_cannot_be_done_is_one_line_and_nothing_is_written(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flat = clips.with_name("flat")
    (flat / "a").mkdir(parents=True)
    (flat / "x.mp4").touch()
    (flat / "a/y.jpg").touch()
    (clips / "lost").mkdir()
    (clips / "lost/z.mp4").touch()
    twice, odd = clips.with_name("twice"), clips.with_name("odd\x7f")
    for parent in (twice, odd):
        (parent / "a").mkdir(parents=True)
    for name in ("test.csv", "train.csv"):
        (twice / name).write_text("path,label\n")
    before = sorted(EXPERIMENTS.iterdir())
    for folder, name, expected in (
        (flat, "", "no clips, but 1 clips in no class folder, 1 .jpg; expected"),
        (clips, "", "and none of class lost; .* 1 cannot, such as lost/z.mp4: damaged"),
        (clips / "nowhere", "", "no such folder"),
        (twice, "", "test.csv and train.csv both list clips; join them"),
        (odd, "", "a name that params.yaml cannot hold; rename it"),
        ("", "", "FOLDER: name the folder"),
        (clips, "folder", "experiments/folder.yaml: exists; add another name to the command, as NAME=folder-2, "),
        (clips, "../x", "NAME: ../x: not a name of letters"),
    ):
        with pytest.raises(UserError, match=expected):
            run_inspect(monkeypatch, folder, name)
    assert sorted(EXPERIMENTS.iterdir()) == before
