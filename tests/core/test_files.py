import shutil
import unicodedata
from pathlib import Path

import pytest

from motionbench.core.errors import UserError
from motionbench.core.files import atomic_outputs, file_md5s, file_stem, path_md5, read_yaml
from tests.conftest import ROOT

OF_SYSTEMS = (
    *("b/.DS_Store", "b/._c.txt", "b/.directory", "b/.dropbox", "b/.nomedia", "b/.~lock.clips.csv#", "b/.picasa.ini"),
    *("b/Thumbs.db", "thumbs.db", "b/ehthumbs.db", "b/Desktop.ini", "b/Picasa.ini", "b/~$clips.xlsx"),
    *(".fseventsd/0", ".Spotlight-V100/a", ".thumbnails/1.jpg", ".Trash-1000/a.mp4", ".Trashes/501/a.mp4"),
    *("$RECYCLE.BIN/$R1.mp4", "b/@eaDir/c.txt@SynoEAStream", "__MACOSX/b/c.txt", "lost+found/1", "THMBNL/1.JPG"),
    *("System Volume Information/a", "Thumbnails/1.jpg"),
)


def test_outputs_are_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    folder, file = tmp_path / "models", tmp_path / "timing" / "model.json"
    for content in ("old", "new"):
        with atomic_outputs(folder, file) as (new_folder, new_file):
            (new_folder / content).touch()
            new_file.write_text(content, encoding="utf-8")
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert file.read_text(encoding="utf-8") == "new"

    def write_half() -> None:
        with atomic_outputs(folder, file) as (new_folder, _):
            (new_folder / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models", "timing"]
    assert [path.name for path in file.parent.iterdir()] == ["model.json"]


def test_names_that_people_give_become_names_of_files() -> None:
    assert [file_stem(name, 3) for name in ("sine", "two words", "Übung", "dot.in-it", "张")] == [
        "sine",
        "two words",
        "Übung",
        "dot.in-it",
        "张",
    ]
    assert file_stem("a/b (c)", 3) == "a_b _c_~3"
    assert file_stem(" a", 3) == "a~3"
    decomposed = unicodedata.normalize("NFD", "Übung")
    assert file_stem(decomposed, 3) == "Übung~3"
    assert file_stem("🤸", 3) == "_~3"
    assert file_stem("张" * 90, 12) == f"{'张' * 66}~12"


def test_what_a_kill_left_is_removed_next_time(tmp_path: Path) -> None:
    for leftover in (".partial.models", ".partial.old.models"):
        (tmp_path / leftover).mkdir()
        (tmp_path / leftover / "half").touch()
    with atomic_outputs(tmp_path / "models") as (folder,):
        assert list(folder.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_md5s_are_those_of_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / ".dvcignore", tmp_path)
    folder = tmp_path / "folder"
    for path, content in {
        "a.txt": "one",
        "b/c.txt": "two",
        "b.txt": "three",
        "__pycache__/d.pyc": "four",
        **dict.fromkeys(OF_SYSTEMS, "what a system adds"),
    }.items():
        (folder / path).parent.mkdir(exist_ok=True, parents=True)
        (folder / path).write_text(content, encoding="utf-8")
    (folder / ".git").mkdir()
    (folder / ".git/HEAD").touch()
    # `dvc add` of such a folder writes this.
    assert path_md5(folder) == path_md5(Path("folder")) == "8e889f79fc97e41251d15c6387217807.dir"
    assert path_md5(folder / "a.txt") == "f97c5d29941bfb1b2fdab0874906ab82"
    assert names(folder) == ["a.txt", "b.txt", "b/c.txt"]
    # Seen: outside the repository DVC ignores nothing, so that a folder that is a repository, too, could not be used.
    monkeypatch.chdir(ROOT)
    others = ["a.txt", "b.txt", "b/c.txt", ".git/HEAD", "__pycache__/d.pyc"]
    assert names(folder) == sorted([*others, *OF_SYSTEMS])


def names(folder: Path) -> list[str]:
    return [Path(file).relative_to(folder).as_posix() for file in file_md5s(folder)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "run from the repository's root"),
        ("a: {", "line 1: not readable as YAML"),
        ("!!int x", "not readable as YAML"),
    ],
)
def test_unreadable_yaml_is_refused_in_one_line(text: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as refused:
        read_yaml(path)
    assert str(refused.value).startswith(str(path))
    assert message in str(refused.value)
    assert str(refused.value).isprintable()
