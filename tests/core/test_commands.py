import errno
import os
import re
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from motionbench.core.commands import OBJECTS_BETWEEN_COLLECTIONS, deferred_interrupts, run_command
from motionbench.core.errors import UserError
from tests.conftest import ROOT, run


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space on this disk"),
        (errno.EROFS, "work in a clone on a disk that can be written to"),
        (errno.EACCES, "check write permission"),
        (errno.EIO, "check this disk"),
    ],
)
def test_system_errors_are_one_line_with_a_remedy(number: int, remedy: str, capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise OSError(number, "a library's words\non several lines", "data/train/clips.npy")

    with pytest.raises(SystemExit) as ended:
        run_command(main)
    assert ended.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: data/train/clips.npy: {os.strerror(number)}; {remedy}")


LIST = "from motionbench.data.folder.listing import list_clips; list_clips"
READ = "from motionbench.core.files import read_yaml; read_yaml"


@pytest.mark.parametrize(
    ("refused", "program", "what"),
    [
        ("clips/a", f"{LIST}(p, None, None)", "read"),
        ("clips/list.csv", f"{LIST}(p, 'list.csv', None)", "read"),
        ("clips/list.csv", f"{READ}(p / 'list.csv')", "read"),
        ("clips", f"{READ}(p / 'list.csv')", "read"),
        ("clips/a", "(p / 'a/new').write_text('')", "write"),
    ],
)
def test_words_tell_reading_from_writing(refused: str, program: str, what: str, tmp_path: Path) -> None:
    without_rights = ["unshare", "--user"]  # also root's
    if run(tmp_path, *without_rights, "true").returncode:
        pytest.skip("namespaces are not allowed here")
    (tmp_path / "clips/a").mkdir(parents=True)
    (tmp_path / "clips/list.csv").touch()
    (tmp_path / refused).chmod(0 if what == "read" else 0o500)
    code = "import pathlib; from motionbench.core.commands import run_command; p = pathlib.Path('clips')\n"
    code += f"def main():\n    {program}\nrun_command(main)"
    done = run(tmp_path, *without_rights, sys.executable, "-c", code, PYTHONPATH=str(ROOT / "src"))
    (tmp_path / refused).chmod(0o700)
    assert done.returncode == 2, done.stderr
    words = rf"error: clips\S*: Permission denied; check {what} permission, \D+, and run the command again: no output"
    assert re.match(words, done.stderr), done.stderr


def test_a_disk_that_is_full_for_numpy_is_named_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_command(lambda: np.zeros(2**20).tofile("/dev/full"))
    [line] = capsys.readouterr().err.splitlines()
    assert re.match(r"error: \d+ requested and \d+ written; free some space on this disk, and run", line)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EBADF, errno.EPIPE])
def test_other_errors_of_files_are_bugs_of_ours_and_show_a_traceback(number: int) -> None:
    def main() -> None:
        raise OSError(number, "a bug", "data/train/clips.npy")

    with pytest.raises(OSError, match="a bug"):
        run_command(main)


def test_user_errors_are_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise UserError("params.yaml: \x1b[31mred\nand two lines")

    with pytest.raises(SystemExit) as ended:
        run_command(main)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: params.yaml: \\x1b[31mred\\nand two lines\n"


TERMINATED = """
import gc
import signal
from motionbench.core.commands import run_command

signal.signal(signal.NAME, signal.SIG_DFL)  # a job in the background may ignore it

def main():
    try:
        signal.raise_signal(signal.NAME)
    finally:
        print("cleaned up", gc.get_threshold()[0])

run_command(main)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])  # the second as a terminal is closed
def test_a_signal_to_end_cleans_up_and_exits_with_130(name: str) -> None:
    done = run(ROOT, "python", "-c", TERMINATED.replace("NAME", name), PYTHONPATH="src")
    expected = (130, f"cleaned up {OBJECTS_BETWEEN_COLLECTIONS}\n", "interrupted: no output is half-written\n")
    assert (done.returncode, done.stdout, done.stderr) == expected


def test_a_reader_who_has_read_enough_ends_a_command_in_silence() -> None:
    program = (
        "from motionbench.core.commands import run_command; run_command(lambda: print(*range(99_999), sep=chr(10)))"
    )
    done = run(ROOT, "bash", "-c", f"set -o pipefail; python -c {program!r} | head -1", PYTHONPATH="src")
    assert (done.returncode, done.stdout, done.stderr) == (141, "0\n", "")


def test_an_interrupt_ends_an_import_in_silence_and_a_command_cleanly() -> None:
    program = """
import signal, sys
sys.argv[0] = "-m"  # as where Python runs a module of the package
signal.signal(signal.SIGINT, signal.default_int_handler)  # A job in the background ignores it.
import pipeline
from motionbench.core.commands import run_command
print(signal.getsignal(signal.SIGINT) == signal.SIG_DFL)
run_command(lambda: signal.raise_signal(signal.SIGINT))
"""
    done = run(ROOT, "python", "-c", program)
    assert (done.returncode, done.stdout) == (130, "True\n")
    assert done.stderr == "interrupted: no output is half-written\n"


def test_what_a_shell_had_ignored_stays_ignored() -> None:
    program = """
import signal
from motionbench.core.commands import deferred_interrupts, run_command

def main():
    with deferred_interrupts() as interrupted:
        for number in (signal.SIGHUP, signal.SIGINT):
            signal.raise_signal(number)
        print(interrupted())

run_command(main)
"""
    done = run(ROOT, "sh", "-c", f"trap '' HUP INT; exec python -c '{program}'", PYTHONPATH="src")
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")


def test_deferred_interrupts_come_when_the_block_ends() -> None:
    reached: list[str] = []

    def work() -> None:
        with deferred_interrupts() as interrupted:
            with deferred_interrupts():
                signal.raise_signal(signal.SIGINT)
                reached.append("inner block")
            assert interrupted()
            reached.append("outer block")
        reached.append("after the blocks")

    # Whoever runs the tests in the background has had SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            work()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert reached == ["inner block", "outer block"]


@pytest.mark.parametrize("program", ["import matplotlib", "from motionbench.core.processes import git; git('status')"])
def test_a_command_ignores_what_jupyter_and_hooks_of_git_export(program: str, tmp_path: Path) -> None:
    other_work = {
        "MPLBACKEND": "module://matplotlib_inline.backend_inline", "GIT_DIR": str(tmp_path), "GIT_INDEX_FILE": "index",
    }  # fmt: skip
    code = f"from motionbench.core.commands import run_command\nrun_command(lambda: exec({program!r}))"
    done = run(ROOT, "python", "-c", code, PYTHONPATH="src", **other_work)
    assert (done.returncode, done.stderr) == (0, "")
