"""`make predict`: classify a clip, a long video piece by piece, or all clips of a folder, with MLflow's champion."""

import os
import sys
import zlib
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from motionbench.core.commands import run_command
from motionbench.core.errors import UserError, one_line, printable
from motionbench.core.files import atomic_outputs, file_stem
from motionbench.core.paths import ANNOTATED
from motionbench.data.decoding import read_clip
from motionbench.data.folder.contents import SUFFIXES, counted, spellings, to_use, visible_below
from motionbench.data.windows import read_windows, window_times
from motionbench.execution.progress import clip_progress

if TYPE_CHECKING:
    import pandas as pd  # otherwise imported late, as what needs it: keeps error messages fast

    from motionbench.tracking.champion import Champion

WINDOWS_AT_ONCE = 8  # so that memory does not grow with the video


def main() -> None:
    """Print the probability of each class; for a long video or a folder write files below reports/predictions/ too."""
    name, *options = sys.argv[1:] or [""]
    explain = options == ["explain"]
    if not name:
        raise UserError("CLIP: name a video file or a folder of them, as in make predict CLIP=data/clips/wave/01.mp4")
    path = next((each for each in spellings(Path(name)) if each.exists()), None)
    if path is None:
        raise UserError(f"CLIP: {name}: no such file or folder; check the path, from the repository's root")
    files = clips_below(path) if path.is_dir() else []
    if path.is_dir() and not files:
        others = [each.suffix.lower() for each in visible_below(path) if (path / each).is_file()]
        found = counted(Counter(ending or "without an ending" for ending in others)) or "no files"
        raise UserError(f"CLIP: {path}: a folder without clips: {found}{to_use(others)}; name another")
    if path.is_dir() and explain:
        raise UserError(f"EXPLAIN: {path}: a folder; a picture explains one clip: name a file, such as {files[0].name}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow logs a missing GPU
    from motionbench.tracking.champion import load_champion

    champion = load_champion()
    print(f"champion: {champion.what}", flush=True)
    if path.is_dir():
        predict_folder(path, files, champion)
    else:
        predict_file(path, champion, explain)


def clips_below(folder: Path) -> list[Path]:
    """Return the video files of a folder, sorted: those that could be clips of a data set."""
    files = [folder / path for path in visible_below(folder) if path.suffix.lower() in SUFFIXES]
    return [file for file in files if not file.is_dir()]


def output_path(source: Path) -> Path:
    """Return where the results of a file or folder go: its name, and a number of its path, as others have its name."""
    path = source.resolve()
    name = path.name if path.is_dir() else source.stem  # not that of a file in a cache, to which a link may lead
    # The blank at the end asks for the number, also after a plain name.
    return ANNOTATED / file_stem(f"{name} ".replace(".", "_"), zlib.crc32(os.fsencode(path)) % 10**6)


def classify(
    path: Path, champion: "Champion", progress: bool = False
) -> "tuple[list[tuple[float, float]], pd.DataFrame, float]":
    """Return the windows of a long video, none of a clip, the probabilities of each, and the file's seconds.

    Raises:
        UserError: if the file cannot be read.
    """
    import pandas as pd

    prepare = champion.preprocessing
    clip, facts = read_clip(path, prepare)
    times = [] if path.suffix.lower() == ".npz" else window_times(facts.seconds, champion.seconds, prepare.frames)
    if not times:
        return [], champion.predict(clip), facts.seconds
    *regular, last = times
    some_times = [regular[first : first + WINDOWS_AT_ONCE] for first in range(0, len(regular), WINDOWS_AT_ONCE)]
    predictions = []
    bar = clip_progress("predict", len(times), "windows classified") if progress else nullcontext(lambda: None)
    with bar as show:
        for some in (*some_times, [last]):
            predictions.append(champion.predict(read_windows(path, prepare, some)))
            for _ in some:
                show()
    return times, pd.concat(predictions, ignore_index=True), facts.seconds


def predict_folder(folder: Path, files: list[Path], champion: "Champion") -> None:
    """Write reports/predictions/<name>~<number>.csv: a row per file with its class and probabilities, or why not.

    What an interrupt leaves is in <name>~<number>-unfinished.csv, so that it replaces no whole table.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    try:
        with clip_progress("predict", len(files), "files classified") as show:
            for file in files:
                name = (
                    file.relative_to(folder).as_posix().encode("utf-8", "backslashreplace").decode()
                )  # maybe not UTF-8
                row: dict[str, Any] = {"file": name}
                try:
                    probabilities = classify(file, champion)[1].mean()
                    row |= {"class": probabilities.idxmax(), "not read": "", **probabilities.add_prefix("probability ")}
                except UserError as error:
                    row |= {"class": "", "not read": one_line(error)}
                rows.append(row)
                show()
    finally:  # What is done is kept at an interrupt.
        if rows:
            ending = ".csv" if len(rows) == len(files) else "-unfinished.csv"
            with atomic_outputs(table := Path(f"{output_path(folder)}{ending}")) as (new,):
                pd.DataFrame(rows).to_csv(new, index=False)
            unread = sum(bool(row["not read"]) for row in rows)
            found = f"{len(rows) - unread} of {len(files)} files by {champion.name}; {unread} could not be read"
            print(f"{table}: {found}", flush=True)


def predict_file(path: Path, champion: "Champion", explain: bool) -> None:
    """Print the probability of each class; of a long video the mean, and write its windows.

    Args:
        explain: whether to draw what decides; of a long video in the window with the highest probability.
    """
    from motionbench.reporting.timeline import write_timeline

    times, predictions, seconds = classify(path, champion, progress=True)
    if times:
        with atomic_outputs(folder := output_path(path)) as (new_folder,):
            write_timeline(new_folder, path, times, predictions)
        print(
            f"{printable(str(path))} lasts {seconds:.1f} s, a clip of the training {champion.seconds:.1f} s (median): "
            f"it was classified in {len(times)} windows. {folder}: windows.csv, timeline.png, annotated.mp4"
        )
    print(f"{printable(str(path))} by {champion.name}:")
    table = Table("class", "probability")
    for name, probability in predictions.mean().sort_values(ascending=False).items():
        table.add_row(Text(str(name), overflow="fold"), f"{probability:.4f}")  # not markup, as [a] in it would be
    Console().print(table)
    if explain:
        surest = int(predictions.max(axis="columns").argmax())
        explain_clip(path, champion, times[surest : surest + 1])


def explain_clip(path: Path, champion: "Champion", window: list[tuple[float, float]]) -> None:
    """Write reports/predictions/<name>~<number>.png: which frames and places of a clip, or of a window, decide."""
    from motionbench.reporting.explanation import draw_losses, occlude

    found = read_windows(path, champion.preprocessing, window) if window else read_clip(path, champion.preprocessing)[0]
    losses = occlude(found[0], champion.predict)
    title = " ".join([path.name, *(f"from {start:.1f} to {end:.1f} s" for start, end in window)])
    with atomic_outputs(picture := Path(f"{output_path(path)}.png")) as (new,):
        draw_losses(found[0], losses, title).savefig(new, dpi=110)
    print(
        f"{picture}: how much of the probability of {losses.answer} is lost without each frame, and without each place"
    )


if __name__ == "__main__":
    run_command(main)
