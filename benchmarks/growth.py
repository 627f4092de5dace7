"""Time and memory against the number of clips: drawing a split, and training on it.

python -m benchmarks.growth writes benchmarks/GROWTH.md and benchmarks/growth.png. Needs up to 21 GB of disk.
"""

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.common import (
    HERE,
    ROOT,
    default_drawing,
    default_params,
    machine,
    markdown_table,
    run_in_new_process,
    seconds_of,
    write_page,
)
from motionbench.core.processes import peak_megabytes
from motionbench.data.splits import read_split
from motionbench.data.synthetic.frames import CLIPS_AT_ONCE, write_split
from motionbench.data.synthetic.params import Drawing
from motionbench.data.synthetic.patterns import PATTERNS
from motionbench.execution.runtime import importing_tensorflow

MODEL = "cnn_lstm"
CLIPS_PER_CLASS = (20, 200, 2_000, 20_000)
LEAST_CLIPS = 8_000  # per measurement at least; a small split is drawn several times
STEPS = 30
ROUNDS = 3


def main() -> None:
    """Measure all sizes, round after round, in processes of their own; write the medians as a table and a chart."""
    rounds: dict[int, list[dict[str, float]]] = {}
    with TemporaryDirectory(dir=ROOT, prefix=".growth.") as temporary:
        folder = Path(temporary)
        for _ in range(ROUNDS):
            for size in CLIPS_PER_CLASS:
                data = default_drawing()._replace(clips_per_class=size)
                if 2 * _clips(data) * _clip_bytes(data) > shutil.disk_usage(folder).free:
                    print(f"{size:,} clips per class do not fit on the disk; left out")
                    continue
                rounds.setdefault(size, []).append(measure(folder, data))
                print(rounds[size][-1], flush=True)
    rows = [{key: median(row[key] for row in each) for key in each[0]} for each in rounds.values()]
    write_page(HERE / "GROWTH.md", as_markdown(rows))
    chart(rows).savefig(HERE / "growth.png", dpi=110)


def measure(folder: Path, data: Drawing) -> dict[str, float]:
    """Return what a split of this size takes to draw and to train on; `folder` is left empty."""
    row: dict[str, float] = {"clips": _clips(data), "gigabytes": _clips(data) * _clip_bytes(data) / 1e9}
    for job in (partial(_fill, folder, data), partial(_draw, folder, data), partial(_train, folder)):
        row |= run_in_new_process(job)
        (folder / "fill").unlink(missing_ok=True)
    (folder / "clips.npy").unlink()
    return row


def _clips(data: Drawing) -> int:
    return len(PATTERNS) * data.clips_per_class


def _clip_bytes(data: Drawing) -> int:
    return data.frames * data.height * data.width


def _draw(folder: Path, data: Drawing) -> dict[str, float]:
    seconds = _median_seconds(lambda: write_split(folder, "train", data), data)
    return {"draw_seconds": seconds, "draw_megabytes": peak_megabytes()}


def _fill(folder: Path, data: Drawing) -> dict[str, float]:
    def fill() -> None:
        with (folder / "fill").open("wb") as file:
            for _ in range(0, _clips(data), CLIPS_AT_ONCE):
                np.full(CLIPS_AT_ONCE * _clip_bytes(data), 255, dtype=np.uint8).tofile(file)

    return {"fill_seconds": _median_seconds(fill, data)}


def _median_seconds(work: Callable[[], Any], data: Drawing) -> float:
    """Return seconds per clip."""
    work()  # warm-up
    return median(seconds_of(work) / _clips(data) for _ in range(max(1, LEAST_CLIPS // _clips(data))))


def _train(folder: Path) -> dict[str, float]:
    split = read_split(folder)
    with importing_tensorflow():
        from motionbench.execution.threads import fix_threads
        from motionbench.models.registry import build_model
        from motionbench.training.loop import order_of_clips, read_batches
    fix_threads(1)
    section = default_params().model(MODEL)
    model = build_model(MODEL, section, split.clips.shape[1:], len(split.class_names))
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", jit_compile=False)
    order = order_of_clips(len(split.labels), seed=0, epoch=1)
    batches = iter(read_batches(split, section.batch_size, order).repeat())
    seconds = [seconds_of(lambda: model.train_on_batch(*next(batches))) / section.batch_size for _ in range(STEPS)]
    return {"train_seconds": median(seconds), "train_megabytes": peak_megabytes()}


def as_markdown(rows: Sequence[dict[str, float]]) -> list[str]:
    """Return the page with a row per size."""
    cells = [
        {
            "clips": f"{row['clips']:,.0f}",
            "GB": f"{row['gigabytes']:.3g}",
            "drawing, µs per clip": f"{1e6 * row['draw_seconds']:.0f}",
            "plain fill, µs per clip": f"{1e6 * row['fill_seconds']:.0f}",
            "rate relative to the fill": f"{row['fill_seconds'] / row['draw_seconds']:.2f}",
            "drawing, peak MB": f"{row['draw_megabytes']:.0f}",
            "training, ms per clip": f"{1e3 * row['train_seconds']:.2f}",
            "training, peak MB": f"{row['train_megabytes']:.0f}",
        }
        for row in rows
    ]
    return [
        "# Growth",
        f"Medians of {ROUNDS} interleaved rounds, by `make bench` on {machine()}. A split is drawn and written "
        "(`motionbench.data.synthetic.frames.write_split`). "
        f"A CNN-LSTM is trained on it for {STEPS} steps in one thread, with the clips in random order. "
        "The plain fill writes as many bytes of 255, one block of clips at a time. Peaks "
        "are of the process's resident memory. They include the pages of the file that the process has read, which "
        "the system reclaims when it needs them.",
        markdown_table(cells),
        "![Time and memory against size](growth.png)",
    ]


def chart(rows: Sequence[dict[str, float]]) -> Figure:
    """Draw time and memory against the number of clips."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    seconds, memory = figure.subplots(1, 2)
    clips = [row["clips"] for row in rows]
    for job, label in (("draw", "drawing"), ("train", "training")):
        seconds.plot(clips, [1e3 * row[f"{job}_seconds"] for row in rows], marker="o", label=label)
        memory.plot(clips, [row[f"{job}_megabytes"] for row in rows], marker="o", label=label)
    seconds.set(xscale="log", yscale="log", xlabel="clips in the split", ylabel="milliseconds per clip")
    memory.set(xscale="log", ylim=(0, None), xlabel="clips in the split", ylabel="peak memory, MB")
    seconds.legend()
    return figure


if __name__ == "__main__":
    main()
