"""What a model predicts along a video: a table, a chart, and the video with the predictions below its pictures."""

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import matplotlib as mpl
import numpy as np
import pandas as pd
from av.video.frame import VideoFrame
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from motionbench.core.errors import UserError
from motionbench.data.decoding import MAX_PIXELS
from motionbench.data.params import Preprocessing, Resize
from motionbench.data.scaling import displayed_size, scaler
from motionbench.data.video_files import Video, decode_rest, open_video
from motionbench.reporting.figures import COLOURS, TITLE_COLUMNS, new_figure, short_name

RATE = 25  # frames a second of the annotated video
WIDTH, MAX_HEIGHT = 320, 640  # of the annotated video in pixels, without the bar
BAR_HEIGHT, FONT_SIZE = 32, 18  # pixels
LINE_STYLES = ("-", "--")  # with 7 colours: 14 classes look different


def write_timeline(folder: Path, video: Path, times: Sequence[tuple[float, float]], predictions: pd.DataFrame) -> None:
    """Write windows.csv, timeline.png and annotated.mp4 into `folder`.

    The chart and the annotated video show, at each moment, the mean probabilities of the windows that hold it.

    Args:
        folder: exists.
        video: from which the windows are.
        times: start and end of one or more windows, in seconds from the first frame; they may overlap or leave gaps.
        predictions: the probability of each class, a column each, in the windows, a row each.

    Raises:
        UserError: if the video is not readable.
    """
    predictions = predictions.astype(float)  # as many digits as the average has
    classes = [str(name) for name in predictions]
    windows = pd.DataFrame(times, columns=["start", "end"]).assign(answer=predictions.idxmax(axis="columns"))
    pd.concat([windows, predictions], axis="columns").to_csv(folder / "windows.csv", index=False)
    edges, means = mean_probabilities(np.array(times), predictions.to_numpy())
    timeline_chart(edges, means, classes, video.name).savefig(folder / "timeline.png", dpi=100)
    texts = ["" if np.isnan(mean[0]) else f"{mean.max():.2f}  {classes[mean.argmax()]}" for mean in means]
    annotate_video(video, folder / "annotated.mp4", edges, texts)


def mean_probabilities(
    times: NDArray[np.float64], probabilities: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average overlapping windows.

    Args:
        times: start and end of each window, shape (windows, 2).
        probabilities: of each class, shape (windows, classes).

    Returns:
        Where windows start or end, in seconds, shape (intervals + 1,); and the mean probabilities between, shape
        (intervals, classes), NaN where there is no window.
    """
    # A row of a window counts it in the first column. Sums along the edges: the time is linear in the windows.
    rows = np.insert(probabilities, 0, 1, axis=1)
    edges, places = np.unique(times, return_inverse=True)
    changes = np.zeros((len(edges), rows.shape[1]))
    np.add.at(changes, places[:, 0], rows)
    np.subtract.at(changes, places[:, 1], rows)
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
    ]  # fmt: skip # what belongs together on one line
    axis.set(xlabel="time (seconds)", ylabel="probability", xlim=(0, edges[-1]), ylim=(-0.02, 1.02))
    axis.set_title(short_name(title, TITLE_COLUMNS), parse_math=False)
    for text in figure.legend(lines, [*map(short_name, class_names)], loc="outside lower center", ncols=4).get_texts():
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
            open_video(source, MAX_PIXELS) as opened,
            target.open("wb") as file,
            av.open(file, "w", format="mp4") as output,
        ):
            encoder = output.add_stream("libx264", rate=RATE)
            encoder.pix_fmt = "yuv420p"
            for number, picture in enumerate(_pictures(opened)):
                if number == 0:
                    encoder.width, encoder.height = picture.size
                interval = int(np.searchsorted(edges, (number + 0.5) / RATE, side="right")) - 1
                if 0 <= interval < len(texts):
                    middle = (8, picture.height - BAR_HEIGHT / 2)
                    ImageDraw.Draw(picture).text(middle, texts[interval], font=font, anchor="lm")
                output.mux(encoder.encode(VideoFrame.from_ndarray(np.asarray(picture))))
            output.mux(encoder.encode())
    except (av.FFmpegError, UserError) as error:
        reason = error if isinstance(error, UserError) else error.strerror
        raise UserError(f"{source}: not readable as a video ({reason}); convert it or take another") from error


def _pictures(video: Video) -> Iterator[Image.Image]:
    """Yield 25 pictures a second of a video, each what is on screen in its middle, turned, scaled, with a bar below.

    Where time stamps are missing or do not increase, as in files of some cameras, frames follow at the usual rate.
    """
    frames = decode_rest(video)
    shown = next(frames, None)
    if shown is None:
        raise UserError("no frame could be decoded")
    width, height = displayed_size(shown, video.pixel_aspect)
    fitted = max(2, 2 * round(WIDTH * height / width / 2))  # even, as H.264 asks
    resize: Resize = "stretch" if fitted <= MAX_HEIGHT else "pad"
    scale = scaler(Preprocessing(1, min(fitted, MAX_HEIGHT), WIDTH, "rgb", resize), video.pixel_aspect)
    origin, now, count = shown.pts or 0, 0, 0
    for frame in chain(frames, [None]):
        if frame is not None and frame.pts is not None and frame.pts - origin > now:
            now = frame.pts - origin
        else:
            now += (frame is None and shown.duration) or video.frame_ticks
        pictures, half = now * video.tick * RATE, Fraction(1, 2)
        due = math.floor(pictures + half) if frame is None else math.ceil(pictures - half)
        if due > count:
            picture = np.pad(scale(shown), ((0, BAR_HEIGHT), (0, 0), (0, 0)))
            yield from (Image.fromarray(picture) for _ in range(count, due))
            count = due
        shown = frame or shown
