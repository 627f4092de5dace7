"""What a model answers along a video: a table, a chart, and the video with the answers below its pictures."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import matplotlib as mpl
import numpy as np
import pandas as pd
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from motionbench.core.errors import UserError
from motionbench.reporting.figures import COLOURS, new_figure

LONG = 1.5  # times the clips of the training
RATE = 25  # frames a second of the annotated video
WIDTH, MAX_HEIGHT = 320, 640  # of the annotated video in pixels, without the bar
BAR_HEIGHT, FONT_SIZE = 32, 18  # pixels
LINE_STYLES = ("-", "--")  # with 7 colours: 14 classes look different
LEGEND_CHARACTERS = 24  # of a class name, so that a long one leaves room for the chart


class Window(NamedTuple):
    """A piece of a video, in seconds from its first frame, and the probability of each class in it."""

    start: float
    end: float
    probabilities: tuple[float, ...]


def is_long(seconds: float, clip_seconds: float) -> bool:
    """Return whether a video is too long to be one clip, where those of the training last `clip_seconds`."""
    return seconds > LONG * clip_seconds


def window_times(seconds: float, clip_seconds: float) -> list[tuple[float, float]]:
    """Return start and end, in seconds, of windows over a long video: each as long as a clip, half of it overlapping.

    The last one ends with the video.
    """
    starts = np.arange(0, seconds - clip_seconds, clip_seconds / 2)
    return [(start, start + clip_seconds) for start in (*starts.tolist(), seconds - clip_seconds)]


def write_timeline(folder: Path, video: Path, windows: Sequence[Window], class_names: Sequence[str]) -> None:
    """Write windows.csv, timeline.png and annotated.mp4 into `folder`.

    The chart and the annotated video show, at each moment, the mean probabilities of the windows that hold it.

    Args:
        folder: exists.
        video: from which the windows are.
        windows: one or more, which may overlap or leave gaps.
        class_names: in the order of a window's probabilities.

    Raises:
        UserError: if the video is not readable.
    """
    probabilities = np.array([window.probabilities for window in windows])
    table = pd.DataFrame(probabilities, columns=list(class_names))
    answers = [class_names[best] for best in probabilities.argmax(axis=1)]
    times = pd.DataFrame({"start": [window.start for window in windows], "end": [window.end for window in windows]})
    pd.concat([times.assign(answer=answers), table], axis="columns").to_csv(folder / "windows.csv", index=False)

    edges, means = mean_probabilities(windows)
    timeline_chart(edges, means, class_names, video.name).savefig(folder / "timeline.png", dpi=100)
    texts = [""] * len(means)
    for interval in np.flatnonzero(~np.isnan(means[:, 0])):
        best = means[interval].argmax()
        texts[interval] = f"{means[interval, best]:.2f}  {class_names[best]}"
    annotate_video(video, folder / "annotated.mp4", edges, texts)


def mean_probabilities(windows: Sequence[Window]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average overlapping windows.

    Returns:
        Where windows start or end, in seconds, shape (intervals + 1,); and the mean probabilities between, shape
        (intervals, classes), NaN where there is no window.
    """
    starts, ends = np.array([(window.start, window.end) for window in windows]).T
    # A row of a window counts it in the first column. Sums along the edges: the time is linear in the windows.
    rows = np.array([(1, *window.probabilities) for window in windows])
    edges = np.unique(np.concatenate([starts, ends]))
    changes = np.zeros((len(edges), rows.shape[1]))
    np.add.at(changes, np.searchsorted(edges, starts), rows)
    np.subtract.at(changes, np.searchsorted(edges, ends), rows)
    sums = changes.cumsum(axis=0)[:-1]
    return edges, sums[:, 1:] / np.where(sums[:, :1] > 0, sums[:, :1], np.nan)


def timeline_chart(
    edges: NDArray[np.float64], means: NDArray[np.float64], class_names: Sequence[str], title: str
) -> Figure:
    """Draw the probability of each class over time; arguments as `mean_probabilities` returns them."""
    figure = new_figure(9, 3.6 + 0.2 * (len(class_names) // 4))
    axis = figure.subplots()
    lines = [
        axis.stairs(
            values, edges, baseline=None, linewidth=1.8, color=COLOURS[number % len(COLOURS)],
            linestyle=LINE_STYLES[number // len(COLOURS) % len(LINE_STYLES)],
        )
        for number, values in enumerate(means.T)
    ]  # fmt: skip
    axis.set(xlabel="time (seconds)", ylabel="probability", xlim=(0, edges[-1]), ylim=(-0.02, 1.02))
    axis.set_title(title, parse_math=False)
    names = [
        name if len(name) <= LEGEND_CHARACTERS else f"{name[: LEGEND_CHARACTERS - 1]}…"  # one character
        for name in class_names
    ]
    for text in figure.legend(lines, names, loc="outside lower center", ncols=4).get_texts():
        text.set_parse_math(False)
    return figure


def annotate_video(source: Path, target: Path, edges: NDArray[np.float64], texts: Sequence[str]) -> None:
    """Write a video as an mp4 with a text below its pictures. One picture is in memory at a time.

    Args:
        source: the video. Its pictures are fitted into 320x640 pixels, turned and in proportion as players show them.
        target: the mp4 file, H.264, 25 frames a second.
        edges: where the text changes, in seconds from the first frame.
        texts: between one edge and the next; before the first and after the last edge there is none.

    Raises:
        UserError: if the video is not readable.
    """
    # The font of the chart: Pillow's own has no Greek or Cyrillic letters.
    font = ImageFont.truetype(Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", FONT_SIZE)
    try:
        # Written through a file of Python's: a full disk is then an OSError, not one of FFmpeg's.
        with (
            av.open(f"file:{source}") as container,
            target.open("wb") as file,
            av.open(file, "w", format="mp4") as output,
        ):
            encoder = output.add_stream("libx264", rate=RATE)
            encoder.pix_fmt = "yuv420p"
            for number, picture in enumerate(_pictures(container)):
                if number == 0:
                    encoder.width, encoder.height = WIDTH, picture.height + BAR_HEIGHT
                canvas = Image.new("RGB", (encoder.width, encoder.height))
                canvas.paste(picture, ((WIDTH - picture.width) // 2, 0))
                interval = int(np.searchsorted(edges, (number + 0.5) / RATE, side="right")) - 1
                if 0 <= interval < len(texts):
                    middle = (8, encoder.height - BAR_HEIGHT / 2)
                    ImageDraw.Draw(canvas).text(middle, texts[interval], font=font, anchor="lm")
                output.mux(encoder.encode(VideoFrame.from_ndarray(np.asarray(canvas))))
            output.mux(encoder.encode())
    except av.FFmpegError as error:
        raise UserError(f"{source}: not readable as a video ({error.strerror}); convert it or take another") from error


def _pictures(container: InputContainer) -> Iterator[Image.Image]:
    """Yield what is on screen in the middle of each frame of the annotated video."""
    reformatter = VideoReformatter()
    number = 0
    size = None
    for frame, end in _frames(container):
        size = size or _displayed_size(frame, container)
        picture = None
        while (number + 0.5) / RATE < end:
            picture = picture or _picture(frame, size, reformatter)
            yield picture
            number += 1


def _frames(container: InputContainer) -> Iterator[tuple[VideoFrame, float]]:
    """Yield each frame and the moment at which it leaves the screen, in seconds from the first frame.

    Where time stamps are missing or do not increase, as in files of some cameras, frames follow at the usual rate.
    """
    stream = container.streams.video[0]
    usual = float(1 / (stream.average_rate or RATE))
    shown, start, origin = None, 0.0, 0.0
    for frame in container.decode(stream):
        time = frame.time
        if shown is None:
            origin = time or 0.0
        else:
            end = start + usual if time is None or time - origin <= start else time - origin
            yield shown, end
            start = end
        shown = frame
    if shown is not None:
        yield shown, start + (float(shown.duration * shown.time_base) if shown.duration and shown.time_base else usual)


def _displayed_size(frame: VideoFrame, container: InputContainer) -> tuple[int, int]:
    """Return width and height of the pictures: as large as fits, with square pixels, turned, even."""
    aspect = float(container.streams.video[0].sample_aspect_ratio or 1)
    width, height = frame.width * aspect, float(frame.height)
    if frame.rotation // 90 % 2:
        width, height = height, width
    scale = min(WIDTH / width, MAX_HEIGHT / height)
    return 2 * max(1, round(width * scale / 2)), 2 * max(1, round(height * scale / 2))


def _picture(frame: VideoFrame, size: tuple[int, int], reformatter: VideoReformatter) -> Image.Image:
    turns = frame.rotation // 90
    width, height = size[::-1] if turns % 2 else size
    scaled = reformatter.reformat(frame, width, height, "rgb24", interpolation=Interpolation.AREA)
    return Image.fromarray(np.ascontiguousarray(np.rot90(scaled.to_ndarray(), turns)))
