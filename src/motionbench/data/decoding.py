"""Videos, GIFs and arrays of frames as clips: all are checked, sampled by time, and scaled in the same way."""

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from motionbench.core.errors import UserError, one_line
from motionbench.data.array_files import read_array
from motionbench.data.sampling import Piece, numbered, piece_of, sample
from motionbench.data.scaling import Colour, Resize, displayed_size, scaler
from motionbench.data.splits import Clips
from motionbench.data.video_files import (
    CONTAINERS_READ,
    READ_SECONDS,
    UnusableTimesError,
    check_not_cut_off,
    decode_from,
    decode_packets,
    decode_rest,
    frame_time,
    open_video,
    read_contents,
)

MAX_PIXELS = 8_300_000  # of a frame: 3840x2160
ARRAY_RATE = 10  # frames per second of an .npz file: that of the GIFs this project writes


class Preprocessing(NamedTuple):
    """How a video becomes a clip.

    To resize, "pad" fits the whole picture in and adds black bars, "crop" fills the clip and cuts off what is left
    over, and "stretch" changes the proportions.
    """

    frames: int
    height: int
    width: int
    colour: Colour
    resize: Resize


class Facts(NamedTuple):
    """What a video says about itself, or a piece of one."""

    frames: int
    seconds: float
    rate: float  # mean frames per second
    width: int  # as displayed: rotated, and with square pixels
    height: int
    variable_rate: bool
    audio: bool


class _Taken(NamedTuple):
    clip: NDArray[np.uint8]
    facts: Facts
    end: Fraction  # of the last frame that was read, in seconds after the start of the first one


def decode_clip(
    path: Path,
    preprocessing: Preprocessing,
    *,
    start: float | None = None,
    end: float | None = None,
    max_pixels: int = MAX_PIXELS,
) -> tuple[NDArray[np.uint8], Facts]:
    """Return a video, a GIF or the array in an .npz file as a clip, and facts about the file.

    The clip, uint8, shape (frames, height, width, channels), has the frames that are on screen in the middle of equal
    segments of time. Where there are fewer, they are repeated.

    Args:
        start: of the piece to take, in seconds after the first frame, used to the microsecond.
        end: of that piece.
        max_pixels: of a frame.

    Raises:
        UserError: if the file is damaged, cut off, too large or no video. The message is the reason, without the path.
    """
    first, last = round(start or 0, 6), None if end is None else round(end, 6)
    if not 0 <= first < math.inf:
        raise UserError(f"the start, {start}, is not a number of seconds from 0")
    if last is not None and not first < last < math.inf:
        raise UserError(f"the end, {last} s, is not after the start, {first} s")
    try:
        if not path.is_file():
            raise UserError("no such file")
        path.open("rb").close()  # FFmpeg would not say why it cannot
        if path.suffix.lower() == ".npz":
            taken = _decode_array(read_array(path, max_pixels), preprocessing, first, last)
        else:
            try:
                taken = _decode_by_time(path, preprocessing, first, last, max_pixels)
            except UnusableTimesError:
                taken = _decode_in_order(path, preprocessing, first, last, max_pixels)
    except UserError:
        raise
    except av.error.ExitError as error:
        raise UserError(f"damaged: nothing to decode within {READ_SECONDS} s") from error
    except av.error.FFmpegError as error:
        raise UserError(f"damaged, cut off or no video ({one_line(error.strerror)}); {CONTAINERS_READ}") from error
    except OSError as error:
        raise UserError(f"not readable ({one_line(error.strerror)})") from error
    except Exception as error:  # Damaged files can make the parsers raise anything.
        raise UserError(f"damaged or no video ({type(error).__name__}); {CONTAINERS_READ}") from error
    return taken.clip, taken.facts


def read_clip(
    path: Path, preprocessing: Preprocessing, *, start: float | None = None, end: float | None = None
) -> tuple[Clips, Facts]:
    """Return the clip in one file, uint8, shape (1, frames, height, width, channels), and facts about the file.

    Raises:
        UserError: as from `decode_clip`, with the path and how to fix it.
    """
    try:
        clip, facts = decode_clip(path, preprocessing, start=start, end=end)
    except UserError as error:
        raise UserError(f"{path}: {error}; give another file, or convert this one to MP4") from error
    return clip[np.newaxis], facts


def read_windows(path: Path, preprocessing: Preprocessing, times: Sequence[tuple[float, float]]) -> Clips:
    """Return a clip of each piece of a video, uint8, shape (pieces, frames, height, width, channels).

    Args:
        times: start and end of each piece, in seconds after the first frame.

    Raises:
        UserError: as from `decode_clip`, with the path and how to fix it.
    """
    return np.concatenate([read_clip(path, preprocessing, start=start, end=end)[0] for start, end in times])


def _decode_by_time(
    path: Path, preprocessing: Preprocessing, start: float, end: float | None, max_pixels: int
) -> _Taken:
    with open_video(path, max_pixels) as video:
        audio = bool(video.container.streams.audio)
        if end is not None:
            first = next(decode_rest(video), None)
            origin = frame_time(first) if first else 0
            piece = piece_of((origin, origin), start, end, video.tick, video.frame_ticks)
            frames = decode_from(video, math.floor(piece.start))
            return _take(frames, piece, preprocessing, video.pixel_aspect, audio=audio)
        contents = read_contents(video)
        if contents.span is None:
            raise UnusableTimesError
        piece = piece_of(contents.span, start, None, video.tick, video.frame_ticks)
        if start == 0 and contents.packets:
            frames = decode_packets(video, contents.packets)
        else:
            frames = decode_from(video, math.floor(piece.start))
        taken = _take(frames, piece, preprocessing, video.pixel_aspect, audio=audio)
        check_not_cut_off(video, taken.end, contents.end)
        return taken


def _decode_in_order(
    path: Path, preprocessing: Preprocessing, start: float, end: float | None, max_pixels: int
) -> _Taken:
    """Decode a video by the order of its frames, at its mean rate."""
    with open_video(path, max_pixels) as video:
        contents = read_contents(video)
    with open_video(path, max_pixels) as video:
        audio = bool(video.container.streams.audio)
        piece = piece_of((0, contents.shown), start, end, 1 / video.rate)
        taken = _take(numbered(decode_rest(video)), piece, preprocessing, video.pixel_aspect, audio=audio)
        if end is None:
            check_not_cut_off(video, taken.end, contents.end)
        return taken


def _decode_array(array: NDArray[np.uint8], preprocessing: Preprocessing, start: float, end: float | None) -> _Taken:
    layout = "gray" if array.ndim == 3 else "rgb24"
    frames = (VideoFrame.from_ndarray(frame, format=layout) for frame in array)
    piece = piece_of((0, len(array)), start, end, Fraction(1, ARRAY_RATE))
    return _take(numbered(frames), piece, preprocessing, Fraction(1), audio=False)


def _take(
    frames: Iterable[VideoFrame], piece: Piece, preprocessing: Preprocessing, pixel_aspect: Fraction, *, audio: bool
) -> _Taken:
    count, height, width, colour, resize = preprocessing
    sampled = sample(frames, piece, count, scaler(height, width, colour, resize, pixel_aspect))
    seconds = float((piece.end - piece.start) * piece.tick)
    gaps = [after - before for before, after in zip(sampled.times, sampled.times[1:], strict=False)]
    facts = Facts(
        len(sampled.times),
        seconds,
        len(sampled.times) / seconds,
        *displayed_size(sampled.last, pixel_aspect),
        # At a constant rate, rounding to ticks makes some gaps one longer.
        variable_rate=bool(gaps) and max(gaps) - min(gaps) > max(1, min(gaps) / 10),
        audio=audio,
    )
    return _Taken(sampled.clip, facts, piece.seconds(sampled.end))
