"""The rate of `decode_clip` beside that of the least that a program with PyAV can do.

python -m benchmarks.decoding writes benchmarks/DECODING.md, in ten seconds.
"""

import os
import random
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import av
import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter
from numpy.typing import NDArray

from benchmarks.common import HERE, ROOT, machine, markdown_table, write_page
from motionbench.data.decoding import SCALING, Preprocessing, decode_clip

CLIPS = Path(os.environ.get("MOTIONBENCH_CLIPS", ROOT.parent / "shared/clips")) / "colored_shape"
PREPROCESSING = Preprocessing(frames=20, height=64, width=64, colour="grey", resize="stretch")
ROUNDS = 7


def main() -> None:
    """Time both programs on clips of several kinds, and write the page."""
    with TemporaryDirectory() as folder:
        kinds = {
            "128x128, 32 frames, H.264": draw_clips(Path(folder, "small"), clips=40, size=(128, 128), frames=32),
            "320x240, 125 frames, H.264": draw_clips(Path(folder, "large"), clips=8, size=(320, 240), frames=125),
        }
        if CLIPS.is_dir():
            kinds["colored_shape (128x128, 32 frames, MPEG-4)"] = sorted(CLIPS.glob("*/*.mp4"))
        rows = [compare(name, paths) for name, paths in kinds.items()]
    introduction = (
        f"Videos per second of processor time, medians of {ROUNDS} rounds in random order, by "
        f"`python -m benchmarks.decoding` ({machine()}). {PREPROCESSING.frames} grey frames of "
        f"{PREPROCESSING.height}x{PREPROCESSING.width} pixels are taken from each. The bare loop with PyAV is told "
        "which, scales them in the same way and checks nothing. The ratio is that of the two rates in a round."
    )
    write_page(HERE / "DECODING.md", ["# Decoding", introduction, markdown_table(rows)])


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


def compare(name: str, paths: Sequence[Path]) -> dict[str, str]:
    """Return a row of the table, after both programs have given the same clips."""
    kept = [moments(decode_clip(path, PREPROCESSING)[1].frames) for path in paths]
    for path, indices in zip(paths, kept, strict=True):
        np.testing.assert_array_equal(decode_clip(path, PREPROCESSING)[0], decode_bare(path, indices))

    def all_checked() -> None:
        for path in paths:
            decode_clip(path, PREPROCESSING)

    def all_bare() -> None:
        for path, indices in zip(paths, kept, strict=True):
            decode_bare(path, indices)

    programs = {"decode_clip": all_checked, "bare loop": all_bare}
    order = random.Random(0)  # noqa: S311  # secret to nobody
    seconds: dict[str, list[float]] = {program: [] for program in programs}
    for _ in range(ROUNDS):
        for program in order.sample(list(programs), len(programs)):
            started = time.process_time()
            programs[program]()
            seconds[program].append(time.process_time() - started)
    rates = {program: f"{len(paths) / median(times):.1f}" for program, times in seconds.items()}
    ratios = [bare / checked for checked, bare in zip(seconds["decode_clip"], seconds["bare loop"], strict=True)]
    return {"videos": name, **rates, "ratio": f"{median(ratios):.2f}"}


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
