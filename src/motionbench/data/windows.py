"""Long videos as overlapping windows, whose shared frames are decoded once."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from motionbench.data.decoding import read_clip
from motionbench.data.params import Preprocessing
from motionbench.data.splits import Clips

LONG = 1.5  # times the clips of the training


def window_step(frames: int) -> int:
    """Return after how many frames of a window the next one starts: half, rounded up, so that both share frames."""
    return (frames + 1) // 2


def window_times(seconds: float, clip_seconds: float, frames: int) -> list[tuple[float, float]]:
    """Return start and end, in seconds, of windows over a long video: each as long as a clip, `window_step` apart.

    The last one ends with the video. None if the video is not much longer than clips of the training.

    Args:
        seconds: of the video.
        clip_seconds: of a clip of the training.
        frames: of a clip.
    """
    if seconds <= LONG * clip_seconds:
        return []
    starts = np.arange(0, seconds - clip_seconds, clip_seconds * window_step(frames) / frames)
    return [(start, start + clip_seconds) for start in (*starts.tolist(), seconds - clip_seconds)]


def read_windows(path: Path, preprocessing: Preprocessing, times: Sequence[tuple[float, float]]) -> Clips:
    """Return windows of a video, uint8, shape (windows, frames, height, width, channels), decoded in one pass.

    Args:
        times: start and end of each, in seconds after the first frame: of one length, `window_step` apart.

    Raises:
        UserError: as from `decode_clip`, with the path and how to fix it.
    """
    frames, step = preprocessing.frames, window_step(preprocessing.frames)
    wanted = preprocessing._replace(frames=frames + (len(times) - 1) * step)
    shared = read_clip(path, wanted, start=times[0][0], end=times[-1][1])[0][0]
    return np.stack([shared[step * number : step * number + frames] for number in range(len(times))])
