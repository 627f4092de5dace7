"""The example videos: classes, groups and leak are what they are said to be."""

import os
import sys
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from motionbench.core.errors import UserError
from motionbench.core.files import file_md5
from motionbench.data import examples
from motionbench.data.examples import CLASSES, FRAMES, HEIGHT, WIDTH, write_example_clips
from tests.conftest import ROOT, run

COMMAND = (sys.executable, "-m", "pipeline.example_clips")


def frames(path: Path) -> NDArray[np.uint8]:
    with av.open(path) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def md5s(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file_md5(file) for file in folder.glob("*/*.mp4")}


def test_every_recorder_has_eight_clips_of_every_class(example_clips: Path) -> None:
    assert {path.name for path in example_clips.iterdir()} == {".gitignore", *CLASSES}
    assert (example_clips / ".gitignore").read_text() == "*\n"
    files = sorted(example_clips.glob("*/*"))
    counts = Counter((file.parent.name, file.name.split("_")[0]) for file in files)
    assert counts == {(name, f"recorder-{number:02}"): 8 for name in CLASSES for number in range(1, 13)}
    assert sum(file.stat().st_size for file in files) < 3_000_000
    for path in files:
        with av.open(path) as container:
            stream = container.streams.video[0]
            assert (stream.height, stream.width, stream.frames) == (HEIGHT, WIDTH, FRAMES)
            assert (stream.codec.name, str(stream.average_rate)) == ("h264", "12")


def columns(path: Path) -> NDArray[np.float64]:
    """Column of the centre in each frame, where the picture's left edge continues at its right one."""
    grey = frames(path).mean(axis=3)
    shape = (grey - np.median(grey)) > 30
    angles = np.exp(2j * np.pi * np.arange(WIDTH) / WIDTH)
    centre = np.angle((shape * angles).sum(axis=(1, 2)))
    return np.asarray(centre % (2 * np.pi) * WIDTH / (2 * np.pi))


def around(difference: NDArray[np.float64]) -> NDArray[np.float64]:
    return (difference + WIDTH / 2) % WIDTH - WIDTH / 2


def test_only_the_order_of_frames_tells_leftward_from_rightward(example_clips: Path) -> None:
    for number in range(1, 13):
        left, right = (
            np.array([columns(path) for path in sorted((example_clips / name).glob(f"recorder-{number:02}_*"))])
            for name in ("leftward", "rightward")
        )
        for moving, direction in ((left, -1), (right, 1)):
            np.testing.assert_allclose(around(np.diff(moving)), direction * WIDTH / FRAMES, atol=1)
        left, right = (moving[moving[:, 0].argsort()] for moving in (left, right))
        np.testing.assert_allclose(around(left[:, 0] - right[:, 0]), 0, atol=0.5, err_msg="start positions")
        np.testing.assert_allclose(around(left[:, 1:] - right[:, :0:-1]), 0, atol=0.5, err_msg="the others, backwards")


def test_colours_and_recorders_do_not_go_with_the_class(example_clips: Path) -> None:
    backgrounds = {
        (name, number): np.mean(
            [np.median(frames(path)) for path in (example_clips / name).glob(f"recorder-{number:02}_*")]
        )
        for name in CLASSES
        for number in range(1, 13)
    }
    for number in range(1, 13):
        same = [backgrounds[name, number] for name in CLASSES]
        assert max(same) - min(same) < 1.5
    assert len({round(backgrounds["square", number]) for number in range(1, 13)}) == 12, "recorders differ"


@pytest.mark.slow
def test_the_files_have_the_same_bytes_each_time(example_clips: Path, tmp_path: Path) -> None:
    # In a process whose fresh memory is not zero: encoders that read what they did not write give themselves away.
    done = run(ROOT, *COMMAND, str(tmp_path / "new" / "clips"), PYTHONPATH="src", MALLOC_PERTURB_="85")
    assert (done.returncode, done.stdout) == (0, f"example clips: {tmp_path / 'new' / 'clips'}\n")
    assert md5s(tmp_path / "new" / "clips") == md5s(example_clips)


def test_a_leak_is_a_lamp_in_another_corner_for_each_class(example_clips: Path, tmp_path: Path) -> None:
    write_example_clips(tmp_path, leak=True)
    clean, leaking = md5s(example_clips), md5s(tmp_path)
    assert clean.keys() == leaking.keys()
    assert not set(clean.values()) & set(leaking.values())
    corners = {"leftward": np.s_[:, 3:9, 3:9], "rightward": np.s_[:, 3:9, -9:-3], "square": np.s_[:, -9:-3, 3:9]}
    for name in CLASSES:
        clips = np.stack([frames(path) for path in (tmp_path / name).iterdir()])
        lit = {corner: clips[:, *where].min(axis=(1, 2, 3, 4)) > 200 for corner, where in corners.items()}
        assert {corner: each.all() for corner, each in lit.items()} == {corner: corner == name for corner in CLASSES}
        assert {corner: each.any() for corner, each in lit.items()} == {corner: corner == name for corner in CLASSES}


def test_a_folder_that_holds_something_is_refused(example_clips: Path, tmp_path: Path) -> None:
    before = md5s(example_clips)
    (tmp_path / "clips.csv").write_text("path,class\n")
    for taken in (example_clips, tmp_path, tmp_path / "clips.csv"):
        with pytest.raises(UserError, match="is not an empty folder; name another"):
            write_example_clips(taken, leak=True)
    assert md5s(example_clips) == before
    assert [path.name for path in tmp_path.iterdir()] == ["clips.csv"]


def test_an_interrupt_leaves_no_class_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_frames: NDArray[np.uint8]) -> bytes:
        if list(tmp_path.glob(".partial.*/*")):
            raise KeyboardInterrupt
        return b""

    monkeypatch.setattr(examples, "_encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_example_clips(tmp_path, leak=False)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    done = run(ROOT, "sh", "-c", 'ulimit -f 2 && exec "$@"', "sh", *COMMAND, str(tmp_path), PYTHONPATH="src")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "File too large; allow larger files" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [[], [""], ["clips", "lek"], ["clips", "leak", "more"]])
def test_other_arguments_are_refused(arguments: list[str], tmp_path: Path) -> None:
    done = run(tmp_path, *COMMAND, *arguments, PYTHONPATH=f"{ROOT / 'src'}{os.pathsep}{ROOT}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: FOLDER: name a folder, as in make example-clips FOLDER=data/clips")
    assert list(tmp_path.iterdir()) == []
