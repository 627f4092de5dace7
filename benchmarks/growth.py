"""Time and memory against the number of clips: drawing a split, and training on it.

python -m benchmarks.growth writes benchmarks/GROWTH.md and benchmarks/growth.png. Needs 21 GB of disk at the most.
"""

import json
import resource
import shutil
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import pipeline  # noqa: F401 # puts src/ on the path, as for the stages
from benchmarks.compare_layers import processor
from benchmarks.one_side import PEAK_UNIT
from motionbench.data.params import DataParams
from motionbench.data.sources import CLIPS_AT_ONCE, write_split
from motionbench.data.splits import read_split
from motionbench.execution.runtime import importing_tensorflow
from motionbench.params.loading import load_params

HERE = Path(__file__).parent
CLIPS_PER_CLASS = (20, 200, 2_000, 20_000)
LEAST_CLIPS = 8_000  # a measurement draws so many at least, if need be by drawing a split several times
STEPS = 30
ROUNDS = 3


def main() -> None:
    """Measure all sizes, round after round, in processes of their own; write the medians as a table and a chart."""
    if len(sys.argv) > 1:
        job, clips_per_class, place = sys.argv[1:]
        params = load_params(HERE.parent / "params.yaml")
        data = params.data.model_copy(update={"clips_per_class": int(clips_per_class)})
        print(json.dumps({"draw": _draw, "fill": _fill, "train": _train}[job](Path(place), data)))
        return
    rounds: dict[int, list[dict[str, float]]] = {}
    with TemporaryDirectory(dir=HERE.parent, prefix=".growth.") as temporary:
        folder = Path(temporary)
        for _ in range(ROUNDS):
            for size in CLIPS_PER_CLASS:
                if 2 * size * 4 * 130_000 > shutil.disk_usage(folder).free:
                    print(f"{size:,} clips a class would not fit on the disk; left out")
                    continue
                row: dict[str, float] = {"clips": 4 * size}
                for job in ("fill", "draw", "train"):
                    row |= _in_a_process(job, size, folder)
                    (folder / "fill").unlink(missing_ok=True)
                rounds.setdefault(size, []).append(row)
                (folder / "clips.npy").unlink()
                print(row, flush=True)
    rows = [{key: median(row[key] for row in each) for key in each[0]} for each in rounds.values()]
    (HERE / "GROWTH.md").write_text(_as_markdown(rows), encoding="utf-8")
    _chart(rows).savefig(HERE / "growth.png", dpi=110)


def _in_a_process(job: str, size: int, folder: Path) -> Any:
    command = [sys.executable, "-m", "benchmarks.growth", job, str(size), str(folder)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def _draw(folder: Path, data: DataParams) -> dict[str, float]:
    seconds = _median_seconds(lambda: write_split(folder, "train", data), data)
    return {"draw_seconds": seconds, "draw_megabytes": _peak_megabytes()}


def _fill(folder: Path, data: DataParams) -> dict[str, float]:
    shape = (CLIPS_AT_ONCE, data.frames, data.height, data.width, 1)

    def fill() -> None:
        with (folder / "fill").open("wb") as file:
            for _ in range(0, 4 * data.clips_per_class, CLIPS_AT_ONCE):
                np.full(shape, 255, dtype=np.uint8).tofile(file)

    return {"fill_seconds": _median_seconds(fill, data)}


def _median_seconds(work: Any, data: DataParams) -> float:
    """Seconds a clip."""
    clips = 4 * data.clips_per_class
    work()
    seconds = []
    for _ in range(max(1, LEAST_CLIPS // clips)):
        started = time.perf_counter()
        work()
        seconds.append((time.perf_counter() - started) / clips)
    return median(seconds)


def _train(folder: Path, data: DataParams) -> dict[str, float]:
    params = load_params(HERE.parent / "params.yaml")
    split = read_split(folder, data)
    with importing_tensorflow():
        from motionbench.execution.runtime import fix_threads
        from motionbench.models.registry import build_model
        from motionbench.training.loop import order_of_clips, read_batches
    fix_threads(1)
    model = build_model("cnn_lstm", params.cnn_lstm, split.clips.shape[1:], len(split.class_names))
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", jit_compile=False)
    size = params.cnn_lstm.batch_size
    seconds = []
    started = time.perf_counter()
    batches = read_batches(split, size, order_of_clips(len(split.labels), seed=0, epoch=1))
    for clips, labels in islice(batches.repeat(), STEPS):
        model.train_on_batch(clips, labels)
        seconds.append((time.perf_counter() - started) / size)
        started = time.perf_counter()
    return {"train_seconds": median(seconds), "train_megabytes": _peak_megabytes()}


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / PEAK_UNIT


def _as_markdown(rows: list[dict[str, float]]) -> str:
    lines = [
        "# Growth",
        "",
        f"Medians of {ROUNDS} interleaved rounds, by `make bench` ({processor()}): a split is drawn and written "
        f"(`motionbench.data.splits.write_split`), and a CNN-LSTM trained on it for {STEPS} steps in one thread, "
        "reading clips in random order. The bare fill writes as many bytes of 255, a block of clips at a time. Peaks "
        "are of the process's resident memory, and count the pages of the file that it has read, which the system "
        "takes back when it needs them.",
        "",
        "| clips | GB | drawing, µs a clip | bare fill, µs a clip | rate against the fill | peak, MB "
        "| training, ms a clip | peak, MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['clips']:,} | {row['clips'] * 130_000 / 1e9:.3g} | {1e6 * row['draw_seconds']:.0f} "
            f"| {1e6 * row['fill_seconds']:.0f} | {row['fill_seconds'] / row['draw_seconds']:.2f} "
            f"| {row['draw_megabytes']:.0f} | {1e3 * row['train_seconds']:.2f} | {row['train_megabytes']:.0f} |"
        )
    return "\n".join([*lines, "", "![Time and memory against size](growth.png)", ""])


def _chart(rows: list[dict[str, float]]) -> Figure:
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    seconds, memory = figure.subplots(1, 2)
    clips = [row["clips"] for row in rows]
    for job, label in (("draw", "drawing"), ("train", "training")):
        seconds.plot(clips, [1e3 * row[f"{job}_seconds"] for row in rows], marker="o", label=label)
        memory.plot(clips, [row[f"{job}_megabytes"] for row in rows], marker="o", label=label)
    seconds.set(xscale="log", yscale="log", xlabel="clips in the split", ylabel="milliseconds a clip")
    memory.set(xscale="log", ylim=(0, None), xlabel="clips in the split", ylabel="peak memory, MB")
    seconds.legend()
    return figure


if __name__ == "__main__":
    main()
