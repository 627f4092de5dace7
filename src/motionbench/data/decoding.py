"""Videos, GIFs and arrays of frames as clips: all are checked, sampled by time, and scaled in the same way.

A clip has the frames that are on screen in the middle of equal segments of a video, or of a piece of it.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from motionbench.core.errors import UserError, is_of_the_system, one_line
from motionbench.data.array_files import read_array
from motionbench.data.params import Preprocessing
from motionbench.data.scaling import displayed_size, scaler
from motionbench.data.splits import Clips
from motionbench.data.video_files import (
    CONTAINERS_READ,
    READ_SECONDS,
    UnusableTimesError,
    check_not_cut_off,
    check_system,
    decode_again,
    decode_from,
    decode_packets,
    decode_rest,
    frame_time,
    open_video,
    read_contents,
)

MAX_PIXELS = 8_300_000  # of a frame: 3840x2160
ARRAY_RATE = 10  # frames per second of an .npz file: that of the GIFs this project writes


class Facts(NamedTuple):
    """What a video says about itself, or a piece of one."""

    frames: int
    seconds: float
    rate: float  # mean frames per second
    width: int  # as displayed: rotated, and with square pixels
    height: int
    variable_rate: bool
    audio: bool


class _Piece(NamedTuple):
    """The part of a video to take, in ticks.

    Attributes:
        to_the_end: whether it ends where the video does.
        origin: where the first frame of the video starts.
        frame_ticks: of a frame that does not say how long it is on screen.
        tick: in seconds.
    """

    start: Fraction
    end: Fraction
    to_the_end: bool
    origin: int
    frame_ticks: int
    tick: Fraction

    def seconds(self, time: Fraction | int) -> Fraction:
        """Return a time, in ticks, in seconds after the start of the first frame."""
        return (time - self.origin) * self.tick


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
        OSError: if the system is at fault, such as where it has no more memory.
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
            return _decode_array(read_array(path, max_pixels), preprocessing, first, last)
        try:
            return _decode_by_time(path, preprocessing, first, last, max_pixels)
        except UnusableTimesError:
            return _decode_in_order(path, preprocessing, first, last, max_pixels)
    except av.error.ExitError as error:
        raise UserError(f"damaged: nothing to decode within {READ_SECONDS} s") from error
    except av.error.FFmpegError as error:
        check_system(error)
        raise UserError(f"damaged, cut off or no video ({one_line(error.strerror)}); {CONTAINERS_READ}") from error
    except OSError as error:
        if is_of_the_system(error) and not isinstance(error, PermissionError):
            raise  # It says nothing of this file.
        raise UserError(f"not readable ({one_line(error.strerror)})") from error


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


def _decode_by_time(
    path: Path, preprocessing: Preprocessing, start: float, end: float | None, max_pixels: int
) -> tuple[NDArray[np.uint8], Facts]:
    with open_video(path, max_pixels) as video:
        contents = read_contents(video) if end is None or video.joinable else None
        if contents and contents.span is None:
            raise UnusableTimesError
        frames = decode_packets(video, contents.packets) if contents and contents.packets else decode_again(video)
        first = list(islice(frames, 1))  # not always of the first packet: that may need some which a recording lacks
        origin = frame_time(first[0]) if first else 0
        known_start, known_end = contents.span if contents and contents.span else (origin, origin)
        piece = _piece_of((origin, known_end), start, end, video.tick, video.frame_ticks)
        rest = (piece, preprocessing, video.pixel_aspect, video.audio)
        if start == 0 and end is None:
            clip, facts, seconds = _sample_clip(chain(first, frames), *rest)
        else:
            try:
                clip, facts, seconds = _sample_clip(decode_from(video, math.floor(piece.start)), *rest)
            except (av.error.FFmpegError, OverflowError, UserError):  # A frame may need some from before a seek.
                clip, facts, seconds = _sample_clip(decode_again(video), *rest)
        if contents and end is None:
            check_not_cut_off(video, seconds + (origin - known_start) * video.tick, contents.end)
        return clip, facts


def _decode_in_order(
    path: Path, preprocessing: Preprocessing, start: float, end: float | None, max_pixels: int
) -> tuple[NDArray[np.uint8], Facts]:
    """Decode a video by the order of its frames, at its mean rate."""
    with open_video(path, max_pixels) as video:
        contents = read_contents(video)
    with open_video(path, max_pixels) as video:
        piece = _piece_of((0, contents.shown), start, end, 1 / video.rate)
        frames = _numbered(decode_rest(video))
        clip, facts, seconds = _sample_clip(frames, piece, preprocessing, video.pixel_aspect, video.audio)
        if end is None:
            check_not_cut_off(video, seconds, contents.end)
        return clip, facts


def _decode_array(
    array: NDArray[np.uint8], preprocessing: Preprocessing, start: float, end: float | None
) -> tuple[NDArray[np.uint8], Facts]:
    layout = "gray" if array.ndim == 3 else "rgb24"
    frames = (VideoFrame.from_ndarray(frame, format=layout) for frame in array)
    piece = _piece_of((0, len(array)), start, end, Fraction(1, ARRAY_RATE))
    return _sample_clip(_numbered(frames), piece, preprocessing, Fraction(1), False)[:2]


def _piece_of(span: tuple[int, int], start: float, end: float | None, tick: Fraction, frame_ticks: int = 1) -> _Piece:
    """Return the piece between two times, or from one to the end of the video.

    Args:
        span: of the video, from the start of the first frame to the end of the last one, in ticks.
        start: in seconds after the first frame, used to the microsecond.
        end: also, and after `start`.
        tick, frame_ticks: as of `_Piece`.

    Raises:
        UserError: if it starts after the end of the video.
    """
    origin, video_end = span

    def ticks(seconds: float) -> Fraction:
        return origin + Fraction(round(seconds * 10**6), 10**6) / tick

    piece_end = Fraction(video_end) if end is None else ticks(end)
    piece = _Piece(ticks(start), piece_end, end is None, origin, frame_ticks, tick)
    if piece.start >= piece.end:
        raise _beyond("start", piece.start, piece, video_end)
    return piece


def _beyond(name: str, time: Fraction, piece: _Piece, video_end: int) -> UserError:
    asked, known = (float(piece.seconds(ticks)) for ticks in (time, video_end))
    return UserError(f"the {name}, {asked:.3f} s, is beyond the end of the video, {known:.3f} s")


def _numbered(frames: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
    """Give frames their numbers, from 0, as times."""
    for number, frame in enumerate(frames):
        frame.pts, frame.duration = number, 1
        yield frame


def _sample_clip(
    frames: Iterable[VideoFrame], piece: _Piece, preprocessing: Preprocessing, pixel_aspect: Fraction, audio: bool
) -> tuple[NDArray[np.uint8], Facts, Fraction]:
    """Take the frames on screen in the middle of equal segments of a piece; repeat them where there are fewer.

    Args:
        frames: the first of them starts no later than the piece.

    Returns:
        The clip; what was seen on the way; and the end of the last frame that was read, in seconds after the start of
        the first one.

    Raises:
        UserError: if there is no frame, or if the piece reaches beyond the end of the video.
        UnusableTimesError: if the times of frames are missing, or do not increase.
    """
    scale, count = scaler(preprocessing, pixel_aspect), preprocessing.frames
    times_wanted = _sample_times(piece, count)
    pictures: list[NDArray[np.uint8]] = []
    times: list[int] = []
    shown, past_end = None, False
    for frame in frames:
        time = frame_time(frame)
        if times and time <= times[-1]:
            raise UnusableTimesError
        # Repeats that are due are scaled once.
        if shown is not None and len(pictures) < count and times_wanted[len(pictures)] < time:
            pictures += [scale(shown)] * (bisect_left(times_wanted, time) - len(pictures))
        if not piece.to_the_end and time >= piece.end:
            past_end = True
            break
        times.append(time)
        shown = frame
    if shown is None:
        raise UserError("no frame could be decoded")
    end = times[-1] + (shown.duration or piece.frame_ticks)
    if not past_end and end <= piece.start:
        raise _beyond("start", piece.start, piece, end)
    if not past_end and not piece.to_the_end and end + piece.frame_ticks < piece.end:
        raise _beyond("end", piece.end, piece, end)
    pictures += [scale(shown)] * (count - len(pictures))
    times = times[max(0, bisect_right(times, math.floor(piece.start)) - 1) :]  # of the frames of the piece
    seconds = float((piece.end - piece.start) * piece.tick)
    gaps = [after - before for before, after in pairwise(times)]
    facts = Facts(
        len(times),
        seconds,
        len(times) / seconds,
        *displayed_size(shown, pixel_aspect),
        # At a constant rate, rounding to ticks makes some gaps one longer.
        variable_rate=bool(gaps) and max(gaps) - min(gaps) > max(1, min(gaps) / 10),
        audio=audio,
    )
    return np.stack(pictures), facts, piece.seconds(end)


def _sample_times(piece: _Piece, count: int) -> list[int]:
    """Return the middles of equal segments, in ticks.

    They are rounded down, since frames start at whole ticks: whole numbers are faster than fractions.
    """
    parts = math.lcm(piece.start.denominator, piece.end.denominator)
    first, length = int(piece.start * parts), int((piece.end - piece.start) * parts)
    return [(2 * count * first + (2 * number + 1) * length) // (2 * count * parts) for number in range(count)]
