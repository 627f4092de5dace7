"""Files are decoded once, whatever they are called, and again where what is kept would be wrong."""

import errno
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from motionbench.core import inputs
from motionbench.core.errors import UserError
from motionbench.core.files import file_md5
from motionbench.core.paths import DECODED
from motionbench.data.decoding import decode_clip
from motionbench.data.folder import cache
from motionbench.data.folder.cache import DecodedClip, decode_clips
from motionbench.data.folder.listing import BadClip, ClipFile
from motionbench.data.params import Preprocessing
from tests.conftest import ROOT, run
from tests.data.folder.recordings import record
from tests.data.videos import brightening, write_video

PREPROCESSING = Preprocessing(frames=4, height=12, width=16, colour="grey", resize="pad")
NAMES = ("bow/a.mp4", "bow/b.mp4", "wave/c.mp4")


@pytest.fixture(autouse=True)
def folder(working_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of videos in the working directory, to be decoded in one process: each takes a second to start."""
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    for name in NAMES:
        record(Path("clips", name))
    return working_directory / "clips"


def file(name: str, start: float | None = None, end: float | None = None) -> ClipFile:
    return ClipFile(Path("clips", name), name, name.split("/")[0], name, start=start, end=end)


def decode(
    *names: str, preprocessing: Preprocessing = PREPROCESSING, max_pixels: int = 1_000_000
) -> tuple[list[DecodedClip], list[BadClip]]:
    return decode_clips([file(name) for name in names], preprocessing, max_pixels)


def kept() -> dict[str, int]:
    """Return what tells whether the files of kept clips were written again."""
    return {path.name: path.stat().st_ino for path in DECODED.iterdir()}


def assert_decoded(
    clips: list[DecodedClip], names: Sequence[str], preprocessing: Preprocessing = PREPROCESSING
) -> None:
    assert [clip.file.name for clip in clips] == list(names)
    for clip in clips:
        expected, facts = decode_clip(clip.file.path, preprocessing, start=clip.file.start, end=clip.file.end)
        np.testing.assert_array_equal(clip.read(), expected)
        assert clip.facts == facts


def change_a_bit(path: Path, place: int) -> None:
    """Change a file's content, and neither its size nor its times."""
    status, content = path.stat(), bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_nothing_is_decoded_twice_and_what_is_new_alone(folder: Path) -> None:
    first, bad = decode(*NAMES)
    assert not bad
    assert_decoded(first, NAMES)
    before = kept()
    assert len(before) == 3
    again, _ = decode(*NAMES)
    assert (again, kept()) == (first, before)
    record(folder / "wave/new.mp4")
    (folder / "bow/a.mp4").rename(folder / "wave/renamed.mp4")
    change_a_bit(folder / "bow/b.mp4", -1)  # in what x264 says of itself
    names = ("bow/b.mp4", "wave/c.mp4", "wave/new.mp4", "wave/renamed.mp4")
    assert_decoded(decode(*names)[0], names)
    assert before.items() < kept().items()
    assert len(kept()) == 5


@pytest.mark.parametrize("module", ["core/files.py", "data/scaling.py", "data/decoding.py", "data/video_files.py"])
def test_other_code_decodes_again(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, _ = decode(NAMES[0])
    monkeypatch.setattr(inputs, "file_md5", lambda file: "another" if file.match(f"*/{module}") else file_md5(file))
    again, _ = decode(NAMES[0])
    assert again[0].kept != before[0].kept


@pytest.mark.parametrize(
    "change", [{"frames": 5}, {"height": 14}, {"width": 18}, {"colour": "rgb"}, {"resize": "stretch"}]
)
def test_another_setting_decodes_again(change: dict[str, Any]) -> None:
    decode("bow/a.mp4")
    before = kept()
    changed = PREPROCESSING._replace(**change)
    assert_decoded(decode("bow/a.mp4", preprocessing=changed)[0], ["bow/a.mp4"], changed)
    assert before.items() < kept().items()
    assert len(kept()) == 2


def test_a_limit_that_a_kept_clip_exceeds_is_not_ignored() -> None:
    decode("bow/a.mp4")
    [bad] = decode("bow/a.mp4", max_pixels=700)[1]
    assert bad == BadClip("bow/a.mp4", "frames of 32x24 pixels: more than 700", "bow")


def test_pieces_of_a_file_are_clips_of_their_own() -> None:
    pieces = [file("bow/a.mp4"), file("bow/a.mp4", 0.0, 0.12), file("bow/a.mp4", 0.12, 0.24), file("bow/a.mp4", 0.12)]
    clips, bad = decode_clips(pieces, PREPROCESSING, 1_000_000)
    assert not bad
    assert_decoded(clips, ["bow/a.mp4"] * 4)
    assert len(kept()) == 4


def run_here(_engine: Any, tasks: Sequence[Callable[..., Any]], _threads: int, on_event: Any) -> list[Any]:
    return [task(on_event) for task in tasks]


def test_a_disk_that_fails_is_no_fault_of_a_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> str:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(cache, "file_md5", fail)
    monkeypatch.setattr(cache, "run_tasks", run_here)
    with pytest.raises(OSError, match="Input/output error"):
        decode("bow/a.mp4")


def test_a_file_of_many_pieces_is_read_once_for_its_content(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def count(path: Path) -> str:
        read.append(path)
        return file_md5(path)

    monkeypatch.setattr(cache, "run_tasks", run_here)
    monkeypatch.setattr(cache, "file_md5", count)
    pieces = [file("bow/a.mp4", 0.04 * number, 0.04 * number + 0.08) for number in range(5)]
    decode_clips([*pieces, file("wave/c.mp4")], PREPROCESSING, 1_000_000)
    assert read == [Path("clips/bow/a.mp4"), Path("clips/wave/c.mp4")]


def test_a_file_that_is_replaced_while_it_is_decoded_is_kept_under_no_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace_and_decode(path: Path, *arguments: Any, **options: Any) -> Any:
        shutil.copy(folder / "wave/c.mp4", path)
        return decode_clip(path, *arguments, **options)

    monkeypatch.setattr(cache, "decode_clip", replace_and_decode)
    monkeypatch.setattr(cache, "run_tasks", run_here)
    _, bad = decode("bow/a.mp4")
    assert bad == [BadClip("bow/a.mp4", "changed while it was decoded; run the command again", "bow")]
    assert not kept()


def test_what_no_run_has_used_for_a_month_is_removed() -> None:
    clips, _ = decode(*NAMES)
    for clip in clips:
        os.utime(clip.kept, (0, time.time() - cache.KEPT - 1))
    gone = Path(DECODED, "listed, but gone")  # as where another process removes it meanwhile
    gone.symlink_to("nowhere")
    decode(NAMES[0])
    gone.unlink()
    assert [*kept()] == [clips[0].kept.name]


def test_damaged_kept_files_are_decoded_again_or_refused() -> None:
    clips, _ = decode(*NAMES)
    empty, cut_off, other = (clip.kept for clip in clips)
    empty.write_bytes(b"")
    cut_off.write_bytes(cut_off.read_bytes()[:-100])
    np.savez(other, clip=clips[2].read())  # without facts
    again, _ = decode(*NAMES)
    assert_decoded(again, NAMES)
    assert len(kept()) == 3
    change_a_bit(empty, 300)  # of a pixel
    with pytest.raises(UserError, match=rf"^{empty}: damaged, and deleted; run the command again$"):
        again[0].read()
    assert_decoded(decode(*NAMES)[0], NAMES)


def test_what_cannot_be_decoded_is_named_and_leaves_nothing_behind(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bow/text.mp4").write_text("text")
    (folder / "wave/c.mp4").write_bytes((folder / "wave/c.mp4").read_bytes()[:-300])
    clips, bad = decode(*NAMES, "bow/text.mp4", "bow/gone.mp4")
    assert capsys.readouterr().out == "", "no bar without a terminal"
    assert_decoded(clips, ["bow/a.mp4", "bow/b.mp4"])
    assert [each.name for each in bad] == ["wave/c.mp4", "bow/text.mp4", "bow/gone.mp4"]
    assert all(each.reason.startswith("damaged, cut off or no video (") for each in bad[:2])
    assert bad[2].reason == "not readable (No such file or directory)"
    assert sorted(kept()) == sorted(clip.kept.name for clip in clips)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "200")
    decode(*NAMES)
    shown = capsys.readouterr().out
    assert "3/3 clips decoded" in shown.replace("\x1b[0m", "").replace("\x1b[32m", ""), "the bar counts every file"


def test_several_processes_decode_copies_and_keep_the_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "2")
    names = []
    for number in range(7):
        record(folder / f"bow/{number}.mp4")
        shutil.copy(folder / f"bow/{number}.mp4", folder / f"wave/{number}.mp4")
        names += [f"bow/{number}.mp4", f"wave/{number}.mp4"]
    large = PREPROCESSING._replace(frames=100, height=400, width=500)  # long to write
    clips, bad = decode(*names[:5], "bow/gone.mp4", *names[5:], preprocessing=large)
    assert ([clip.file.name for clip in clips], [each.name for each in bad]) == (names, ["bow/gone.mp4"])
    assert len(kept()) == 7


def test_clips_are_kept_in_the_repository_when_dvc_runs_in_a_temporary_copy(
    working_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [clip], _ = decode("bow/a.mp4")
    before = kept()
    copy = working_directory / ".dvc/tmp/exps/copy"
    copy.mkdir(parents=True)
    (copy / "clips").symlink_to(working_directory / "clips")
    monkeypatch.setenv("DVC_ROOT", str(working_directory))
    monkeypatch.chdir(copy)
    [again], _ = decode("bow/a.mp4")
    assert again.kept.resolve() == (working_directory / clip.kept).resolve()
    assert not Path(DECODED).exists()
    monkeypatch.chdir(working_directory)
    assert kept() == before


def kill_who_decodes(name: str) -> None:
    """Kill the process that this one starts, once it reads this file."""
    while True:
        for child in psutil.Process().children():
            try:
                if any(file.path.endswith(name) for file in child.open_files()):
                    child.send_signal(signal.SIGKILL)
                    return
            except psutil.Error:  # It is just starting or ending.
                continue


@pytest.mark.skipif(sys.platform != "linux", reason="a process's open files are quick to read in /proc")
def test_a_killed_process_is_reported_with_what_it_decoded(folder: Path) -> None:
    record(folder / "wave/long.mp4", height=240, width=320, times=range(80))
    killer = threading.Thread(target=kill_who_decodes, args=("long.mp4",), daemon=True)
    killer.start()
    names = ("bow/a.mp4", "wave/long.mp4", "bow/b.mp4")
    with pytest.raises(UserError, match=r"^the last files to be read were wave/long\.mp4: a process was killed \(-9\)"):
        decode(*names)
    killer.join()
    assert_decoded(decode(*names)[0], names)
    assert len(kept()) == 3, "nothing half-written is left"


DECODE = """
from pathlib import Path
import pipeline
from motionbench.core.commands import run_command
from motionbench.data.folder.cache import decode_clips
from motionbench.data.folder.listing import list_clips
from motionbench.data.params import Preprocessing
files, _ = list_clips(Path("clips"), None, None)
run_command(lambda: decode_clips(files, Preprocessing(9, 24, 32, "rgb", "pad"), 10**6))
"""


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(working_directory: Path) -> None:
    command = ("sh", "-c", 'ulimit -f 8 && exec "$@"', "sh", sys.executable, "-c", DECODE)
    done = run(working_directory, *command, PYTHONPATH=str(ROOT))
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert "File too large; allow larger files" in line
    assert list(kept()) == []


def test_a_rotated_video_is_decoded_as_others(folder: Path) -> None:
    write_video(folder / "bow/turned.mp4", brightening(4), display=(90, False, False))
    stretched = PREPROCESSING._replace(resize="stretch")  # whose pictures are views of those that were not turned
    assert_decoded(decode("bow/turned.mp4", preprocessing=stretched)[0], ["bow/turned.mp4"], stretched)
