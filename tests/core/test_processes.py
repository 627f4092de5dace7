import errno
import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import pytest

from motionbench.core.errors import UserError
from motionbench.core.processes import describe_environment, git, is_running, this_process, untracked
from tests.conftest import ROOT, clean_environment


def test_the_environment_names_what_changes_weights() -> None:
    described = describe_environment()
    assert any(each.startswith("SIMD ") and len(each.split()) > 1 for each in described)
    assert f"Python {platform.python_version()}" in described
    assert {"keras", "numpy", "tensorflow"} <= {each.partition(" ")[0] for each in described}


APART = ["unshare", "--user", "--map-root-user"]
CONTAINERS = {
    "none": [],
    "another host name": [*APART, "--uts", "sh", "-c", 'hostname other && exec "$@"', "-"],
    "other process ids": [*APART, "--pid", "--fork", "--mount-proc"],
}


def containers_allowed() -> bool:
    return not subprocess.run([*APART, "true"], capture_output=True, check=False).returncode


WAIT_TO_DIE = """
import json, os, sys
from motionbench.core.processes import this_process
print(json.dumps(this_process()), flush=True)
sys.stdin.read()
os._exit(1)
"""


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.usefixtures("working_directory")
def test_a_process_is_seen_from_any_container_of_its_folder(container: str) -> None:
    if container != "none" and not containers_allowed():
        pytest.skip("namespaces are not allowed here")
    other = subprocess.Popen(
        [*CONTAINERS[container], sys.executable, "-c", WAIT_TO_DIE],
        env=clean_environment() | {"PYTHONPATH": str(ROOT / "src")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout
    owner = json.loads(other.stdout.readline())
    assert [is_running(each) for each in (owner, this_process())] == [True, True]
    other.communicate()
    assert [is_running(each) for each in (owner, this_process())] == [False, True]
    shutil.copytree(".resume", "a copy/.resume")
    with chdir("a copy"):
        assert is_running(owner) is None, "nothing is known of another folder's"


@pytest.mark.usefixtures("working_directory")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_on_a_disk_without_locks_others_count_as_running(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:  # as an NFS disk without a lock daemon
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    ours = this_process()
    assert [is_running(each) for each in (ours, {**ours, "byte": "1"}, {**ours, "file": "another"})] == [
        True,
        True,
        None,
    ]


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
