import platform
from pathlib import Path

import pytest

from motionbench.core.errors import UserError
from motionbench.core.processes import describe_environment, git, is_gone, this_process, untracked


def test_the_environment_names_what_changes_weights() -> None:
    described = describe_environment()
    assert any(each.startswith("SIMD ") and len(each.split()) > 1 for each in described)
    assert f"Python {platform.python_version()}" in described
    assert {"keras", "numpy", "tensorflow"} <= {each.partition(" ")[0] for each in described}


def test_a_process_is_known_by_more_than_its_number() -> None:
    assert not is_gone(this_process())
    assert is_gone({**this_process(), "started": "1"}), "another with the same number"
    assert not is_gone({**this_process(), "host": "elsewhere", "started": "1"}), "nothing is known of it"


def write(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


@pytest.mark.usefixtures("working_directory")
def test_what_git_does_not_have_of_a_folder_is_found_whether_it_is_ignored_or_not() -> None:
    git("init", "--quiet")
    write("clips/.gitignore", "clips/bow/1.mp4", "clips/bow/2.mp4", "clips/[a]/ü b.mp4", "clips/a", "other/1.mp4")
    assert untracked(Path("clips")) == [Path("clips")]
    assert untracked(Path("clips/[a]")) == [Path("clips/[a]")], "and not clips/a, as a pattern would"
    Path("clips/.gitignore").write_text("bow\n")
    git("add", "clips/.gitignore", "clips/a")
    assert untracked(Path("clips")) == [Path("clips/[a]"), Path("clips/bow")]
    git("add", "--force", "clips/bow/1.mp4", "clips/[a]/ü b.mp4")
    assert untracked(Path("clips")) == [Path("clips/bow/2.mp4")]
    git("add", "--force", "clips")
    assert untracked(Path("clips")) == []
    assert untracked(Path("other")) == [Path("other")]


def test_outside_a_repository_git_is_an_error_in_one_line(working_directory: Path) -> None:
    (working_directory / "clips").mkdir()
    with pytest.raises(UserError, match=r"^git .*: fatal: not a git repository .*; run inside a clone of the reposito"):
        untracked(Path("clips"))


def test_a_repository_of_another_owner_is_named_with_its_remedy(
    working_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git("init", "--quiet")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    remedy = f"if you trust its files: git config --global --add safe.directory {working_directory}$"
    with pytest.raises(UserError, match=rf"^git status: the repository is another user's; {remedy}"):
        git("status")
