"""Videos, GIFs and arrays of frames as clips: all are checked, sampled by time, and scaled in the same way."""

import math
import zipfile
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from motionbench.core.errors import UserError, one_line
from motionbench.data.splits import Clips, read_npy_header

MAX_PIXELS = 8_300_000  # of a frame: 3840x2160
MAX_PACKETS = 1_000_000  # of a file: more than two hours at 60 frames a second, and sound
MAX_ARRAY_BYTES = 100_000_000  # of the frames in an .npz file
MAX_ASPECT = 100  # of a frame: to fill a clip with a narrower one could take any amount of memory
KEPT_BYTES = 20_000_000  # of packets in memory: larger videos are read twice
PACKET_BYTES = 1_000  # that a packet takes besides its content, at most
READ_SECONDS = 20  # that FFmpeg may search for one packet

# FFmpeg's names. It would also "play" playlists, scripts, still pictures and text.
CONTAINERS = "mov,matroska,avi,mpeg,mpegts,gif,flv,asf,ogg"
CONTAINERS_READ = "MP4, MOV, MKV, WebM, AVI, MPEG, FLV, WMV, Ogg, GIF and .npz are read"

ARRAY_RATE = 10  # frames per second of an .npz file: that of the GIFs this project writes
# FULL_CHR_H_INT: or else white would become 253, and small coloured pictures would have half their colours.
SCALING = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.BITEXACT | Interpolation.FULL_CHR_H_INT


class Preprocessing(NamedTuple):
    """How a video becomes a clip.

    To resize, "pad" fits the whole picture in and adds black bars, "crop" fills the clip and cuts off what is left
    over, and "stretch" changes the proportions.
    """

    frames: int
    height: int
    width: int
    colour: Literal["grey", "rgb"]
    resize: Literal["pad", "crop", "stretch"]


class Facts(NamedTuple):
    """What a video says about itself, or a piece of one."""

    frames: int
    seconds: float
    rate: float  # mean frames per second
    width: int  # as displayed: rotated, and with square pixels
    height: int
    variable_rate: bool
    audio: bool


class _Span(NamedTuple):
    """From the start of the first frame to the end of the last one, in ticks."""

    start: int
    end: int


class _Piece(NamedTuple):
    """The part of a video to take, in ticks."""

    start: Fraction
    end: Fraction
    to_the_end: bool  # of the video
    origin: int  # where its first frame starts
    frame_ticks: int  # of a frame that does not say how long it is on screen
    tick: Fraction  # in seconds


class _Contents(NamedTuple):
    """Of a file: what its packets say."""

    packets: list["Packet[Any]"]  # of video, to decode; none where they are too large to keep
    shown: int  # packets of video that are for display
    span: _Span | None  # None where time stamps are missing
    end: Fraction  # of the last packet of any stream, in seconds


class _Sampled(NamedTuple):
    """A clip and what was seen on the way: the times of the frames of its piece, and their size as displayed."""

    clip: NDArray[np.uint8]
    times: list[int]
    end: int  # of the last frame that was read
    width: int
    height: int


class _UnusableTimesError(Exception):
    """The times of frames are missing, or do not increase."""


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
        start: of the piece to take, in seconds after the first frame.
        end: of that piece.
        max_pixels: of a frame.

    Raises:
        UserError: if the file is damaged, cut off, too large or no video. The message is the reason, without the path.
    """
    if start is not None and not 0 <= start < math.inf:
        raise UserError(f"the start, {start}, is not a number of seconds from 0")
    if end is not None and not (start or 0) < end < math.inf:
        raise UserError(f"the end, {end} s, is not after the start, {start or 0} s")
    try:
        if not path.is_file():
            raise UserError("no such file")
        path.open("rb").close()  # FFmpeg would not say why it cannot
        if path.suffix.lower() == ".npz":
            return _decode_array(_read_npz(path, max_pixels), preprocessing, start, end)
        try:
            return _decode_by_time(path, preprocessing, start, end, max_pixels)
        except _UnusableTimesError:
            return _decode_in_order(path, preprocessing, start, end, max_pixels)
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
    path: Path, preprocessing: Preprocessing, start: float | None, end: float | None, max_pixels: int
) -> tuple[NDArray[np.uint8], Facts]:
    with _open(path, max_pixels) as (container, stream):
        tick = stream.time_base or Fraction(1)
        frame_ticks = max(1, round(1 / (_rate(stream) * tick)))
        if end is None:
            contents = _read_contents(container, stream, frame_ticks)
            if contents.span is None:
                raise _UnusableTimesError
            piece = _piece(contents.span, start, end, frame_ticks, tick)
        else:
            first = next(_frames(stream, container.demux(stream)), None)
            origin = _time(first) if first else 0
            piece = _piece(_Span(origin, origin), start, end, frame_ticks, tick)
        if start is None and end is None and contents.packets:
            frames = _frames(stream, contents.packets)
        else:
            frames = _frames_from(container, stream, path, max_pixels, math.floor(piece.start), math.ceil(1 / tick))
        sampled = _sample(frames, piece, preprocessing, stream.sample_aspect_ratio)
        if end is None:
            _check_not_cut_off(container, stream, (sampled.end - piece.origin) * tick, contents.end)
        return sampled.clip, _facts(sampled, piece, audio=bool(container.streams.audio))


def _decode_in_order(
    path: Path, preprocessing: Preprocessing, start: float | None, end: float | None, max_pixels: int
) -> tuple[NDArray[np.uint8], Facts]:
    """Decode a video by the order of its frames, at its mean rate."""
    with _open(path, max_pixels) as (container, stream):
        contents = _read_contents(container, stream, 1)
        piece = _piece(_Span(0, contents.shown), start, end, 1, 1 / _rate(stream))
    with _open(path, max_pixels) as (container, stream):
        frames = _frames(stream, container.demux(stream))
        sampled = _sample(_numbered(frames), piece, preprocessing, stream.sample_aspect_ratio)
        if end is None:
            _check_not_cut_off(container, stream, sampled.end * piece.tick, contents.end)
        return sampled.clip, _facts(sampled, piece, audio=bool(container.streams.audio))


def _decode_array(
    array: NDArray[np.uint8], preprocessing: Preprocessing, start: float | None, end: float | None
) -> tuple[NDArray[np.uint8], Facts]:
    layout = "gray" if array.ndim == 3 else "rgb24"
    frames = (VideoFrame.from_ndarray(frame, format=layout) for frame in array)
    piece = _piece(_Span(0, len(array)), start, end, 1, Fraction(1, ARRAY_RATE))
    sampled = _sample(_numbered(frames), piece, preprocessing, None)
    return sampled.clip, _facts(sampled, piece, audio=False)


def _read_npz(path: Path, max_pixels: int) -> NDArray[np.uint8]:
    """Return the frames in an .npz file, shape (frames, height, width) if grey, or (frames, height, width, 3)."""
    if path.stat().st_size > MAX_ARRAY_BYTES:
        raise UserError(f"larger than {MAX_ARRAY_BYTES:,} bytes")
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) != 1:
            members = [member for member in members if member.filename in ("clip.npy", "clips.npy")]
        if len(members) != 1:
            raise UserError("holds neither a single array nor one called clip or clips")
        [member] = members
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UserError("compressed otherwise than by numpy")
        with archive.open(member) as file:
            shape, dtype = read_npy_header(file)
            if dtype != np.uint8 or len(shape) not in (3, 4) or shape[3:] not in ((), (1,), (3,)) or 0 in shape:
                expected = "uint8 (frames, height, width) or (frames, height, width, 1 or 3)"
                raise UserError(f"holds {str(dtype)[:50]} {str(shape)[:100]}, not {expected}")
            if math.prod(shape) > MAX_ARRAY_BYTES:
                raise UserError(f"frames of more than {MAX_ARRAY_BYTES:,} bytes")
            _check_size(shape[2], shape[1], max_pixels)
            # Reading one byte more than expected detects a wrong length and verifies the checksum.
            content = file.read(math.prod(shape) + 1)
    return np.frombuffer(content, np.uint8).reshape(shape[:3] if shape[3:] == (1,) else shape)


@contextmanager
def _open(path: Path, max_pixels: int) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a local video; yield it and its main video stream, ready to decode in this thread alone."""
    options = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS, "max_pixels": str(max_pixels)}
    with av.open(f"file:{path}", options=options, timeout=READ_SECONDS, metadata_errors="replace") as container:
        if container.format.name == "gif":
            _check_gif_end(path)
        stream = container.streams.best("video")
        if not isinstance(stream, VideoStream):
            raise UserError("no video in it")
        codec = stream.codec_context
        if codec is None:
            raise UserError("its video is of a kind that cannot be decoded")
        _check_size(codec.width, codec.height, max_pixels)
        codec.thread_count = 1
        codec.thread_type = "NONE"
        # "explode": the decoder reports damage instead of drawing something in its place.
        codec.options = {"max_pixels": str(max_pixels), "err_detect": "explode"}
        yield container, stream


def _check_gif_end(path: Path) -> None:
    """Refuse a GIF that was cut off: FFmpeg would play what is left."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 1000))
        if not file.read().rstrip(b"\0").endswith(b";"):
            raise UserError("cut off")


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise UserError(f"frames of {width}x{height} pixels: more than {max_pixels:,}")


def _rate(stream: VideoStream) -> Fraction:
    """Return frames per second; FFmpeg's own default where the file says nothing."""
    return stream.average_rate or stream.guessed_rate or Fraction(25)


def _time(frame: VideoFrame) -> int:
    if frame.pts is None:
        raise _UnusableTimesError
    return frame.pts


def _piece(whole: _Span, start: float | None, end: float | None, frame_ticks: int, tick: Fraction) -> _Piece:
    """Return the piece between two times in seconds after the first frame, which are rounded to microseconds."""
    first, last = (Fraction(round((seconds or 0) * 10**6), 10**6) / tick for seconds in (start, end))
    stop = Fraction(whole.end) if end is None else whole.start + last
    piece = _Piece(whole.start + first, stop, end is None, whole.start, frame_ticks, tick)
    if piece.start >= piece.end:
        raise _beyond("start", piece.start, piece, whole.end)
    return piece


def _beyond(name: str, time: Fraction, piece: _Piece, video_end: int) -> UserError:
    asked, known = (float((ticks - piece.origin) * piece.tick) for ticks in (time, video_end))
    return UserError(f"the {name}, {asked:.3f} s, is beyond the end of the video, {known:.3f} s")


def _read_contents(container: InputContainer, stream: VideoStream, frame_ticks: int) -> _Contents:
    """Read to the end of a file without decoding."""
    times: list[int | None] = []
    packets: list[Packet[Any]] = []
    size = 0
    last: dict[int, tuple[int, int]] = {}  # of each stream: when its last packet starts, and its duration, in ticks
    for number, packet in enumerate(container.demux()):
        if number == MAX_PACKETS:
            raise UserError(f"more than {MAX_PACKETS:,} packets: too long")
        time, duration = packet.pts, packet.duration or 0
        if packet.stream is stream and size <= KEPT_BYTES:
            packets.append(packet)
            size += packet.size + PACKET_BYTES
        if not packet.size or packet.is_discard:
            continue
        if packet.stream is stream:
            times.append(time)
            duration = duration or frame_ticks
        if time is not None:
            index = packet.stream_index
            last[index] = max(last.get(index, (time, duration)), (time, duration))
    if not times:
        raise UserError("no frame in it")
    known = [time for time in times if time is not None]
    span = _Span(min(known), sum(last[stream.index])) if len(known) == len(times) else None
    ends = (sum(ticks) * (container.streams[index].time_base or Fraction(0)) for index, ticks in last.items())
    return _Contents(packets if size <= KEPT_BYTES else [], len(times), span, max(ends, default=Fraction(0)))


def _frames(stream: VideoStream, packets: Iterable["Packet[Any]"]) -> Iterator[VideoFrame]:
    """Decode packets, and refuse damaged ones."""
    for packet in packets:
        if packet.is_corrupt:
            raise UserError("damaged or cut off")
        # The decoder would take an empty packet, with which an AVI repeats a frame, for the end.
        if not packet.size and packet.pts is not None:
            continue
        for frame in stream.decode(packet):
            if frame.is_corrupt:
                raise UserError("damaged: a frame could not be decoded wholly")
            yield frame


def _numbered(frames: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
    """Give frames their numbers, from 0, as time stamps."""
    for number, frame in enumerate(frames):
        frame.pts, frame.duration = number, 1
        yield frame


def _frames_from(
    container: InputContainer, stream: VideoStream, path: Path, max_pixels: int, time: int, second: int
) -> Iterator[VideoFrame]:
    """Decode the frames from the one on screen at `time` on, or from an earlier one; `second` is the ticks in one."""
    try:
        frames = _frames(stream, container.demux(stream))
        # One second earlier: some formats seek by the order of decoding, which is ahead of the display.
        container.seek(max(time - second, min(time, 0)), stream=stream)
        first = next(frames, None)
    except (av.error.FFmpegError, OverflowError, UserError):
        first = None
    if first is not None and _time(first) <= time:
        yield first
        yield from frames
    else:  # Not all formats can seek.
        with _open(path, max_pixels) as (container, stream):
            yield from _frames(stream, container.demux(stream))


def _sample(
    frames: Iterable[VideoFrame], piece: _Piece, preprocessing: Preprocessing, pixel_aspect: Fraction | None
) -> _Sampled:
    """Take the frames on screen in the middle of equal segments of a piece.

    Args:
        frames: with time stamps in ticks.
        pixel_aspect: width of a pixel divided by its height; None where they are equal.
    """
    count = preprocessing.frames
    # In whole ticks, rounded down, since frames start at whole ticks. Fractions would take a tenth of the time that a
    # small video takes.
    parts = math.lcm(piece.start.denominator, piece.end.denominator)
    first, length = int(piece.start * parts), int((piece.end - piece.start) * parts)
    moments = [(2 * count * first + (2 * number + 1) * length) // (2 * count * parts) for number in range(count)]
    aspect = pixel_aspect or Fraction(1)
    scale = _scaler(preprocessing, aspect)
    pictures: list[NDArray[np.uint8]] = []
    times: list[int] = []
    shown, past_end = None, False
    for frame in frames:
        time = _time(frame)
        if times and time <= times[-1]:
            raise _UnusableTimesError
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
    return _Sampled(np.stack(pictures), times[shown_at_start:], end, *_displayed_size(shown, aspect))


def _displayed_size(frame: VideoFrame, pixel_aspect: Fraction) -> tuple[int, int]:
    """Return width and height with square pixels, after rotation."""
    width = frame.width if pixel_aspect == 1 else max(1, round(frame.width * pixel_aspect))
    size = (width, frame.height)
    return size if _quarter_turns(frame) % 2 == 0 else size[::-1]


def _quarter_turns(frame: VideoFrame) -> int:
    return round(frame.rotation / 90)


def _scaler(preprocessing: Preprocessing, pixel_aspect: Fraction) -> Callable[[VideoFrame], NDArray[np.uint8]]:
    """Return a function from a frame to a picture, uint8, shape (height, width, channels)."""
    reformatter = VideoReformatter()  # one for all frames: to set one up takes longer than to scale
    _, height, width, colour, resize = preprocessing
    layout, channels = ("gray", 1) if colour == "grey" else ("rgb24", 3)

    @cache
    def scaled_size(columns: int, rows: int) -> tuple[int, int]:
        if max(columns, rows) > MAX_ASPECT * min(columns, rows):
            raise UserError(f"frames of {columns}x{rows} pixels: too narrow")
        if resize == "stretch":
            return width, height
        ratios = (width / columns, height / rows)
        ratio = min(ratios) if resize == "pad" else max(ratios)
        return max(1, round(columns * ratio)), max(1, round(rows * ratio))

    def scale(frame: VideoFrame) -> NDArray[np.uint8]:
        turns = _quarter_turns(frame)
        size = scaled_size(*_displayed_size(frame, pixel_aspect))
        columns, rows = size if turns % 2 == 0 else size[::-1]
        scaled = reformatter.reformat(
            frame, columns, rows, layout, interpolation=SCALING, dst_color_range=ColorRange.JPEG, threads=1
        )
        picture = scaled.to_ndarray().astype(np.uint8, copy=False).reshape(rows, columns, channels)
        return _centred(np.rot90(picture, turns) if turns else picture, height, width)

    return scale


def _centred(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Cut off what is larger than a size, and add black around what is smaller."""
    if picture.shape[:2] == (height, width):
        return picture
    top, left = ((found - wanted) // 2 for found, wanted in zip(picture.shape, (height, width), strict=False))
    cut = picture[max(0, top) : max(0, top) + height, max(0, left) : max(0, left) + width]
    canvas = np.zeros((height, width, picture.shape[2]), np.uint8)
    canvas[max(0, -top) : max(0, -top) + cut.shape[0], max(0, -left) : max(0, -left) + cut.shape[1]] = cut
    return canvas


def _check_not_cut_off(
    container: InputContainer, stream: VideoStream, video_seconds: Fraction, file_end: Fraction
) -> None:
    """Refuse a video that ends before the file says so."""
    if stream.duration is not None and stream.time_base is not None:
        claimed, found = stream.duration * stream.time_base, video_seconds
    elif container.duration is not None:
        claimed, found = Fraction(container.duration, av.time_base), max(video_seconds, file_end)
    else:
        return
    # Some AVIs have one or two frames fewer than they say.
    if found < claimed * Fraction(95, 100) and found + 2 / _rate(stream) < claimed:
        raise UserError(f"cut off: {float(claimed):.3f} s long as it says, but it ends after {float(found):.3f} s")


def _facts(sampled: _Sampled, piece: _Piece, *, audio: bool) -> Facts:
    frames, seconds = len(sampled.times), (piece.end - piece.start) * piece.tick
    gaps = [after - before for before, after in zip(sampled.times, sampled.times[1:], strict=False)]
    # At a constant rate, rounding to ticks makes some gaps one longer.
    variable = bool(gaps) and max(gaps) - min(gaps) > max(1, min(gaps) / 10)
    rate = float(frames / seconds)
    return Facts(frames, float(seconds), rate, sampled.width, sampled.height, variable, audio)
