"""How fast videos become clips, beside the least that a program with PyAV can do, and in how much memory.

python -m benchmarks.decoding writes benchmarks/DECODING.md, in ten minutes, on Linux.
"""

import multiprocessing
import os
import random
import re
import resource
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir, suppress
from fractions import Fraction
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import av
import joblib
import numpy as np
import psutil
from av.video.reformatter import ColorRange, VideoReformatter
from numpy.typing import NDArray

from benchmarks.common import HERE, ROOT, machine, markdown_table, write_page
from motionbench.data.decoding import MAX_PIXELS, Preprocessing, decode_clip
from motionbench.data.folder.decoded import decode_clips
from motionbench.data.folder.listing import ClipFile
from motionbench.data.scaling import SCALING

CLIPS = Path(os.environ.get("MOTIONBENCH_CLIPS", ROOT.parent / "shared/clips")) / "colored_shape"
PREPROCESSING = Preprocessing(frames=20, height=64, width=64, colour="grey", resize="stretch")
ROUNDS = 7
MEMORY_CLIPS = (200, 2000)
WATCH_SECONDS = 0.05  # between two looks at the memory


class Kind(NamedTuple):
    """Videos that are alike, and of how many a folder is made: some seconds of work for all cores."""

    name: str
    paths: list[Path]
    folder_clips: int


class Spent(NamedTuple):
    """Seconds by the clock, and of processors in this process and those that it started and that ended."""

    clock: float
    processor: float


def main() -> None:
    """Time both programs on clips and folders of several kinds, watch the memory, and write the page."""
    with TemporaryDirectory() as folder:
        small = draw_clips(Path(folder, "small"), clips=40, size=(128, 128), frames=32)
        large = draw_clips(Path(folder, "large"), clips=8, size=(320, 240), frames=125)
        kinds = [Kind("128x128, 32 frames, H.264", small, 2000), Kind("320x240, 125 frames, H.264", large, 800)]
        if CLIPS.is_dir():
            shapes = sorted(CLIPS.glob("*/*.mp4"))
            kinds.append(Kind("colored_shape (128x128, 32 frames, MPEG-4)", shapes, 2700))
        clip_rows = [compare_clips(kind) for kind in kinds]
        folder_rows = [compare_folders(kind, Path(folder, f"copies of {kind.paths[0].parent.name}")) for kind in kinds]
        memory_rows = [
            watch_memory(copy_clips(large, count, Path(folder, f"{count} copies"))) for count in MEMORY_CLIPS
        ]
    clips = (
        f"By `python -m benchmarks.decoding` on {machine()}; medians of {ROUNDS} rounds in random order. "
        f"{PREPROCESSING.frames} grey frames of {PREPROCESSING.height}x{PREPROCESSING.width} pixels are taken from "
        "each video. The bare loop with PyAV is told which, scales them in the same way and checks nothing. A ratio "
        "is that of the two rates in a round.\n\nVideos per second of processor time, in one process:"
    )
    folders = (
        "A folder over all cores, in as many processes. `decode_clip` and the bare loop keep nothing; `decode_clips` "
        "is what `generate` does: it also hashes each file and keeps each clip. All files differ, and the start "
        "of the processes is included. A ratio is by the clock, to which other work on the machine adds, and in "
        "brackets of the processor time of all processes:"
    )
    memory = (
        "Peak memory of the process of `generate` and of those that decode, for clips of 320x240 pixels and 5 s; "
        "together is the sum of the peaks. It must be under 2,000 MB, and must not grow with the number of clips:"
    )
    tables = [markdown_table(rows) for rows in (clip_rows, folder_rows, memory_rows)]
    write_page(HERE / "DECODING.md", ["# Decoding", clips, tables[0], folders, tables[1], memory, tables[2]])


def draw_clips(folder: Path, *, clips: int, size: tuple[int, int], frames: int) -> list[Path]:
    """Write videos of a bright square that moves over noise, 25 frames a second."""
    folder.mkdir()
    random_numbers = np.random.default_rng(0)
    width, height = size
    paths = [folder / f"{number}.mp4" for number in range(clips)]
    for path in paths:
        noise = random_numbers.integers(0, 100, (height, width), dtype=np.uint8)
        top, left = random_numbers.integers(0, (height // 2, width // 2))
        with av.open(path, "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for number in range(frames):
                picture = noise.copy()
                shift = left + number * width // 4 // frames
                picture[top : top + height // 4, shift : shift + width // 4] = 220
                frame = av.VideoFrame.from_ndarray(picture, format="gray")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                container.mux(stream.encode(frame.reformat(format="yuv420p")))
            container.mux(stream.encode(None))
    return paths


def copy_clips(paths: Sequence[Path], count: int, folder: Path) -> list[Path]:
    """Write `count` copies of MP4 files, each with another number in a box that players skip."""
    folder.mkdir()
    copies = [folder / f"{number}.mp4" for number in range(count)]
    for number, copy in enumerate(copies):
        copy.write_bytes(paths[number % len(paths)].read_bytes() + struct.pack(">I4sQ", 16, b"free", number))
    return copies


def compare_clips(kind: Kind) -> dict[str, str]:
    """Return a row of the first table, after both programs have given the same clips."""
    kept = [moments(decode_clip(path, PREPROCESSING)[1].frames) for path in kind.paths]
    for path, indices in zip(kind.paths, kept, strict=True):
        np.testing.assert_array_equal(decode_clip(path, PREPROCESSING)[0], decode_bare(path, indices))

    def all_checked() -> None:
        for path in kind.paths:
            decode_clip(path, PREPROCESSING)

    def all_bare() -> None:
        for path, indices in zip(kind.paths, kept, strict=True):
            decode_bare(path, indices)

    spent = in_rounds({"decode_clip": all_checked, "bare loop": all_bare})
    rates = {
        program: f"{len(kind.paths) / median(each.processor for each in rounds):.1f}"
        for program, rounds in spent.items()
    }
    ratios = [bare.processor / checked.processor for checked, bare in zip(*spent.values(), strict=True)]
    return {"videos": kind.name, **rates, "ratio": f"{median(ratios):.2f}"}


def compare_folders(kind: Kind, folder: Path) -> dict[str, str]:
    """Return a row of the second table."""
    paths = copy_clips(kind.paths, kind.folder_clips, folder)
    kept = [moments(decode_clip(path, PREPROCESSING)[1].frames) for path in kind.paths]
    jobs = [(path, kept[number % len(kept)]) for number, path in enumerate(paths)]

    def over_all_cores(decode: Callable[[tuple[Path, Sequence[int]]], None]) -> Callable[[], None]:
        def run() -> None:
            with multiprocessing.get_context("spawn").Pool(joblib.cpu_count()) as pool:
                for _ in pool.imap_unordered(decode, jobs, chunksize=8):
                    pass
                pool.close()
                pool.join()

        return run

    programs = {
        "decode_clip": over_all_cores(_decode_checked),
        "decode_clips": lambda: decode_folder(paths),
        "bare loop": over_all_cores(_decode_bare),
    }
    spent = in_rounds(programs)
    row = {"files": f"{len(paths):,} x {kind.name}"}
    row |= {program: f"{median(each.clock for each in rounds):.1f} s" for program, rounds in spent.items()}
    for program in ("decode_clip", "decode_clips"):
        pairs = list(zip(spent[program], spent["bare loop"], strict=True))
        clock, processor = np.median([np.divide(bare, ours) for ours, bare in pairs], axis=0)
        row[f"ratio of {program}"] = f"{clock:.2f} ({processor:.2f})"
    return row


def watch_memory(paths: Sequence[Path]) -> dict[str, str]:
    """Return a row of the third table: the peaks of a new process that decodes a folder, and of its workers."""
    process = multiprocessing.get_context("spawn").Process(target=decode_folder, args=(paths,))
    process.start()
    peaks: dict[int, float] = {}
    while process.is_alive():
        with suppress(psutil.NoSuchProcess):
            watched = psutil.Process(process.pid)
            for each in (watched, *watched.children(recursive=True)):
                peaks[each.pid] = max(peaks.get(each.pid, 0), peak_megabytes_of(each.pid))
        time.sleep(WATCH_SECONDS)
    assert process.exitcode == 0
    assert process.pid
    main_peak = peaks.pop(process.pid)
    workers = sum(peaks.values())
    return {
        "clips": f"{len(paths):,}",
        "main process": f"{main_peak:.0f} MB",
        f"{joblib.cpu_count()} workers": f"{workers:.0f} MB",
        "together": f"{main_peak + workers:.0f} MB",
    }


def peak_megabytes_of(process_id: int) -> float:
    """Return the peak memory of a process; 0 if it has ended."""
    try:
        status = Path(f"/proc/{process_id}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(peak[1]) * 1024 / 1e6 if peak else 0


def decode_folder(paths: Sequence[Path]) -> None:
    """Decode files as `generate` does, in a new working folder."""
    files = [ClipFile(path, path.name, "class", path.name) for path in paths]
    with TemporaryDirectory() as folder, chdir(folder):
        clips, bad = decode_clips(files, PREPROCESSING, MAX_PIXELS)
    assert len(clips) == len(paths), bad


def _decode_checked(job: tuple[Path, Sequence[int]]) -> None:
    decode_clip(job[0], PREPROCESSING)


def _decode_bare(job: tuple[Path, Sequence[int]]) -> None:
    decode_bare(*job)


def in_rounds(programs: Mapping[str, Callable[[], Any]]) -> dict[str, list[Spent]]:
    """Run all programs in each round, in random order, and return what they took by round."""
    order = random.Random(0)  # noqa: S311  # secret to nobody
    spent: dict[str, list[Spent]] = {program: [] for program in programs}
    for _ in range(ROUNDS):
        for program in order.sample(list(programs), len(programs)):
            started = time.perf_counter(), processor_seconds()
            programs[program]()
            spent[program].append(Spent(time.perf_counter() - started[0], processor_seconds() - started[1]))
    return spent


def processor_seconds() -> float:
    """Return the processor time of this process and of those that it started and that ended."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in usage)


def moments(count: int) -> list[int]:
    """Return the frames, of `count`, in the middle of equal segments."""
    return [(2 * number + 1) * count // (2 * PREPROCESSING.frames) for number in range(PREPROCESSING.frames)]


def decode_bare(path: Path, indices: Sequence[int]) -> NDArray[np.uint8]:
    """Decode a video, scale the frames at `indices` and stack them."""
    reformatter = VideoReformatter()
    pictures = []
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        stream.codec_context.thread_type = "NONE"
        for number, frame in enumerate(container.decode(stream)):
            if number in indices:
                scaled = reformatter.reformat(
                    frame,
                    PREPROCESSING.width,
                    PREPROCESSING.height,
                    "gray",
                    interpolation=SCALING,
                    dst_color_range=ColorRange.JPEG,
                    threads=1,
                )
                pictures.append(scaled.to_ndarray()[..., np.newaxis])
    return np.stack(pictures).astype(np.uint8, copy=False)


if __name__ == "__main__":
    main()
