"""`make predict`: which files of a folder it takes, and where results go."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from motionbench.core.errors import UserError
from motionbench.data.params import Preprocessing
from motionbench.tracking.champion import Champion
from pipeline.predict import clips_below, main, output_path, predict_file, predict_folder
from tests.data.videos import write_video

CHAMPION = Champion(
    "a champion",
    "a function",
    Preprocessing(4, 16, 16, "grey", "pad"),
    2.0,
    lambda clips: pd.DataFrame([[0.75, 0.25]] * len(clips), columns=["wave", "bow"]),
)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "video.mp4", np.zeros((10, 16, 16, 3), np.uint8))


@pytest.mark.skipif(sys.platform != "linux", reason="names are UTF-8 on this system")
@pytest.mark.usefixtures("working_directory")
def test_a_name_that_is_not_utf8_is_written_with_escapes(video: Path) -> None:
    Path("clips").mkdir()
    for name in (os.fsdecode(b"M\xfcller.mp4"), "a.mp4"):
        shutil.copy(video, Path("clips", name))
    predict_folder(Path("clips"), clips_below(Path("clips")), CHAMPION)
    [table] = Path("reports/predictions").iterdir()
    assert pd.read_csv(table)["file"].tolist() == ["M\\udcfcller.mp4", "a.mp4"]


@pytest.mark.usefixtures("working_directory")
def test_an_interrupt_keeps_the_files_that_are_classified(video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("clips").mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        shutil.copy(video, Path("clips", name))
    answers = iter([CHAMPION.predict] * 5)

    def predict(clips: np.ndarray) -> pd.DataFrame:
        try:
            return next(answers)(clips)
        except StopIteration:
            raise KeyboardInterrupt from None

    again = Path("clips"), clips_below(Path("clips")), CHAMPION._replace(predict=predict)
    predict_folder(*again)
    [whole] = Path("reports/predictions").iterdir()
    with pytest.raises(KeyboardInterrupt):
        predict_folder(*again)
    assert pd.read_csv(whole)["file"].tolist() == ["a.mp4", "b.mp4", "c.mp4"], "an earlier table stays"
    [table] = Path("reports/predictions").glob("*unfinished.csv")
    assert pd.read_csv(table)["file"].tolist() == ["a.mp4", "b.mp4"]
    assert f"{table}: 2 of 3 files by a champion; 0 could not be read" in capsys.readouterr().out


@pytest.mark.usefixtures("working_directory")
def test_a_name_with_terminal_codes_is_printed_with_escapes(video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seconds in (2.0, 0.2):  # a clip, and a long video
        predict_file(video.rename("a\n\x1b[31mred.mp4"), CHAMPION._replace(seconds=seconds), explain=False)
        video = Path("a\n\x1b[31mred.mp4")
    printed = capsys.readouterr().out
    assert printed.count("a\\n\\x1b[31mred.mp4 by a champion:\n") == 2
    assert "a\\n\\x1b[31mred.mp4 lasts 0.4 s" in printed


def test_a_folder_has_the_files_that_a_data_set_would_have(tmp_path: Path) -> None:
    hidden = ("$RECYCLE.BIN/$R1.gif", ".Trash-1000/a.gif", "wave/._1.gif", "wave/.b.gif", "wave/@eaDir/a.gif/SYNO.gif")
    for name in (*hidden, "wave/a.GIF", "b.mp4", "wave/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "wave/lost.mp4").symlink_to("nowhere")
    (tmp_path / "wave/folder.mp4").mkdir()
    assert clips_below(tmp_path) == [tmp_path / name for name in ("b.mp4", "wave/a.GIF", "wave/lost.mp4")]


@pytest.mark.usefixtures("working_directory")
def test_results_of_one_name_are_kept_apart() -> None:
    for folder in ("monday/clips", "tuesday/clips"):
        Path(folder).mkdir(parents=True)
    files = ("a.mp4", "a.mov", "b/a.mp4", "10.5.mp4", "10_5.mp4", "10:5.mp4", "a .mp4")
    sources = [Path(name) for name in (*files, "monday/clips", "tuesday/clips")]
    paths = [output_path(source) for source in sources]
    assert len(set(paths)) == len(sources)
    assert {path.suffix for path in paths} == {""}, "folders"
    names = [path.name.partition("~")[0] for path in paths]
    assert names == [*["a"] * 3, *["10_5"] * 3, "a", *["clips"] * 2]
    assert output_path(Path("monday/../a.mp4")) == output_path(Path.cwd() / "a.mp4") == paths[0]


@pytest.mark.parametrize(
    ("name", "refusal"),
    [
        ("", "CLIP: name a video file or a folder of them, as in "),
        ("b\u00e4r", "CLIP: b\u00e4r: no such file or folder; check the path"),
        # found in its other Unicode form
        ("\u00e4", "CLIP: a\u0308: a folder without clips: 1 .mxf, 1 .txt; such videos must be converted: ffmpeg"),
    ],
)
@pytest.mark.usefixtures("working_directory")
def test_what_cannot_be_found_is_named(name: str, refusal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a\u0308/notes").mkdir(parents=True)
    for file in ("a.mxf", "notes/b.txt"):
        Path("a\u0308", file).touch()
    monkeypatch.setattr(sys, "argv", ["predict", name])
    with pytest.raises(UserError, match=f"^{refusal}"):
        main()
