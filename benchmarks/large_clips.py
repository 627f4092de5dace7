"""Training on clips of a real size, and on more of them than memory should hold.

python -m benchmarks.large_clips writes benchmarks/LARGE_CLIPS.md. Needs 12 GB of disk.
"""

import shutil
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from numpy.lib.format import open_memmap

from benchmarks.common import (
    HERE,
    ROOT,
    default_params,
    machine,
    markdown_table,
    run_in_new_process,
    seconds_of,
    write_page,
)
from motionbench.core.processes import peak_megabytes
from motionbench.data.splits import Split
from motionbench.execution.runtime import importing_tensorflow
from motionbench.models.registry import CONTENDERS

CLIPS = (200, 20_000)
CLIP_SHAPE = (16, 112, 112, 3)
LAYERS = {"filters": [8, 16, 32], "kernel_sizes": [5, 3, 3]}
CLASSES = ("first", "second", "third", "fourth")
STEPS = 10
ROUNDS = 3


def main() -> None:
    """Measure both numbers of clips, round after round, in processes of their own; write the medians."""
    measured: dict[tuple[str, int], list[dict[str, float]]] = {}
    with TemporaryDirectory(dir=ROOT, prefix=".large_clips.") as temporary:
        files = {clips: Path(temporary, f"{clips}.npy") for clips in CLIPS}
        for clips, file in files.items():
            run_in_new_process(fill, file, clips)  # A process starts with the peak memory of the one that starts it.
        for _ in range(ROUNDS):
            for model in CONTENDERS:
                for clips, file in files.items():
                    row = run_in_new_process(train, model, file)
                    measured.setdefault((model, clips), []).append(row)
                    print(model, clips, row, flush=True)
    rows = {key: {name: median(each[name] for each in rows) for name in rows[0]} for key, rows in measured.items()}
    write_page(HERE / "LARGE_CLIPS.md", as_markdown(rows))


def fill(file: Path, clips: int) -> None:
    """Write random clips, one after the other."""
    if clips * int(np.prod(CLIP_SHAPE)) > shutil.disk_usage(file.parent).free:
        raise OSError(f"{file}: {clips:,} clips do not fit on the disk")
    random = np.random.default_rng(0)
    array = open_memmap(file, mode="w+", dtype=np.uint8, shape=(clips, *CLIP_SHAPE))
    for number in range(clips):
        array[number] = random.integers(0, 256, CLIP_SHAPE, np.uint8)


def train(model_name: str, file: Path) -> dict[str, float]:
    """Return the milliseconds per clip of the median step, and the peak memory in megabytes, of one thread."""
    with importing_tensorflow():
        from motionbench.execution.threads import fix_threads
        from motionbench.models.registry import build_model
        from motionbench.training.loop import order_of_clips, read_batches
    fix_threads(1)
    clips = np.load(file, mmap_mode="r")
    split = Split(clips, np.arange(len(clips)) % len(CLASSES), CLASSES)
    section = default_params().model(model_name)
    section = type(section).model_validate(section.model_dump() | LAYERS)
    model = build_model(model_name, section, CLIP_SHAPE, len(CLASSES))
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", jit_compile=False)
    order = order_of_clips(len(clips), seed=0, epoch=1)
    batches = iter(read_batches(split, section.batch_size, order))
    seconds = [seconds_of(lambda: model.train_on_batch(*next(batches))) for _ in range(STEPS)]
    return {"milliseconds": 1000 * median(seconds) / section.batch_size, "megabytes": peak_megabytes()}


def as_markdown(rows: dict[tuple[str, int], dict[str, float]]) -> list[str]:
    """Return the page: a row per model and number of clips."""
    few = min(CLIPS)
    cells = [
        {
            "model": model,
            "clips": f"{clips:,}",
            "GB": f"{clips * np.prod(CLIP_SHAPE) / 1e9:.2g}",
            "training, ms per clip": f"{row['milliseconds']:.1f}",
            f"rate relative to {few}": f"{rows[model, few]['milliseconds'] / row['milliseconds']:.2f}",
            "peak MB": f"{row['megabytes']:,.0f}",
        }
        for (model, clips), row in rows.items()
    ]
    frames, height, width, channels = CLIP_SHAPE
    return [
        "# Many clips of a real size",
        f"By `python -m benchmarks.large_clips` on {machine()}: clips of {frames} frames, {height} x {width} pixels "
        f"and {channels} channels, in random order, in batches of the default size, one thread. Filters "
        f"{LAYERS['filters']}, kernels {LAYERS['kernel_sizes']}. Medians of {ROUNDS} interleaved rounds of {STEPS} "
        "steps. The clips are read from their file as they are needed; peaks of resident memory include the pages of "
        "the file that were read, which the system reclaims when it needs them. The files were written just before, so "
        "that the system may have had them in its cache.",
        markdown_table(cells),
    ]


if __name__ == "__main__":
    main()
