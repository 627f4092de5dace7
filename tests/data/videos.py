"""Videos that tests write, in formats of all kinds, and how tests read them."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from motionbench.core.errors import UserError
from motionbench.data.decoding import decode_clip
from motionbench.data.params import Preprocessing

SMALL = Preprocessing(frames=8, height=12, width=16, colour="grey", resize="stretch")
STEP = 5  # of brightness from one frame of a test's video to the next


def write_video(
    path: Path,
    pictures: Iterable[NDArray[np.uint8]],
    *,
    codec: str = "libx264",
    layout: str = "yuv420p",
    times: Sequence[int] | None = None,
    aspect: Fraction = Fraction(1),
    display: tuple[float, bool, bool] = (0, False, False),
    **options: str,
) -> Path:
    """Write pictures, shape (height, width, 3), as a video of 25 frames per second; `times` are in 1/25 s.

    A player turns them by the degrees of `display`, counterclockwise, then mirrors them, then turns them upside down.
    """
    pictures = list(pictures)
    with av.open(path, "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = layout
        stream.codec_context.sample_aspect_ratio = aspect
        stream.set_display_rotation(*display)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=layout)
            frame.pts, frame.time_base = (number if times is None else times[number]), Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def brightening(count: int, height: int = 48, width: int = 64) -> list[NDArray[np.uint8]]:
    """Return pictures whose brightness tells their number."""
    return [np.full((height, width, 3), 20 + STEP * number, np.uint8) for number in range(count)]


def numbers(clip: NDArray[np.uint8]) -> list[int]:
    """Return the numbers of brightening pictures."""
    return [round((float(frame.mean()) - 20) / STEP) for frame in clip]


def middles(count: int, frames: int) -> list[int]:
    return [(2 * number + 1) * count // (2 * frames) for number in range(frames)]


def refusal(path: Path, preprocessing: Preprocessing = SMALL, **options: Any) -> str:
    with pytest.raises(UserError) as refused:
        decode_clip(path, preprocessing, **options)
    message = str(refused.value)
    assert message.isprintable(), "one line"
    assert len(message) < 400
    assert str(path) not in message
    return message


FORMATS: list[tuple[str, dict[str, Any]]] = [
    ("x.mp4", {}),
    ("x.mov", {"bf": "0"}),
    ("x.mkv", {}),
    ("open.mp4", {"x264-params": "open-gop=1"}),  # frames before a key frame that need those before it
    ("x.ts", {}),
    ("x.flv", {}),
    ("x.avi", {}),  # H.264 in an AVI: time stamps out of order
    ("mpeg4.avi", {"codec": "mpeg4", "qmax": "2"}),
    ("mpeg4.avi", {"codec": "mpeg4", "qmax": "2", "bf": "2"}),
    ("x.mpg", {"codec": "mpeg2video", "qmax": "2", "bf": "2"}),
    ("x.webm", {"codec": "libvpx"}),
    ("vp9.webm", {"codec": "libvpx-vp9"}),
    ("x.wmv", {"codec": "wmv2"}),
    ("x.avi", {"codec": "mjpeg", "layout": "yuvj420p"}),
    ("ffv1.mkv", {"codec": "ffv1"}),
]
