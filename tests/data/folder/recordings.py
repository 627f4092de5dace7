"""Folders of small videos that tests write."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.data.videos import write_video

LABELS = ("bow", "wave")
PEOPLE = ("anna", "bert", "carl")
FRAMES, HEIGHT, WIDTH = 6, 24, 32


def record(path: Path, *, height: int = HEIGHT, width: int = WIDTH, times: Sequence[int] = range(FRAMES)) -> None:
    """Write a video whose content follows from its name, a frame at each of `times`, which are in 1/25 s."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(list(path.as_posix().encode()))
    coarse = random.integers(0, 256, (len(times), height // 4, width // 4, 3), dtype=np.uint8)
    write_video(path, coarse.repeat(4, axis=1).repeat(4, axis=2), times=times)


def record_everyone(folder: Path, takes: int = 2) -> None:
    """Write `folder`/<label>/<person>_<take>.mp4: a few takes of each label by each person."""
    for label in reversed(LABELS):
        for person in PEOPLE:
            for take in range(takes):
                record(folder / label / f"{person}_{take}.mp4")
