"""`make predict`: classify a clip, or a long video piece by piece, with the champion in MLflow's store."""

import os
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from motionbench.core.commands import run_command
from motionbench.core.errors import UserError
from motionbench.core.files import atomic_outputs, file_stem
from motionbench.core.paths import ANNOTATED
from motionbench.data.decoding import read_clip, read_windows

WINDOWS_AT_ONCE = 8  # so that memory does not grow with the video


def main() -> None:
    """Print the probability of each class; for a long video write reports/predictions/<its name>/ too."""
    path = Path(sys.argv[1]) if len(sys.argv) == 2 else Path()
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such file"
        raise UserError(f"CLIP: {path}: {what}; name a file, as in make predict CLIP=reports/samples/sine.gif")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow logs a missing GPU
    # Imported late: keeps error messages fast.
    import pandas as pd

    from motionbench.reporting.timeline import window_times, write_timeline
    from motionbench.tracking.champion import load_champion

    champion = load_champion()
    print(f"champion: {champion.what}", flush=True)
    clip, facts = read_clip(path, champion.preprocessing)
    times = [] if path.suffix.lower() == ".npz" else window_times(facts.seconds, champion.seconds)
    if times:
        some_times = [times[first : first + WINDOWS_AT_ONCE] for first in range(0, len(times), WINDOWS_AT_ONCE)]
        predictions = pd.concat(
            [champion.predict(read_windows(path, champion.preprocessing, some)) for some in some_times],
            ignore_index=True,
        )
        with atomic_outputs(folder := ANNOTATED / file_stem(path.stem.replace(".", "_"), 0)) as (new_folder,):
            write_timeline(new_folder, path, times, predictions)
        print(
            f"{path} lasts {facts.seconds:.1f} s, a clip of the training {champion.seconds:.1f} s (median): it was "
            f"classified in {len(times)} windows. {folder}: windows.csv, timeline.png, annotated.mp4"
        )
    else:
        predictions = champion.predict(clip)
    print(f"{path} by {champion.name}:")
    table = Table("class", "probability")
    for name, probability in predictions.mean().sort_values(ascending=False).items():
        table.add_row(Text(str(name), overflow="fold"), f"{probability:.4f}")  # not markup, as [a] in it would be
    Console().print(table)


if __name__ == "__main__":
    run_command(main)
