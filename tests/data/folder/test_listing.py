"""Clips are found in class folders and by a manifest; what cannot be used is named, with the reason."""

import errno
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from motionbench.core.errors import UserError
from motionbench.data.folder.listing import BadClip, ClipFile, list_clips


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"a video, for all that listing knows")


def manifest(folder: Path, content: str) -> None:
    (folder / "clips.csv").write_text(content, encoding="utf-8", newline="")


def names(clips: list[ClipFile]) -> list[str]:
    return [clip.name for clip in clips]


def refusal(folder: Path, name: str | None = None, group: str | None = None) -> str:
    with pytest.raises(UserError) as refused:
        list_clips(folder, name, group)
    assert str(refused.value).isprintable(), "one line"
    return str(refused.value)


def test_class_folders_are_listed_by_name(tmp_path: Path) -> None:
    expected = ["-dash/-x.mp4", "wave/b c.mp4", "wave/deep/er/a.mp4", "über/ä.mp4"]
    write(tmp_path, *reversed(expected))
    clips, bad = list_clips(tmp_path, None, None)
    assert not bad
    assert names(clips) == sorted(expected)
    assert [clip.label for clip in clips] == ["-dash", "wave", "wave", "über"]
    assert [clip.group for clip in clips] == names(clips), "each file is a group"
    assert all(clip.path == tmp_path / clip.name and clip.path.is_file() for clip in clips)
    assert {(clip.split, clip.start, clip.end) for clip in clips} == {(None, None, None)}


def test_hidden_names_are_ignored_at_any_level(tmp_path: Path) -> None:
    write(tmp_path, ".gitignore", ".cache/a.mp4", "wave/.DS_Store", "wave/._a.mp4", "wave/.old/a.mp4", "wave/a.mp4")
    clips, bad = list_clips(tmp_path, None, None)
    assert (names(clips), bad) == (["wave/a.mp4"], [])


def test_a_folder_that_cannot_be_read_is_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "bow/a.mp4", "wave/mine/b.mp4")
    scan = os.scandir

    def refuse(place: str) -> Any:
        if place.endswith("mine"):
            raise PermissionError(errno.EACCES, "Permission denied", place)
        return scan(place)

    monkeypatch.setattr(os, "scandir", refuse)  # permissions do not bind root
    with pytest.raises(PermissionError, match="mine"):
        list_clips(tmp_path, None, None)


def test_files_outside_class_folders_are_bad_and_empty_classes_refused(tmp_path: Path) -> None:
    write(tmp_path, "wave/a.mp4", "b.mp4")
    clips, [bad] = list_clips(tmp_path, None, None)
    assert names(clips) == ["wave/a.mp4"]
    assert (bad.name, bad.reason.split(";")[0]) == ("b.mp4", "lies in no class folder")
    empty = f"{tmp_path}/nod: an empty class: "
    out = f"; put clips there, or take it out of {tmp_path}"
    pictures = "; each clip is one file: frames as pictures must become a video"
    (tmp_path / "nod").mkdir()
    assert refusal(tmp_path) == f"{empty}no files{out}"
    write(tmp_path, "nod/.gitkeep", "nod/clip1/1.jpg", "nod/clip1/2.JPG")
    assert refusal(tmp_path) == f"{empty}2 .jpg{out}{pictures}"
    write(tmp_path, "nod/a.MXF")
    converted = "; such videos must be converted: ffmpeg -i a.mxf a.mp4"
    assert refusal(tmp_path) == f"{empty}2 .jpg, 1 .mxf{out}{converted}{pictures}"


def test_folders_without_clips_are_no_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "wave/a.mp4", "bow/b.mp4", "bow/c.m2v", "notes/day 1.txt", "notes/day 2/a.txt", "labels/a.csv")
    write(tmp_path, "__MACOSX/wave/._a.mp4", "$RECYCLE.BIN/S-1/a.mp4", "wave/@eaDir/a.mp4/SYNOINDEX.mp4")
    write(tmp_path, "THMBNL/C0001T01.JPG", "Thumbnails/1.jpg")
    write(tmp_path, "plans/a.png", "plans/a.md")
    clips, bad = list_clips(tmp_path, None, None)
    assert (names(clips), bad) == (["bow/b.mp4", "wave/a.mp4"], [])
    assert capsys.readouterr().err == (
        f"warning: {tmp_path}: files that are no clips: 2 .txt, 1 .m2v, 1 .csv, 1 .md, 1 .png; "
        "no classes, since they have no clips: labels, notes, plans; such videos must be converted: "
        "ffmpeg -i a.m2v a.mp4\n"
    )


def test_other_files_are_named_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    others = ["GL01.LRV", "GL02.lrv", "GX01.THM", "a.srt", "Thumbs.db", "b.mp4.part", "noending"]
    write(tmp_path, "wave/a.MP4", "bow/b.3gp", "readme.txt", *(f"wave/{name}" for name in others))
    clips, bad = list_clips(tmp_path, None, None)
    assert (names(clips), bad) == (["bow/b.3gp", "wave/a.MP4"], [])
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {tmp_path}: files that are no clips: 2 .lrv, 1 ")
    assert line.endswith(", 8 in all")
    write(tmp_path / "frames", *(f"{label}/clip1/{number:04}.jpg" for label in "ab" for number in range(300)))
    assert "no clips, but 600 .jpg; expected" in refusal(tmp_path / "frames")
    assert "frames as pictures must become a video" in refusal(tmp_path / "frames")
    write(tmp_path / "raw", "a/1.mxf", "a/2.m2v", "b/3.mxf")
    assert "no clips, but 2 .mxf, 1 .m2v; expected" in refusal(tmp_path / "raw")
    assert refusal(tmp_path / "raw").endswith("; such videos must be converted: ffmpeg -i a.m2v a.mp4")


SPLITS = [
    *(["train", "test"], ["Training", "Val", "wave"], ["train_set", "test_set"], ["TrainSet", "dev-set"]),
    *(["Training", "Testing1"], ["train1", "train2", "valid 1"], ["train_data", "test_split_2"]),
]


@pytest.mark.parametrize("splits", SPLITS)
def test_folders_of_splits_are_no_classes(splits: list[str], tmp_path: Path) -> None:
    write(tmp_path, *(f"{split}/wave/a.mp4" for split in splits))
    manifest = (
        "in a CSV file with the columns path,label,split, and name it in folder.manifest; for classes without split"
    )
    assert manifest in refusal(tmp_path)


def test_classes_may_have_names_like_those_of_splits(tmp_path: Path) -> None:
    expected = ["plane/a.mp4", "test_drive/a.mp4", "train/a.mp4", "train_station/a.mp4"]
    write(tmp_path, *expected)
    assert names(list_clips(tmp_path, None, None)[0]) == expected


def test_splits_below_the_classes_are_not_used_and_a_line_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "bow/train/a.mp4", "bow/deep/test/a.mp4", "wave/Train/a.mp4")
    list_clips(tmp_path, None, None)
    assert capsys.readouterr().err == ""
    write(tmp_path, "bow/test/b.mp4", "wave/Test/b.mp4")
    assert len(list_clips(tmp_path, None, None)[0]) == 5
    assert capsys.readouterr().err == (
        f"warning: {tmp_path}: the splits that folders below the classes name, such as bow/test, are not used; to use "
        "them, list the clips in a CSV file with the columns path,label,split, and name it in folder.manifest\n"
    )


def test_class_folders_and_groups_are_one_in_both_unicode_forms(tmp_path: Path) -> None:
    write(tmp_path, "u\u0308ben/e\u0301_1.mp4", "\u00fcben/\u00e9_2.mp4")
    clips, _ = list_clips(tmp_path, None, "/(e\u0301)")
    assert [(clip.label, clip.group) for clip in clips] == [("\u00fcben", "\u00e9")] * 2
    manifest(tmp_path, "path,label\n\u00fcben/\u00e9_1.mp4,a\nu\u0308ben/e\u0301_2.mp4,b\n")
    clips, bad = list_clips(tmp_path, "clips.csv", None)
    assert (names(clips), bad) == (["u\u0308ben/e\u0301_1.mp4", "\u00fcben/\u00e9_2.mp4"], [])
    write(tmp_path, "e\u0301/\u00e9.mp4")  # copied into a folder from another system
    for path in ("\u00e9/\u00e9.mp4", "e\u0301/e\u0301.mp4", "\u00e9/e\u0301.mp4"):
        manifest(tmp_path, f"path,label\n{path},a\n")
        clips, bad = list_clips(tmp_path, "clips.csv", None)
        assert (names(clips), bad) == (["e\u0301/\u00e9.mp4"], [])


def test_a_folder_without_clips_is_refused_saying_what_is_expected(tmp_path: Path) -> None:
    write(tmp_path, ".gitignore", "file")
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "missing", tmp_path / "file", tmp_path / "empty"):
        assert "make example-clips" in refusal(folder)
        assert str(Path("class-name") / "clip.mp4") in refusal(folder)


def test_the_group_is_what_the_expression_matches_in_the_path(tmp_path: Path) -> None:
    write(tmp_path, "wave/anna_1.mp4", "wave/anna_2.mp4", "bow/bert_1.mp4", "bow/other.mp4", "bow/_1.mp4")
    clips, bad = list_clips(tmp_path, None, r"/([a-z]*)_\d")
    assert {clip.name: clip.group for clip in clips} == {
        "wave/anna_1.mp4": "anna",
        "wave/anna_2.mp4": "anna",
        "bow/bert_1.mp4": "bert",
    }
    assert [entry.name for entry in bad] == ["bow/_1.mp4", "bow/other.mp4"], "an empty group is none"
    assert all("folder.group" in entry.reason for entry in bad)


@pytest.mark.parametrize("group", ["(", "no group", "(two)(groups)", "(?:none)", "(a){99999999999999999999}"])
def test_group_must_be_an_expression_with_one_group(group: str, tmp_path: Path) -> None:
    write(tmp_path, "wave/a.mp4")
    assert refusal(tmp_path, None, group).startswith("folder.group: ")


def test_links_to_files_inside_the_folder_are_followed_and_no_others(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "clips"
    write(outside, "a.mp4", "dir/b.mp4")
    write(folder, ".store/a.mp4", ".store/dir/b.mp4", "wave/real.mp4")
    (folder / "wave/inside.mp4").symlink_to("../.store/a.mp4")
    (folder / "wave/inside").symlink_to("../.store/dir")
    (folder / "bow").symlink_to(".store/dir")  # Seen: two classes swapped without a word.
    (folder / "wave/out.mp4").symlink_to(outside / "a.mp4")
    (folder / "wave/outer").symlink_to(outside / "dir")
    (folder / "wave/broken.mp4").symlink_to("nothing")
    (folder / "wave/self.mp4").symlink_to("self.mp4")
    (folder / "wave/loop").symlink_to("..")
    (tmp_path / "link").symlink_to(folder)
    for start in (folder, tmp_path / "link"):
        clips, bad = list_clips(start, None, None)
        assert names(clips) == ["wave/inside.mp4", "wave/real.mp4"]
        assert {entry.name: entry.reason.split(";")[0].split(" (")[0] for entry in bad} == {
            "wave/broken.mp4": "a link to what is missing",
            "bow": "not a file, or a link to a folder, which DVC does not follow",
            "wave/inside": "not a file, or a link to a folder, which DVC does not follow",
            "wave/loop": "not a file, or a link to a folder, which DVC does not follow",
            "wave/out.mp4": "a link out of the folder",
            "wave/outer": "a link out of the folder",
            "wave/self.mp4": "not readable",
        }


def test_a_file_under_two_names_is_one_clip_but_a_second_label_is_not_left_out(tmp_path: Path) -> None:
    write(tmp_path, "wave/a.mp4")
    (tmp_path / "bow").mkdir()
    (tmp_path / "bow/a.mp4").symlink_to("../wave/a.mp4")
    (tmp_path / "wave/b.mp4").symlink_to("a.mp4")
    clips, bad = list_clips(tmp_path, None, None)
    assert names(clips) == ["bow/a.mp4", "wave/a.mp4"]
    assert bad == [BadClip("wave/b.mp4", "the same clip as wave/a.mp4", "wave")]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_is_bad_since_opening_it_would_wait_for_ever(tmp_path: Path) -> None:
    write(tmp_path, "wave/a.mp4")
    os.mkfifo(tmp_path / "wave/pipe.mp4")
    [bad] = list_clips(tmp_path, None, None)[1]
    assert "not a file" in bad.reason


@pytest.mark.skipif(sys.platform != "linux", reason="names are UTF-8 on this system")
def test_a_name_that_is_not_utf8_is_bad_and_printable(tmp_path: Path) -> None:
    write(tmp_path, "wave/a.mp4", "wave/" + os.fsdecode(b"\xff.mp4"))
    [entry] = list_clips(tmp_path, None, None)[1]
    assert entry == BadClip("wave/\\udcff.mp4", "its name is not UTF-8; rename it", "wave")


def test_a_manifest_names_clips_and_pieces(tmp_path: Path) -> None:
    write(tmp_path, "a, b.mp4", "ä/-c.mp4", "unlisted.mp4")
    content = (
        '\ufeffend,path,label,group,start,split\r\n,"a, b.mp4","say ""hi""",anna,,train\r\n\r\n'
        "2.50,./ä/-c.mp4,007,bert,,test\r\n4,ä//-c.mp4,007,bert,2.5,test\r\n,ä/-c.mp4,007,bert,1234.567,test\r\n"
    )
    manifest(tmp_path, content)
    clips, bad = list_clips(tmp_path, "clips.csv", None)
    assert not bad
    c = tmp_path / "ä/-c.mp4"
    assert clips == [
        ClipFile(tmp_path / "a, b.mp4", "a, b.mp4", 'say "hi"', "anna", "train", None, None),
        ClipFile(c, "ä/-c.mp4 0-2.5 s", "007", "bert", "test", 0.0, 2.5),
        ClipFile(c, "ä/-c.mp4 1234.567 s to the end", "007", "bert", "test", 1234.567, None),
        ClipFile(c, "ä/-c.mp4 2.5-4 s", "007", "bert", "test", 2.5, 4.0),
    ]


def test_pieces_of_a_file_are_one_group_or_take_theirs_from_the_path(tmp_path: Path) -> None:
    write(tmp_path, "x/anna.mp4")
    manifest(tmp_path, "path,label,start,end\nx/anna.mp4,wave,0,1\nx/anna.mp4,bow,1,2\n")
    assert {clip.group for clip in list_clips(tmp_path, "clips.csv", None)[0]} == {"x/anna.mp4"}
    assert {clip.group for clip in list_clips(tmp_path, "clips.csv", r"(\w+)\.mp4$")[0]} == {"anna"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "(none)"),
        ("\n\n", "(none)"),
        ("path,label\n", "no rows"),
        ("path\na.mp4\n", "must name path and label"),
        ("path;label\na.mp4;wave\n", "separated by commas"),
        ("path,label,lable\na.mp4,wave,x\n", "lable"),
        ("path,label,label\na.mp4,wave,bow\n", "each once"),
        ('path,label\n"a.mp4,wave\n', "not readable as CSV"),
        ('path,label\n"a.mp4"x,wave\n', "not readable as CSV"),
        ("path,label\n" + "x" * 200_000 + ",wave\n", "not readable as CSV"),
    ],
)
def test_a_manifest_that_is_not_valid_is_refused(content: str, message: str, tmp_path: Path) -> None:
    write(tmp_path, "a.mp4")
    manifest(tmp_path, content)
    assert message in refusal(tmp_path, "clips.csv")


def test_a_manifest_must_be_utf8_and_in_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    write(folder, "a.mp4", "sub/clips.csv")
    assert "(No such file or directory); write or correct it, or set" in refusal(folder, "clips.csv")
    (folder / "clips.csv").write_bytes("path,label\na.mp4,größe\n".encode("utf-16"))
    assert "not readable as CSV in UTF-8 ('utf-8' codec" in refusal(folder, "clips.csv")
    manifest(tmp_path, "path,label\na.mp4,wave\n")
    for name in ("../clips.csv", str(tmp_path / "clips.csv"), "sub/clips.csv"):
        assert refusal(folder, name).startswith("folder.manifest: ")
    assert "not readable" in refusal(folder, "..")


def test_a_column_group_and_an_expression_exclude_each_other(tmp_path: Path) -> None:
    write(tmp_path, "a.mp4")
    manifest(tmp_path, "path,label,group\na.mp4,wave,anna\n")
    assert refusal(tmp_path, "clips.csv", "(a)").startswith("folder.group: ")


@pytest.mark.parametrize(
    ("columns", "row", "reason"),
    [
        ("path,label", "missing.mp4,wave", "no such file"),
        ("path,label", "sub\\c.mp4,wave", "no such file; write / for each \\"),
        ("path,label", "sub,wave", "not a file"),
        ("path,label", ",wave", "not a file"),
        ("path,label", f"{'x' * 300}.mp4,wave", "not readable"),
        ("path,label", "null\0.mp4,wave", "not readable"),
        ("path,label", "../clips/b.mp4,wave", "out of the folder"),
        ("path,label", "sub/../b.mp4,wave", "out of the folder"),
        ("path,label", "/etc/hostname,wave", "out of the folder"),
        ("path,label", "./a.mp4,wave", "the same clip as clips.csv line 2 (a.mp4)"),
        ("path,label", "b.mp4,", "no label"),
        ("path,label", "b.mp4,  ", "no label"),
        ("path,label", f"b.mp4,{'x' * 101}", "1 to 100 printable characters"),
        ("path,label", "b.mp4,a\x1bb", "1 to 100 printable characters"),
        ("path,label", "b.mp4", "1 fields"),
        ("path,label", "b.mp4,wave,anna", "3 fields"),
        ("path,label,group", "b.mp4,wave,", "no group"),
        ("path,label,split", "b.mp4,wave,training", "split training; expected train, validation, test"),
        ("path,label,split", "b.mp4,wave,", "split (none); expected train, validation, test"),
        ("path,label,start,end", "b.mp4,wave,one,2", "start one is not a time"),
        ("path,label,start,end", "b.mp4,wave,-1,2", "start -1 is not a time"),
        ("path,label,start,end", "b.mp4,wave,nan,2", "start nan is not a time"),
        ("path,label,start,end", "b.mp4,wave,1,inf", "end inf is not a time"),
        ("path,label,start,end", "b.mp4,wave,2,2", "start 2 is not before end 2"),
        ("path,label,start,end", "b.mp4,wave,,0", "start 0 is not before end 0"),
        ("path,label,start,end", "a.mp4,wave,0,", "the same clip as"),
    ],
)
def test_a_bad_row_is_named_by_its_line(columns: str, row: str, reason: str, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    write(folder, "a.mp4", "b.mp4", "sub/c.mp4")
    first = {"path": "a.mp4", "label": "wave", "group": "anna", "split": "train"}
    good = ",".join(first.get(column, "") for column in columns.split(","))
    manifest(folder, f"{columns}\n{good}\n{row}\n")
    clips, [bad] = list_clips(folder, "clips.csv", None)
    assert [clip.path.name for clip in clips] == ["a.mp4"]
    assert bad.name.startswith("clips.csv line 3")
    assert reason in bad.reason


def test_rows_that_a_spreadsheet_leaves_empty_are_no_clips(tmp_path: Path) -> None:
    write(tmp_path, "a.mp4", "b.mp4")
    manifest(tmp_path, ",\npath,label\n\na.mp4,wave\n,\nb.mp4,bow\n,\n   \n  , \n")
    clips, bad = list_clips(tmp_path, "clips.csv", None)
    assert (names(clips), bad) == (["a.mp4", "b.mp4"], [])


def test_blanks_around_cells_empty_columns_and_case_of_splits_do_not_matter(tmp_path: Path) -> None:
    write(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    manifest(
        tmp_path,
        "path, label ,split,start , end,,\na.mp4, wave, train,,,,\n b.mp4 ,bow,Test, 1,2 ,,\nc.mp4,bow,TRAIN ,,,,x\n",
    )
    clips, bad = list_clips(tmp_path, "clips.csv", None)
    assert not bad
    assert [(clip.name, clip.label, clip.split) for clip in clips] == [
        ("a.mp4", "wave", "train"),
        ("b.mp4 1-2 s", "bow", "test"),
        ("c.mp4", "bow", "train"),
    ]


def test_a_split_column_that_is_empty_says_nothing(tmp_path: Path) -> None:
    write(tmp_path, "a.mp4")
    manifest(tmp_path, "path,label,split\na.mp4,wave,\n")
    clips, bad = list_clips(tmp_path, "clips.csv", None)
    assert ([clip.split for clip in clips], bad) == ([None], [])


def test_a_group_in_two_given_splits_is_bad(tmp_path: Path) -> None:
    write(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    manifest(
        tmp_path,
        "path,label,group,split\na.mp4,wave,anna,train\nb.mp4,wave,anna,test\nc.mp4,wave,bert,test\n",
    )
    clips, bad = list_clips(tmp_path, "clips.csv", None)
    assert names(clips) == ["c.mp4"]
    assert [entry.name for entry in bad] == ["clips.csv line 2 (a.mp4)", "clips.csv line 3 (b.mp4)"]
    assert {entry.reason for entry in bad} == {"group anna is in the splits test and train; it must be in one"}
