"""The table, the chart and the annotated video of a long prediction."""

import os
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from motionbench.core.errors import UserError
from motionbench.reporting.timeline import (
    BAR_HEIGHT,
    annotate_video,
    mean_probabilities,
    timeline_chart,
    write_timeline,
)
from tests.conftest import ROOT, run

CLIPS = Path(os.environ.get("MOTIONBENCH_CLIPS", ROOT.parent / "shared" / "clips"))
Frames = NDArray[np.uint8]
TIMES = [(0.0, 2.0), (1.0, 3.0), (4.0, 5.0)]
PROBABILITIES = np.array([[0.9, 0.1], [0.3, 0.7], [0.125, 0.875]])


def frame(probabilities: Any, *class_names: str) -> pd.DataFrame:
    return pd.DataFrame(probabilities, columns=list(class_names))


def write_video(
    path: Path, seconds: Sequence[float], height: int = 48, width: int = 64, aspect: int = 1, rate: int = 50
) -> None:
    """Write grey pictures that appear at `seconds`, the first black, each 40 brighter; their left half is white."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"qp": "10"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv444p"
        stream.codec_context.sample_aspect_ratio = Fraction(aspect)
        for number, second in enumerate(seconds):
            picture = np.full((height, width, 3), 40 * number % 256, np.uint8)
            picture[:, : width // 2] = 255
            frame = av.VideoFrame.from_ndarray(picture)
            frame.pts, frame.time_base = round(second * rate), Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def read_video(path: Path) -> tuple[Frames, float]:
    """Return frames and duration in seconds of what every player plays."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        assert (stream.codec.name, stream.pix_fmt, str(stream.average_rate)) == ("h264", "yuv420p", "25")
        assert stream.height % 2 == stream.width % 2 == 0
        assert stream.width <= 320
        frames = np.stack([frame.to_ndarray(format="rgb24").astype(np.uint8) for frame in container.decode(stream)])
        assert container.duration is not None
        return frames, container.duration / av.time_base


def texts(frames: Frames) -> list[int]:
    """Number the bars of frames: equal ones, apart from the encoder's traces, have the same number."""
    seen: list[NDArray[np.bool_]] = []
    numbers = []
    for frame in frames:
        bar = frame[-BAR_HEIGHT:, :, 0] > 128
        same = [number for number, other in enumerate(seen) if (bar != other).mean() < 0.003]
        if not same:
            seen.append(bar)
        numbers.append(same[0] if same else len(seen) - 1)
    return numbers


def test_the_table_has_a_row_for_each_window(tmp_path: Path) -> None:
    write_video(tmp_path / "video.mp4", [0, 1, 2])
    write_timeline(tmp_path, tmp_path / "video.mp4", TIMES, frame(PROBABILITIES, "start", "größer, $x_{$"))
    assert {path.name for path in tmp_path.iterdir()} == {"video.mp4", "windows.csv", "timeline.png", "annotated.mp4"}
    table = pd.read_csv(tmp_path / "windows.csv", header=None)
    assert table.iloc[0].tolist() == ["start", "end", "answer", "start", "größer, $x_{$"], "a class may be called start"
    assert table.iloc[:, 2].tolist()[1:] == ["start", "größer, $x_{$", "größer, $x_{$"]
    numbers = table.iloc[1:, [0, 1, 3, 4]].to_numpy(dtype=float)
    assert numbers.tolist() == np.hstack([TIMES, PROBABILITIES]).tolist()


def test_many_windows_are_averaged_as_one_by_one() -> None:
    random = np.random.default_rng(0)
    starts, lengths = random.uniform(0, 200, 200), random.uniform(0.1, 2, 200)
    probabilities = random.dirichlet(np.ones(3), 200)
    edges, means = mean_probabilities(np.stack([starts, starts + lengths], axis=1), probabilities)
    assert np.isnan(means).any(), "gaps"
    for middle, mean in zip((edges[:-1] + edges[1:]) / 2, means, strict=True):
        holding = probabilities[(starts <= middle) & (middle < starts + lengths)]
        np.testing.assert_allclose(mean, holding.mean(axis=0) if len(holding) else [np.nan] * 3)


@pytest.mark.parametrize("classes", [2, 12])
def test_the_chart_has_a_line_for_each_class(classes: int, tmp_path: Path) -> None:
    names = ["$x_{$", "_Жест", "n" * 200, *(f"class {number}" for number in range(9))][:classes]
    edges = np.array([0.0, 1.0, 2.0, 4.0])
    means = np.random.default_rng(0).dirichlet(np.ones(classes), 3)
    means[1] = np.nan
    figure = timeline_chart(edges, means, names, "clip $_{$\x1b.mp4")
    figure.savefig(tmp_path / "chart.png")  # warns where the names leave no room
    [axis], [legend] = figure.axes, figure.legends
    assert axis.get_title() == "clip $_{$\\x1b.mp4"
    for drawn, values in zip(axis.patches, means.T, strict=True):
        np.testing.assert_array_equal(drawn.get_data().values, values)  # type: ignore[attr-defined] # of stairs
        np.testing.assert_array_equal(drawn.get_data().edges, edges)  # type: ignore[attr-defined]
    assert len({(line.get_edgecolor(), line.get_linestyle()) for line in axis.patches}) == classes, "look different"
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == [name if len(name) < 25 else "n" * 23 + "…" for name in names]


def test_the_text_changes_where_the_answer_does(tmp_path: Path) -> None:
    write_video(tmp_path / "video.mp4", np.arange(0, 6, 0.04).tolist(), height=480, width=640, rate=25)
    write_timeline(tmp_path, tmp_path / "video.mp4", TIMES, frame(PROBABILITIES, "walk", "run"))
    frames, seconds = read_video(tmp_path / "annotated.mp4")
    assert frames.shape == (150, 240 + BAR_HEIGHT, 320, 3)
    assert seconds == 6
    numbers = texts(frames)
    changes = [0, *(number for number in range(1, 150) if numbers[number] != numbers[number - 1])]
    assert changes == [0, 25, 50, 75, 100, 125]
    assert [numbers[change] for change in changes] == [0, 1, 2, 3, 4, 3], "none where there is no window"
    assert not (frames[80, -BAR_HEIGHT:] > 64).any()


@pytest.mark.parametrize(
    ("name", "rate", "seconds", "expected"),
    [
        pytest.param("pauses.mp4", 50, [0, 0.5, 0.52, 0.6, 2], [0] * 12 + [1] + [2] * 2 + [3] * 35 + [4], id="pauses"),
        pytest.param("late.mkv", 50, [7, 7.2, 7.4], [0] * 5 + [1] * 5 + [2], id="time counts from the first frame"),
        pytest.param("joined.ts", 25, [0, 0.04, 0.08, 0.12], [0, 1, 2, 3, 0, 1, 2, 3], id="joined: the usual rate"),
        pytest.param("reordered.avi", 25, [0, 0.04, 0.08, 0.12, 0.16, 0.2], [0, 1, 2, 3, 4, 5], id="wrong time stamps"),
        pytest.param("fast.mp4", 50, [0, 0.02, 0.04, 0.06, 0.08, 0.1], [1, 3, 5], id="many frames a second"),
        pytest.param("30.mp4", 30, [n / 30 for n in range(7)], [0, 1, 3, 4, 5, 6], id="what is in its middle"),
    ],
)
def test_pictures_stay_on_screen_as_long_as_in_the_video(
    name: str, rate: int, seconds: list[float], expected: list[int], tmp_path: Path
) -> None:
    write_video(tmp_path / name, seconds, rate=rate)
    if name == "joined.ts":
        (tmp_path / name).write_bytes(2 * (tmp_path / name).read_bytes())
    if name == "reordered.avi":
        with av.open(tmp_path / name) as container:
            times = [frame.time for frame in container.decode(video=0)]
        assert times != sorted(times)
    annotate_video(tmp_path / name, tmp_path / "annotated.mp4", np.array([0.0, 1.0]), ["text"])
    frames, duration = read_video(tmp_path / "annotated.mp4")
    pictures = np.round(frames[:, 100, 240, 0] / 40).astype(int).tolist()
    if name == "reordered.avi":  # each at least once
        assert list(dict.fromkeys(pictures)) == expected
    else:
        assert pictures[: len(expected)] == expected
        assert set(pictures[len(expected) :]) <= {expected[-1]}
    assert duration == pytest.approx(len(frames) / 25)


@pytest.mark.parametrize(
    ("height", "width", "aspect", "shape"),
    [(48, 64, 1, (240, 320)), (241, 321, 1, (240, 320)), (48, 64, 2, (120, 320)), (1000, 10, 1, (640, 320))],
)
def test_pictures_have_an_even_size_and_square_pixels(
    height: int, width: int, aspect: int, shape: tuple[int, int], tmp_path: Path
) -> None:
    write_video(tmp_path / "video.mp4", [0, 0.1, 0.2], height, width, aspect)
    annotate_video(tmp_path / "video.mp4", tmp_path / "annotated.mp4", np.array([0.0, 1.0]), ["text"])
    frames, _ = read_video(tmp_path / "annotated.mp4")
    assert frames.shape[1:3] == (shape[0] + BAR_HEIGHT, shape[1])
    if width > 10:
        assert frames[0, 10, 10].min() > 240, "white on the left"
        assert frames[0, 10, -10].max() < 15
    else:
        assert frames[0, 10, [150, 170]].max() < 15, "black beside a narrow picture"
        assert frames[0, 10, 158].min() > 200


def test_a_gif_is_annotated(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (30, 21), colour) for colour in ("red", "blue")]
    pictures[0].save(tmp_path / "clip.gif", save_all=True, append_images=pictures[1:], duration=[400, 800])
    write_timeline(tmp_path, tmp_path / "clip.gif", [(0, 1.2)], frame([[0.2, 0.8]], "a", "b"))
    frames, seconds = read_video(tmp_path / "annotated.mp4")
    assert seconds == 1.2
    assert frames.shape == (30, 224 + BAR_HEIGHT, 320, 3)
    assert frames[:, 100, 100].argmax(axis=1).tolist() == [0] * 10 + [2] * 20


def test_a_turned_video_is_turned(tmp_path: Path) -> None:
    turned, upright = CLIPS / "odd" / "nasa_13013_rotated.mp4", CLIPS / "odd" / "nasa_13013.mp4"
    if not turned.exists():
        pytest.skip("needs the folder of test videos: MOTIONBENCH_CLIPS")
    edges = np.array([0.0, 1.0])
    annotate_video(turned, tmp_path / "turned.mp4", edges, [""])
    annotate_video(upright, tmp_path / "upright.mp4", edges, [""])
    portrait = read_video(tmp_path / "turned.mp4")[0][0, :-BAR_HEIGHT]
    landscape = read_video(tmp_path / "upright.mp4")[0][0, :-BAR_HEIGHT]
    assert portrait.shape[:2] == (568, 320)
    small, large = (
        np.asarray(Image.fromarray(picture).convert("L").resize((32, 18)), float)
        for picture in (np.rot90(portrait, -1), landscape)
    )
    assert np.corrcoef(small.ravel(), large.ravel())[0, 1] > 0.95


def test_letters_of_many_languages_are_drawn(tmp_path: Path) -> None:
    write_video(tmp_path / "video.mp4", [0, 0.1, 0.2])
    bars = []
    for text in ("0.50  größer $x_{", "0.50  жест", "0.50  χειρ"):
        annotate_video(tmp_path / "video.mp4", tmp_path / "annotated.mp4", np.array([0.0, 1.0]), [text])
        bars.append(read_video(tmp_path / "annotated.mp4")[0][:1])
    assert texts(np.concatenate(bars)) == [0, 1, 2], "no boxes in place of letters"


# The most memory so far. That of getrusage includes the process which started this one.
MEASURE = r"""
import re, sys
from pathlib import Path
from typing import Any
import numpy as np
from motionbench.reporting.timeline import annotate_video
for source in sys.argv[1:]:
    annotate_video(Path(source), Path(source).with_suffix(".annotated.mp4"), np.array([0.0, 1.0]), ["text"])
    print(re.search("VmHWM:(.*) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_long_video_takes_no_more_memory(tmp_path: Path) -> None:
    write_video(tmp_path / "short.mp4", np.arange(0, 2, 0.04).tolist())
    write_video(tmp_path / "long.mp4", np.arange(0, 20, 0.04).tolist())
    sources = [str(tmp_path / name) for name in ("short.mp4", "long.mp4")]
    done = run(ROOT, sys.executable, "-c", MEASURE, *sources, PYTHONPATH="src")
    short, long = map(int, done.stdout.split())
    assert long - short < 30_000, "kilobytes; all pictures would take 150,000"


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("text")
    for name, reason in (("text.mp4", "Invalid data found"), ("none.mp4", "No such file")):
        with pytest.raises(UserError, match=f"{name}: not readable as a video .{reason}") as refused:
            annotate_video(tmp_path / name, tmp_path / "annotated.mp4", np.array([0.0, 1.0]), ["text"])
        assert str(refused.value).isprintable()
