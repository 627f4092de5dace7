"""Video files as packets and frames: opened without trust, and refused where they are damaged or cut off."""

import errno
import gc
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from itertools import chain, islice, repeat, tee, zip_longest
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from motionbench.core.errors import UserError

MAX_PACKETS = 1_000_000  # of a file: more than two hours at 60 frames a second, and sound
KEPT_BYTES = 20_000_000  # of packets in memory: larger videos are read twice
PACKET_BYTES = 1_000  # that a packet takes besides its content, at most
READ_SECONDS = 20  # that FFmpeg may search for one packet
SPARE_BYTES = 500_000_000  # that must be free where a file is called damaged: more than FFmpeg takes for large frames

# FFmpeg's names. It would also "play" playlists, scripts, still pictures and text.
CONTAINERS = "mov,matroska,avi,mpeg,mpegts,gif,flv,asf,ogg"
JOINABLE = ("mpeg", "mpegts")  # Files of these can be put together as they are: times then begin again in the middle.
CONTAINERS_READ = "MP4, MOV, MKV, WebM, AVI, MPEG, FLV, WMV, Ogg, GIF and .npz are read"


class UnusableTimesError(Exception):
    """The times of frames are missing, or do not increase."""


class Video(NamedTuple):
    """An open file and its main video stream, whose unit of time is a tick."""

    path: Path
    max_pixels: int
    container: InputContainer
    stream: VideoStream
    rate: Fraction  # frames per second; FFmpeg's own default where the file says nothing
    tick: Fraction  # in seconds
    frame_ticks: int  # of a frame that does not say how long it is on screen
    pixel_aspect: Fraction  # the width of a pixel divided by its height
    audio: bool
    joinable: bool  # whether it may consist of files that were joined


class Contents(NamedTuple):
    """What the packets of a file say.

    Attributes:
        packets: of video, to decode; none where they are too large to keep.
        shown: the number of packets of video that are for display.
        span: from the start of the first frame to the end of the last one, in ticks; None where times are missing or,
            in joined files, begin again.
        end: of the last packet of any stream, in seconds.
    """

    packets: list["Packet[Any]"]
    shown: int
    span: tuple[int, int] | None
    end: Fraction


@contextmanager
def open_video(path: Path, max_pixels: int) -> Iterator[Video]:
    """Open a local video, to decode it in this thread alone.

    Raises:
        UserError: if there is no video in the file, its frames are too large, or it is a GIF that was cut off.
        av.error.FFmpegError: if FFmpeg cannot read it.
    """
    gc.collect(0)  # PyAV's frames are in cycles, and our processes seldom collect: of 300 files some took 1.9 GB.
    # FFmpeg counts the pixels of frames with the borders that it adds; `check_size` counts exactly.
    bounded = {"max_pixels": str(4 * max_pixels + 100_000)}
    options = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS, **bounded}
    with av.open(f"file:{path}", options=options, timeout=READ_SECONDS, metadata_errors="replace") as container:
        if container.format.name == "gif":
            _check_gif_end(path)
        stream = container.streams.best("video")
        if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:  # the cover of music
            raise UserError("no video in it")
        codec = stream.codec_context
        if codec is None:
            raise UserError("its video is of a kind that cannot be decoded")
        check_size(codec.width, codec.height, max_pixels)
        codec.thread_count = 1
        codec.thread_type = "NONE"
        # "explode": the decoder reports damage instead of drawing something in its place.
        codec.options = {"err_detect": "explode", **bounded}
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        tick = stream.time_base or Fraction(1)
        frame_ticks = max(1, round(1 / (rate * tick)))
        pixel_aspect = stream.sample_aspect_ratio or Fraction(1)
        audio = bool(container.streams.audio)
        joinable = container.format.name in JOINABLE
        yield Video(path, max_pixels, container, stream, rate, tick, frame_ticks, pixel_aspect, audio, joinable)


def _check_gif_end(path: Path) -> None:
    """Refuse a GIF that was cut off: FFmpeg would play what is left."""
    with path.open("rb") as file, suppress(IndexError):
        if _gif_ends(file):
            return
    raise UserError("cut off")


def _gif_ends(file: BinaryIO) -> bool:
    """Return whether a GIF has its end, whatever follows, or lacks no more than that after an image.

    Raises:
        IndexError: if it ends within a block.
    """

    def skip_colours(flags: int) -> None:
        file.seek(3 * 2 ** (flags % 8 + 1) if flags & 128 else 0, 1)

    skip_colours(file.read(13)[10])
    before, block = b"", file.read(1)
    while block in (b"!", b","):
        if block == b",":  # an image
            skip_colours(file.read(9)[8])
        file.seek(1, 1)
        while size := file.read(1)[0]:
            file.seek(size, 1)
        before, block = block, file.read(1)
    return block == b";" or before + block == b","


def check_system(error: av.error.FFmpegError) -> None:
    """Raise an `OSError` where the system lacks memory or open files: FFmpeg may call a lack of memory invalid data."""
    number = error.errno if error.errno in (errno.EMFILE, errno.ENFILE) else None
    try:
        np.empty(SPARE_BYTES, np.uint8)
    except MemoryError:
        number = errno.ENOMEM
    if number:
        raise OSError(number, os.strerror(number)) from error


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse frames of more than `max_pixels`."""
    if width * height > max_pixels:
        raise UserError(f"frames of {width}x{height} pixels: more than {max_pixels:,}")


def read_contents(video: Video) -> Contents:
    """Read to the end of a file without decoding.

    Raises:
        UserError: if there is no frame in it, or if it is too long.
    """
    times: list[int | None] = []
    packets: list[Packet[Any]] = []
    size, stream = 0, video.stream
    before, joined = None, False
    last: dict[int, tuple[int, int]] = {}  # of each stream: when its last packet starts, and its duration, in ticks
    for number, packet in enumerate(video.container.demux()):
        if number == MAX_PACKETS:
            raise UserError(f"more than {MAX_PACKETS:,} packets: too long")
        # Each attribute is read once: for small videos this loop takes as long as all else that is checked.
        of_video, packet_size = packet.stream is stream, packet.size
        if of_video and size <= KEPT_BYTES:
            packets.append(packet)
            size += packet_size + PACKET_BYTES
        if not packet_size or packet.is_discard:
            continue
        index, time = packet.stream_index, packet.pts
        duration = packet.duration or (video.frame_ticks if of_video else 0)
        if of_video:
            times.append(time)
            joined = joined or (video.joinable and _begins_again(before, packet))
            before = packet
        if time is not None and (index not in last or last[index] < (time, duration)):
            last[index] = (time, duration)
    if not times:
        raise UserError("no frame in it")
    known = [time for time in times if time is not None]
    span = (min(known), sum(last[stream.index])) if len(known) == len(times) and not joined else None
    ends = (sum(ticks) * (video.container.streams[index].time_base or Fraction(0)) for index, ticks in last.items())
    return Contents(packets if size <= KEPT_BYTES else [], len(times), span, max(ends, default=Fraction(0)))


def _begins_again(before: "Packet[Any] | None", packet: "Packet[Any] | None") -> bool:
    """Return whether the times of packets go back, as where files were joined."""
    times = [each.dts for each in (before, packet) if each is not None and each.dts is not None]
    return len(times) == 2 and times[1] < times[0]


def decode_packets(video: Video, packets: Iterable["Packet[Any]"]) -> Iterator[VideoFrame]:
    """Decode packets of video.

    Raises:
        UserError: if a packet or a frame is damaged.
        av.error.FFmpegError: if the decoder notices damage.
    """
    started = not video.joinable
    these, second, third = tee(packets, 3)
    ahead = zip_longest(islice(second, 1, None), islice(third, 2, None))
    for packet, (following, next_but_one) in zip(these, chain(ahead, repeat((None, None))), strict=False):
        # Where files were joined, a counter begins again, which looks like a loss one or two packets before.
        if packet.is_corrupt and not (
            video.joinable and (_begins_again(packet, following) or _begins_again(following, next_but_one))
        ):
            raise UserError("damaged or cut off")
        # The decoder would take an empty packet, with which an AVI repeats a frame, for the end.
        if not packet.size and packet.pts is not None:
            continue
        try:
            frames = video.stream.decode(packet)
        except av.error.InvalidDataError:
            if started or packet.is_keyframe:
                raise
            continue  # What was recorded from the middle on begins with what may need more than is there.
        for frame in frames:
            if frame.is_corrupt:
                raise UserError("damaged: a frame could not be decoded wholly")
            started = True
            yield frame


def decode_rest(video: Video) -> Iterator[VideoFrame]:
    """Decode from where a file has been read to; errors as from `decode_packets`."""
    return decode_packets(video, video.container.demux(video.stream))


def decode_again(video: Video) -> Iterator[VideoFrame]:
    """Decode a file from its start; errors as from `decode_packets`."""
    with open_video(video.path, video.max_pixels) as anew:
        yield from decode_rest(anew)


def decode_from(video: Video, time: int) -> Iterator[VideoFrame]:
    """Decode from the frame on screen at `time`, in ticks, or from an earlier one.

    Raises:
        UserError, OverflowError: as from `decode_packets`, and if the file cannot be read from there.
    """
    # One second earlier: some formats seek by the order of decoding, which is ahead of the display.
    video.container.seek(max(time - math.ceil(1 / video.tick), min(time, 0)), stream=video.stream)
    frames = decode_rest(video)
    first = next(frames, None)
    if first is None or frame_time(first) > time:
        raise UserError(f"no frame at {time} ticks")
    yield first
    yield from frames


def frame_time(frame: VideoFrame) -> int:
    """Return when a frame starts, in ticks.

    Raises:
        UnusableTimesError: if it does not say.
    """
    if frame.pts is None:
        raise UnusableTimesError
    return frame.pts


def check_not_cut_off(video: Video, video_seconds: Fraction, file_seconds: Fraction) -> None:
    """Refuse a file that ends before it says so.

    Args:
        video_seconds: until the end of the last frame.
        file_seconds: until the end of the last packet of any stream.
    """
    stream, container = video.stream, video.container
    if stream.duration is not None and stream.time_base is not None:
        claimed, found = stream.duration * stream.time_base, video_seconds
    elif container.duration is not None:
        claimed, found = Fraction(container.duration, av.time_base), max(video_seconds, file_seconds)
    else:
        return
    # Some AVIs have one or two frames fewer than they say.
    if found < claimed * Fraction(95, 100) and found + 2 / video.rate < claimed:
        raise UserError(f"cut off: {float(claimed):.3f} s long as it says, but it ends after {float(found):.3f} s")
