"""The section folder: which values it takes, and which clips a clone of the repository would lack."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from motionbench.core.errors import UserError
from motionbench.core.processes import git
from motionbench.data.folder.params import FolderParams
from motionbench.params.schema import Params

Load = Callable[[dict[str, Any]], Params]

CHANGES = ("reversed", "flipped", "mirrored")
FOLDS = "must be a number from 3 to 100, leave_one_group_out or null"
SWAPS = "pairs of classes that swap, each class in one pair, as in [[opening, closing]], or [] or null"
REFUSED: list[tuple[str, Any, str]] = [
    ("path", "", "folder.path: '' is not allowed: string should have at least 1 character"),
    ("path", "../clips", "folder.path: '../clips' is not allowed: must be a path in the repository, or an absolute"),
    ("path", "data/../../clips", "folder.path: 'data/../../clips' is not allowed"),
    ("manifest", "", "folder.manifest: '' is not allowed"),
    ("group", "", "folder.group: '' is not allowed"),
    ("group", "(" * 1001, "folder.group: '((("),
    ("folds", 2, f"folder.folds: 2 is not allowed: {FOLDS}"),
    ("folds", 0, f"folder.folds: 0 is not allowed: {FOLDS}"),
    ("folds", 101, f"folder.folds: 101 is not allowed: {FOLDS}"),
    ("folds", "3", f"folder.folds: 3 is not allowed: {FOLDS}"),
    ("folds", "leave_one_out", f"folder.folds: leave_one_out is not allowed: {FOLDS}"),
    ("folds", 5.0, f"folder.folds: 5.0 is not allowed: {FOLDS}"),
    ("folds", True, f"folder.folds: True is not allowed: {FOLDS}"),
    ("folds", [3], f"folder.folds: [3] is not allowed: {FOLDS}"),
    ("seed", -1, "folder.seed: -1 is not allowed"),
    ("resize", "zoom", "folder.resize: 'zoom' is not allowed: input should be 'pad', 'crop' or 'stretch'"),
    ("max_pixels", 0, "folder.max_pixels: 0 is not allowed"),
    ("max_pixels", 10**9 + 1, "folder.max_pixels: 1000000001 is not allowed"),
    ("reversed_labels", {}, f"folder.reversed_labels: {{}} is not allowed: must be {SWAPS}"),
    (
        "reversed_labels",
        ["left", "right"],
        f"folder.reversed_labels: ['left', 'right'] is not allowed: must be {SWAPS}",
    ),
    ("flipped_labels", [["up", "down", "up"]], "folder.flipped_labels: [['up', 'down', 'up']] is not allowed"),
    ("flipped_labels", [["up", ""]], "folder.flipped_labels: [['up', '']] is not allowed"),
    ("flipped_labels", [["up", 1]], "folder.flipped_labels: [['up', 1]] is not allowed"),
    ("mirrored_labels", [["up", "up"]], f"folder.mirrored_labels: [['up', 'up']] is not allowed: must be {SWAPS}"),
    ("mirrored_labels", [["a", "b"], ["c", "a"]], "folder.mirrored_labels: [['a', 'b'], ['c', 'a']] is not allowed"),
    ("on_bad", "ignore", "folder.on_bad: 'ignore' is not allowed: input should be 'refuse' or 'skip'"),
]


@pytest.mark.parametrize("source", ["folder", "synthetic"])
@pytest.mark.parametrize(("key", "value", "message"), REFUSED)
def test_bad_values_are_refused_in_one_line(key: str, value: Any, message: str, source: str, params_with: Load) -> None:
    with pytest.raises(UserError) as refused:
        params_with({"data.source": source, f"folder.{key}": value})
    assert str(refused.value).startswith(f"params.yaml: {message}")
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("path", ["data/clips", "/some/where", "a b/c", "..clips"]),
        ("manifest", [None, "clips.csv"]),
        ("group", [None, r"(person\d+)"]),
        ("folds", [None, 3, 100, "leave_one_group_out"]),
        ("max_pixels", [1, 10**9]),
        *((f"{change}_labels", [None, [], [["a", "b"], ["c d", "e.f"]]]) for change in CHANGES),
    ],
)
def test_good_values_are_accepted_as_they_are(key: str, values: list[Any], params_with: Load) -> None:
    for value in values:
        assert getattr(params_with({"data.source": "folder", f"folder.{key}": value}).dataset(), key) == value


@pytest.fixture
def repository(working_directory: Path) -> Path:
    """A git repository that ignores the content of data/clips, in which two classes are."""
    git("init", "--quiet")
    for name in ("bow/a.mp4", "wave/b.mp4"):
        (working_directory / "data/clips" / name).parent.mkdir(parents=True)
        (working_directory / "data/clips" / name).write_bytes(b"a video")
    (working_directory / "data/clips/.gitignore").write_text("*\n!.gitignore\n")
    git("add", "--all")
    return working_directory


def section(params_with: Load, path: str) -> FolderParams:
    params = params_with({"data.source": "folder", "folder.path": path}).dataset()
    assert isinstance(params, FolderParams)
    return params


def test_a_clone_lacks_the_clips_that_git_ignores(repository: Path, params_with: Load) -> None:
    assert section(params_with, "data/clips").untracked_clips() == [Path("data/clips/bow"), Path("data/clips/wave")]
    git("add", "--force", "data/clips/bow/a.mp4", "data/clips/wave/b.mp4")
    assert section(params_with, "data/clips").untracked_clips() == []
    (repository / "elsewhere").mkdir()
    assert section(params_with, "elsewhere").untracked_clips() == [Path("elsewhere")]


def test_a_clone_sees_what_lies_outside_the_repository(repository: Path, params_with: Load) -> None:
    assert section(params_with, str(repository / "data/clips")).untracked_clips() == []
    assert section(params_with, "missing").untracked_clips() == []
    assert params_with({}).dataset().untracked_clips() == [], "clips that are drawn come from no files"
