"""Which frames become a clip: those on screen in the middle of equal segments of a video, or of a piece of it."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from motionbench.core.errors import UserError
from motionbench.data.scaling import Scale
from motionbench.data.video_files import UnusableTimesError, frame_time


class Piece(NamedTuple):
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


class Sampled(NamedTuple):
    """A clip and what was seen on the way.

    Attributes:
        clip: uint8, shape (frames, height, width, channels).
        times: when the frames of the piece start, in ticks.
        end: of the last frame that was read, in ticks.
        last: that frame.
    """

    clip: NDArray[np.uint8]
    times: list[int]
    end: int
    last: VideoFrame


def piece_of(span: tuple[int, int], start: float, end: float | None, tick: Fraction, frame_ticks: int = 1) -> Piece:
    """Return the piece between two times, or from one to the end of the video.

    Args:
        span: of the video, from the start of the first frame to the end of the last one, in ticks.
        start: in seconds after the first frame, used to the microsecond.
        end: also, and after `start`.
        tick: in seconds.
        frame_ticks: of a frame that does not say how long it is on screen.

    Raises:
        UserError: if it starts after the end of the video.
    """
    origin, video_end = span

    def ticks(seconds: float) -> Fraction:
        return origin + Fraction(round(seconds * 10**6), 10**6) / tick

    piece_end = Fraction(video_end) if end is None else ticks(end)
    piece = Piece(ticks(start), piece_end, end is None, origin, frame_ticks, tick)
    if piece.start >= piece.end:
        raise _beyond("start", piece.start, piece, video_end)
    return piece


def _beyond(name: str, time: Fraction, piece: Piece, video_end: int) -> UserError:
    asked, known = (float(piece.seconds(ticks)) for ticks in (time, video_end))
    return UserError(f"the {name}, {asked:.3f} s, is beyond the end of the video, {known:.3f} s")


def numbered(frames: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
    """Give frames their numbers, from 0, as times."""
    for number, frame in enumerate(frames):
        frame.pts, frame.duration = number, 1
        yield frame


def sample(frames: Iterable[VideoFrame], piece: Piece, count: int, scale: Scale) -> Sampled:
    """Take the frames on screen in the middle of `count` equal segments of a piece; repeat them where there are fewer.

    Args:
        frames: the first of them starts no later than the piece.

    Raises:
        UserError: if there is no frame, or if the piece reaches beyond the end of the video.
        UnusableTimesError: if the times of frames are missing, or do not increase.
    """
    moments = _moments(piece, count)
    pictures: list[NDArray[np.uint8]] = []
    times: list[int] = []
    shown, past_end = None, False
    for frame in frames:
        time = frame_time(frame)
        if times and time <= times[-1]:
            raise UnusableTimesError
        # Repeats that are due are scaled once.
        if shown is not None and len(pictures) < count and moments[len(pictures)] < time:
            pictures += [scale(shown)] * (bisect_left(moments, time) - len(pictures))
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
    shown_at_start = max(0, bisect_right(times, math.floor(piece.start)) - 1)
    return Sampled(np.stack(pictures), times[shown_at_start:], end, shown)


def _moments(piece: Piece, count: int) -> list[int]:
    """Return the middles of equal segments, in ticks.

    They are rounded down, since frames start at whole ticks. Fractions would take a tenth of the time that a small
    video takes.
    """
    parts = math.lcm(piece.start.denominator, piece.end.denominator)
    first, length = int(piece.start * parts), int((piece.end - piece.start) * parts)
    return [(2 * count * first + (2 * number + 1) * length) // (2 * count * parts) for number in range(count)]
