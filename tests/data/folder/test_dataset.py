"""A folder of video files becomes a data set."""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from motionbench.core.errors import UserError, printable
from motionbench.data.decoding import Facts, decode_clip
from motionbench.data.folder.dataset import read_folder
from motionbench.data.folder.params import FolderParams
from motionbench.data.params import DataParams, Preprocessing
from motionbench.data.splits import DatasetInfo, Split, read_dataset_info, read_split, write_dataset
from tests.data.folder.recordings import LABELS, PEOPLE, WIDTH, record, record_everyone

pytestmark = pytest.mark.usefixtures("working_directory")

DATA: dict[str, Any] = {"source": "folder", "frames": 4, "height": 12, "width": 12, "colour": "grey"}
FOLDER: dict[str, Any] = {
    "path": "clips",
    "manifest": None,
    "group": r"/([a-z]+)_",
    "folds": None,
    "seed": 0,
    "resize": "pad",
    "max_pixels": 1_000_000,
    "on_bad": "refuse",
    "reversed_labels": None,
    "flipped_labels": None,
    "mirrored_labels": None,
}


class Generated(NamedTuple):
    """What was written: by part, its clips and the table of them."""

    info: DatasetInfo
    splits: dict[str, Split]
    tables: dict[str, pd.DataFrame]

    def part_of_clip(self) -> dict[str, str]:
        return {clip: part for part, table in self.tables.items() for clip in table["clip"]}

    def groups(self) -> list[set[str]]:
        return [set(table["group"]) for table in self.tables.values()]


def generate(**changes: Any) -> Generated:
    """Write the clips of all parts with other values of some keys of the sections data and folder."""
    data, section = ({key: changes.get(key, value) for key, value in keys.items()} for keys in (DATA, FOLDER))
    write_dataset(read_folder(DataParams(**data), FolderParams(**section)))
    folders = {path.parent.name: path.parent for path in sorted(Path("data").rglob("clips.npy"))}
    tables = {part: pd.read_csv(folder / "clips.csv") for part, folder in folders.items()}
    # What is mapped stays readable when the next data set takes its place.
    return Generated(read_dataset_info(), {part: read_split(folder) for part, folder in folders.items()}, tables)


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")  # each process takes a second to start


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        record_everyone(Path("clips"))
    return folder / "clips"


@pytest.fixture
def clips(recorded: Path, working_directory: Path) -> Path:
    """A folder of two takes of each of two classes by each of three people."""
    return Path(shutil.copytree(recorded, working_directory / "clips"))


EVERYONE = [f"{label}/{person}_{take}.mp4" for label in LABELS for person in PEOPLE for take in range(2)]


@pytest.mark.usefixtures("clips")
@pytest.mark.parametrize("changes", [{}, {"colour": "rgb", "resize": "crop"}, {"resize": "stretch"}])
def test_parts_hold_what_decoding_gives_in_the_order_of_names(
    changes: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    preprocessing = Preprocessing(**{key: {**DATA, **FOLDER, **changes}[key] for key in Preprocessing._fields})
    generated = generate(**changes)
    assert list(generated.splits) == ["test", "train", "validation"]
    assert sorted(generated.part_of_clip()) == EVERYONE, "each clip is in one part"
    assert sorted(map(len, generated.groups())) == [1, 1, 1], "whole groups"
    for part, split in generated.splits.items():
        table = generated.tables[part]
        assert table["clip"].tolist() == sorted(table["clip"])
        assert split.class_names == ("bow", "wave"), "sorted"
        assert [split.class_names[label] for label in split.labels] == [clip.split("/")[0] for clip in table["clip"]]
        assert table["group"].tolist() == [clip.split("/")[1].split("_")[0] for clip in table["clip"]]
        for clip, (_, row) in zip(split.clips, table.iterrows(), strict=True):
            pixels, facts = decode_clip(Path("clips", row["clip"]), preprocessing)
            np.testing.assert_array_equal(clip, pixels)
            assert row[list(Facts._fields)].to_dict() == facts._asdict()
    assert generated.info == DatasetInfo(source="folder", folds=0, resize=preprocessing.resize, seconds=6 / 25)
    printed = capsys.readouterr()
    assert printed.err == ""
    assert [line.split() for line in printed.out.splitlines()[2:5]] == [[person, "2", "2"] for person in PEOPLE]


def add_bad_ones(clips: Path) -> dict[str, str]:
    """Add what cannot be used, and return the reasons that are expected, or how they begin, by name."""
    (clips / "bow/anna_\x1b[31m\n.mp4").write_text("text")
    (clips / "wave/anna_1.mp4").write_bytes((clips / "wave/anna_1.mp4").read_bytes()[:-400])
    (clips / "wave/nobody.mp4").write_text("text")
    (clips / "a.mp4").write_text("text")
    return {
        "a.mp4": "lies in no class folder; ",
        "bow/anna_\\x1b[31m\\n.mp4": "damaged, cut off or no video (",
        "wave/anna_1.mp4": "damaged, cut off or no video (",
        "wave/nobody.mp4": "folder.group: /([a-z]+)_ does not match its path",
    }


def test_all_bad_files_are_named_before_the_refusal(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = add_bad_ones(clips)
    with pytest.raises(UserError) as refused:
        generate()
    assert str(refused.value) == (
        "clips: 4 of 15 clips cannot be used, as listed above; fix or remove them, or leave them out: folder.on_bad: "
        "skip"
    )
    lines = capsys.readouterr().err.splitlines()
    for line, (name, reason) in zip(lines, expected.items(), strict=True):
        assert line.startswith(f"bad clip: {name}: {reason}")
        assert line.isprintable()


def test_bad_files_are_left_out_and_recorded(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = add_bad_ones(clips)
    generated = generate(on_bad="skip")
    assert sorted(generated.part_of_clip()) == [name for name in EVERYONE if name != "wave/anna_1.mp4"]
    assert {name for split in generated.splits.values() for name in split.class_names} == set(LABELS)
    skipped = generated.info.skipped
    assert [printable(name) for name in skipped] == list(expected)
    assert all(reason.startswith(expected[printable(name)]) for name, reason in skipped.items())
    assert len(capsys.readouterr().err.splitlines()) == 4


def test_a_class_is_not_left_out_and_fewer_than_two_are_refused(clips: Path) -> None:
    # All its files are damaged, or links to nothing, or it is empty.
    (clips / "notes").mkdir()
    (clips / "notes/day.txt").write_text("text")
    assert len(generate(on_bad="skip").part_of_clip()) == 12, "no class"
    for content in ("text", None):
        for path in (clips / "wave").iterdir():
            path.unlink()
            path.write_text("text") if content else path.symlink_to("nothing")
        with pytest.raises(UserError, match=r"^clips: none of the clips of class wave can be used, as listed above; "):
            generate(on_bad="skip")
    shutil.rmtree(clips / "wave")
    (clips / "yawn").mkdir()
    for value in ("refuse", "skip"):
        with pytest.raises(UserError, match=r"^clips/yawn: an empty class: no files; put clips there, or take it out "):
            generate(on_bad=value)
    (clips / "yawn").rmdir()
    with pytest.raises(UserError, match=r"^clips: 1 classes with clips that can be used; at least 2 are needed$"):
        generate()


@pytest.mark.usefixtures("clips")
def test_groups_of_one_class_are_warned_of_where_an_expression_makes_them() -> None:
    for group in (r"(.+)_[0-9]", "(.+)"):
        [warning] = generate(group=group).info.warnings
        assert warning.startswith(f"folder.group: {group}: each group has clips of one class; where people")
    assert generate(group=None).info.warnings == generate(group="(anna|bert|carl)").info.warnings == []


def test_names_are_one_in_both_unicode_forms_with_any_blanks_and_case_is_warned_of(clips: Path) -> None:
    named = {
        "bow/anna": "Gru\u0308ßen,Zoe\u0301",
        "bow/bert": "Gr\u00fcßen , Bert  B.",
        "bow/carl": "\u00a0Gr\u00fcßen,carl",
        "wave/anna": "wink,Zo\u00e9 ",
        "wave/bert": "wink,Bert B.",
        "wave/carl": "wink,Carl",
    }
    lines = ["path,label,group", *(f"{path}_{take}.mp4,{names}" for path, names in named.items() for take in range(2))]
    (clips / "list.csv").write_text("\n".join(lines), encoding="utf-8")
    generated = generate(manifest="list.csv", group=None, reversed_labels=[["Gru\u0308ßen", " wink"]])
    assert {name for split in generated.splits.values() for name in split.class_names} == {"Gr\u00fcßen", "wink"}
    assert set.union(*generated.groups()) == {"Zo\u00e9", "Bert B.", "Carl", "carl"}
    assert generated.info.label_maps["reversed"]["wink"] == "Gr\u00fcßen"
    assert generated.info.warnings == ["groups that differ in upper and lower case only: Carl and carl"]


def test_copies_are_refused_where_labels_or_parts_differ(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(clips / "bow/anna_0.mp4", clips / "bow/anna_2.mp4")
    assert len(generate().part_of_clip()) == 13, "the same label and part"
    (clips / "bow/anna_2.mp4").rename(clips / "bow/bert_2.mp4")
    for folds in (None, 3):
        with pytest.raises(UserError, match=r"^folder.path: .* differ in part, .*: folder.group, or the manifest's"):
            generate(folds=folds)
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("the same content: bow/anna_0.mp4 (part ")
    (clips / "bow/bert_2.mp4").rename(clips / "wave/anna_2.mp4")
    with pytest.raises(UserError, match=r"^folder.path: .* differ in label, .*; delete .* with the wrong label$"):
        generate(on_bad="skip")
    assert capsys.readouterr().err == "the same content: bow/anna_0.mp4 (label bow), wave/anna_2.mp4 (label wave)\n"


def test_pieces_that_overlap_are_refused_in_two_parts(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{label}/anna_1.mp4,{label},{group},0.0{group}," for label in LABELS for group in range(5)]
    (clips / "list.csv").write_text("\n".join(["path,label,group,start,end", *rows]), encoding="utf-8")
    with pytest.raises(UserError, match=r"^folder.path: pieces that overlap are in two parts, .* column group$"):
        generate(manifest="list.csv", group=None)
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert all(line.startswith("the same frames: ") for line in lines)


def test_equal_pixels_are_warned_of(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = (clips / "bow/anna_0.mp4").read_bytes()
    (clips / "bow/bert_2.mp4").write_bytes(content + b"\0\0\0\x08free")  # an empty box at the end
    warning = generate().info.duplicates
    assert warning == "equal pixels from different files: bow/anna_0.mp4 and bow/bert_2.mp4 (parts differ)"
    assert capsys.readouterr().err == f"warning: {warning}\n"


def test_files_that_may_mislead_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    record_everyone(Path("clips"), takes=3)
    for label in LABELS:
        for person in PEOPLE:
            record(Path("clips", label, f"{person}_0.mp4"), times=[0])
    record(Path("clips/wave/bert_1.mp4"), times=[0, 1, 2, 3, 9, 12])
    # One person has a slow camera of another size, for all classes.
    for path in Path("clips").glob("*/carl_*.mp4"):
        record(path, width=2 * WIDTH, times=range(0, 12, 2))
    record(Path("clips/bow/carl_0.mp4"), width=2 * WIDTH, times=[0])
    record(Path("clips/wave/carl_0.mp4"), width=2 * WIDTH, times=[0])
    generated = generate()
    warnings = generated.info.warnings
    assert warnings == [
        "bow/anna_0.mp4, bow/bert_0.mp4, bow/carl_0.mp4, wave/anna_0.mp4, wave/bert_0.mp4 and 1 more: one frame only, "
        "so that nothing moves",
        "wave/bert_1.mp4: the frame rate varies; frames are taken by time",
    ]
    assert capsys.readouterr().err.splitlines() == [f"warning: {warning}" for warning in warnings]
    seconds = pd.concat(generated.tables.values())["seconds"]
    assert generated.info.seconds == seconds.median() != seconds.mean()


def test_rates_and_sizes_that_go_with_the_class_are_named() -> None:
    for person in PEOPLE:
        for take in range(3):
            record(Path(f"clips/bow/{person}_{take}.mp4"), times=range(0, 12, 2))
            record(Path(f"clips/wave/{person}_{take}.mp4"), width=2 * WIDTH)
    # One exception hides nothing.
    record(Path("clips/bow/anna_0.mp4"), width=2 * WIDTH, times=range(0, 12, 2))
    rates, sizes, proportions = generate().info.warnings
    assert rates.startswith(
        "frame rates go with the class (bow mostly 13.64 per second, wave mostly 25 per second), so"
    )
    assert sizes.startswith("frame sizes go with the class (bow mostly 32x24, wave mostly 64x24), so")
    assert proportions.startswith("frame proportions (width / height) go with the class (bow mostly 1.33, wave mostly")


def test_another_folder_and_a_manifest_are_read(clips: Path) -> None:
    clips.rename("others")
    assert len(generate(path=str(Path("others").absolute())).part_of_clip()) == 12
    rows = [f"{label}/{person}_1.mp4,not {label}" for label in LABELS for person in PEOPLE]
    Path("others/list.csv").write_text("\n".join(["path,label", *rows]), encoding="utf-8")
    generated = generate(path="others", manifest="list.csv")
    assert sorted(generated.part_of_clip()) == [row.split(",")[0] for row in rows]
    assert {name for split in generated.splits.values() for name in split.class_names} == {"not bow", "not wave"}


@pytest.mark.usefixtures("clips")
def test_folds_take_the_place_of_splits() -> None:
    for value in (3, "leave_one_group_out"):
        generated = generate(folds=value)
        assert list(generated.splits) == ["0", "1", "2"]
        assert generated.info.folds == 3
        assert sorted(map(len, generated.groups())) == [1, 1, 1]
    assert generated.groups() == [{person} for person in PEOPLE]


@pytest.mark.usefixtures("clips")
def test_the_seed_deals_and_by_default_each_clip_is_a_group() -> None:
    ways = [generate(group=None, seed=value) for value in (0, 1, 0)]
    assert ways[0].part_of_clip() == ways[2].part_of_clip() != ways[1].part_of_clip()
    assert set.union(*ways[0].groups()) == ways[0].part_of_clip().keys()


def test_frames_of_more_pixels_than_allowed_are_bad(clips: Path) -> None:
    record(clips / "bow/anna_2.mp4", height=64, width=128)
    with pytest.raises(UserError, match="1 of 13 clips"):
        generate(max_pixels=64 * 128 - 1)
    assert len(generate(max_pixels=64 * 128).part_of_clip()) == 13


@pytest.mark.usefixtures("clips")
def test_labels_that_swap_are_recorded_and_those_of_no_clip_refused() -> None:
    maps = {"reversed": [["wave", "bow"]], "flipped": [], "mirrored": None}
    keys = {f"{change}_labels": pairs for change, pairs in maps.items()}
    assert generate(**keys).info.label_maps == {"reversed": {"wave": "bow", "bow": "wave"}, "flipped": {}}
    with pytest.raises(UserError) as refused:
        generate(mirrored_labels=[["wave", "bow"], ["yawn", "nod"]])
    assert str(refused.value) == (
        "params.yaml: folder.mirrored_labels: nod is not a class of the clips in clips; their classes are bow, wave"
    )
