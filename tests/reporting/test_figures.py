import io
from itertools import islice
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from motionbench.data.decoding import decode_clip
from motionbench.data.params import Preprocessing
from motionbench.data.splits import Split
from motionbench.reporting.figures import (
    COLOURS,
    GAP,
    MARKERS,
    confusions,
    contact_sheet,
    film_strips,
    learning_curves,
    model_styles,
    perturbation_curves,
    save_gif,
)

FIVE = ["cnn_lstm", "convlstm", "cnn3d", "single_frame", "bag_of_frames"]


def colours(axis: Axes) -> dict[Any, str]:
    """Colour by label of the lines that a legend names."""
    return {line.get_label(): str(line.get_color()) for line in axis.lines if not str(line.get_label()).startswith("_")}


def test_a_matplotlibrc_of_the_user_changes_no_picture(tmp_path: Path) -> None:
    split = Split(np.zeros((2, 5, 4, 4, 1), np.uint8), np.array([0, 1]), ("one", "other"))
    contact_sheet(split).savefig(tmp_path / "ours.png")
    mpl.rcParams.update({"font.size": 20, "figure.facecolor": "red", "text.usetex": True})
    contact_sheet(split).savefig(tmp_path / "theirs.png")
    assert (tmp_path / "theirs.png").read_bytes() == (tmp_path / "ours.png").read_bytes()


def test_names_of_classes_leave_room_and_letters_that_no_font_has_are_no_warnings(tmp_path: Path) -> None:
    names = ("\u8df3" * 90, "W" * 100, "[a] $x$ \U0001f938")
    sheet = contact_sheet(Split(np.zeros((3, 5, 4, 4, 1), np.uint8), np.arange(3), names))
    matrices = confusions(dict.fromkeys(FIVE, np.eye(3, dtype=int).tolist()), names)
    for figure in (sheet, matrices):
        figure.savefig(tmp_path / "picture.png")  # Seen: axes collapsed to zero, which is a warning, too.
        ticks = [text.get_text() for text in figure.axes[0].get_yticklabels()]
        shown = ticks or [axis.get_ylabel() for axis in figure.axes]
        assert shown == ["\u8df3" * 11 + "…", "W" * 23 + "…", names[2]]
        assert min(axis.get_position().width for axis in figure.axes) > 0.05


@pytest.mark.parametrize("letter", ["E", "\u8df3"])
def test_counts_of_classes_with_long_names_can_be_read(letter: str) -> None:
    names = [f"{letter * 80}{number}" for number in range(14)]
    matrices = confusions(dict.fromkeys(FIVE, np.eye(14, dtype=int).tolist()), names)
    matrices.draw_without_rendering()
    for axis in matrices.axes:
        counts = [text.get_window_extent() for text in axis.texts]
        apart = np.diff([count.x0 for count in counts[:14]])
        assert apart.min() > 2 * counts[0].width
        for place, name in enumerate(axis.get_xticklabels()):
            extent = name.get_window_extent()
            assert (extent.x0 + extent.x1) / 2 == pytest.approx(sum(counts[place].intervalx) / 2, abs=1)


def test_as_many_models_as_are_likely_look_different() -> None:
    names = [f"model {number}" for number in range(len(COLOURS) * len(MARKERS))]
    assert len(set(model_styles(names).values())) == len(names) == 35
    first = list(islice(model_styles(names).values(), len(COLOURS)))
    assert len({colour for colour, _ in first}) == len(COLOURS), "colours repeat last"
    assert list(model_styles([*names, "one more"])) == [*names, "one more"]


def test_learning_curves_have_a_line_per_fold_and_seed() -> None:
    history = pd.DataFrame(
        [
            {"seed": seed, "fold": fold, "epoch": epoch, "validation_loss": loss / epoch, "validation_accuracy": loss}
            for loss, (fold, seed) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)], start=1)
            for epoch in (1, 2)
        ]
    )
    loss, accuracy = learning_curves({"cnn_lstm": history, "convlstm": history}).axes
    for axis in (loss, accuracy):
        assert len(axis.lines) == 2 * 6
        assert list(colours(axis)) == ["cnn_lstm", "convlstm"], "in the legend once"
        first, *others = [line.get_color() for line in axis.lines]
        assert [other == first for other in others] == [True] * 5 + [False] * 6, "a colour per model"
    drawn = [np.asarray(line.get_ydata()).tolist() for line in loss.lines[:6]]
    assert sorted(drawn) == [[number, number / 2] for number in range(1, 7)]
    assert sorted(np.asarray(line.get_ydata()).tolist() for line in accuracy.lines[:6]) == [[n, n] for n in range(1, 7)]


def rows(names: list[str], perturbations: list[str]) -> pd.DataFrame:
    """Two replicates of each model at two levels of each perturbation."""
    return pd.DataFrame(
        [
            {"model": name, "perturbation": perturbation, "level": level, "accuracy": accuracy}
            for name in names
            for perturbation in perturbations
            for level, accuracies in ((1.0, (1.0, 0.5)), (2.0, (0.5, 0.25)))
            for accuracy in accuracies
        ]
    )


def test_perturbation_curves_show_every_model_in_every_chart() -> None:
    figure = perturbation_curves(rows(FIVE, ["pixel_noise", "speed"]), chance=0.25)
    assert [axis.get_title() for axis in figure.axes] == ["pixel noise", "speed"]
    for axis in figure.axes:
        assert list(colours(axis)) == FIVE
        assert len(set(colours(axis).values())) == 5
        curve = next(line for line in axis.lines if line.get_label() == "cnn3d")
        assert np.asarray(curve.get_xydata()).tolist() == [[1.0, 0.75], [2.0, 0.375]]
        assert len(axis.collections) == 5, "a band each"
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == FIVE


def test_a_model_has_the_same_colour_where_others_are_missing() -> None:
    some = rows(["cnn_lstm", "convlstm"], ["speed"])
    both, one = perturbation_curves(pd.concat([some, rows(["convlstm"], ["shifted"])]), chance=0.25).axes
    assert colours(both)["convlstm"] == colours(one)["convlstm"]


def test_charts_of_many_perturbations_take_several_rows() -> None:
    figure = perturbation_curves(rows(["convlstm"], [f"p{number}" for number in range(7)]), chance=0.25)
    assert [axis.axison for axis in figure.axes] == [True] * 7 + [False] * 3
    assert [bool(axis.get_ylabel()) for axis in figure.axes] == ([True] + [False] * 4) * 2
    assert perturbation_curves(rows([], []).reindex(columns=["model", "perturbation"]), chance=0.25).legends == []


def strips(figure: Figure, width: int) -> list[list[np.ndarray]]:
    """Return the pictures of each row, as they are in its one image, with gaps between them."""
    rows = [np.asarray(axis.images[0].get_array()) for axis in figure.axes]
    return [[row[:, start : start + width] for start in range(0, row.shape[1], width + GAP)] for row in rows]


def test_film_strips_show_some_frames_and_all_in_one() -> None:
    clip = np.zeros((9, 4, 4, 1), dtype=np.uint8)
    clip[[0, 8], [0, 1], 0, 0] = 255
    figure = film_strips([("first $", clip), ("second", clip)])
    titles = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert titles == ["frame 1", "frame 3", "frame 5", "frame 7", "frame 9", "all frames"]
    assert [axis.get_ylabel() for axis in figure.axes] == ["first $", "second"]
    assert len(figure.axes[1].get_xticks()) == 0
    first, *_, last, together = strips(figure, width=4)[0]
    assert [first[0, 0].item(), last[1, 0].item()] == [1.0, 1.0]
    assert together[:2, 0].ravel().tolist() == [1 / 9, 1.0], "early is dark"


def test_film_strips_show_colours_as_they_are() -> None:
    clip = np.zeros((3, 4, 5, 3), dtype=np.uint8)
    clip[0, ..., 0], clip[1, ..., 1], clip[2, ..., 2] = 255, 102, 51
    figure = film_strips([("coloured", clip)])
    [shown] = strips(figure, width=5)
    assert [picture.shape for picture in shown] == [(4, 5, 3)] * 4
    assert [picture[0, 0].tolist() for picture in shown[:3]] == [[1, 0, 0], [0, 0.4, 0], [0, 0, 0.2]]
    np.testing.assert_allclose(shown[3][0, 0], [1 / 3, 0.4 * 2 / 3, 0.2])
    figure.savefig(io.BytesIO())  # warns where values are no colours


def test_the_contact_sheet_has_the_first_clip_of_each_class() -> None:
    clips = np.zeros((4, 3, 2, 2, 1), dtype=np.uint8)
    clips[1], clips[0] = 255, 51
    figure = contact_sheet(Split(clips, np.array([1, 0, 0, 1]), ("a", "b")))
    assert [axis.get_ylabel() for axis in figure.axes] == ["a", "b"]
    assert [float(first.max()) for first, *_ in strips(figure, width=2)] == [1.0, 0.2]


def test_of_many_classes_the_first_and_those_confused_most_are_shown() -> None:
    names = [f"class {number}" for number in range(620)]
    sheet = contact_sheet(Split(np.zeros((620, 3, 2, 2, 1), np.uint8), np.arange(620), tuple(names)))
    assert [axis.get_ylabel() for axis in sheet.axes] == names[:20]
    matrix = np.eye(620, dtype=int)
    matrix[600, 599:609] = 5
    matrices = confusions({"one": matrix.tolist(), "other": matrix.T.tolist()}, names)
    ticks = [text.get_text() for text in matrices.axes[0].get_yticklabels()]
    assert ticks[-10:] == names[599:609]
    assert len(ticks) == len(matrices.axes[0].texts) ** 0.5 == 20
    for figure, expected in ((sheet, "the first 20 of 620 classes"), (matrices, "the 20 of 620 classes that")):
        assert expected in figure.get_suptitle()


@pytest.mark.parametrize(("colour", "channels"), [("grey", 1), ("rgb", 3)])
def test_an_animation_is_read_as_the_clip_that_it_shows(colour: Any, channels: int, tmp_path: Path) -> None:
    clip = np.random.default_rng(0).integers(0, 256, (7, 10, 12, channels), dtype=np.uint8)
    if colour == "rgb":
        clip = clip[:, :1, :1].repeat(10, axis=1).repeat(12, axis=2)  # a GIF has few colours
    save_gif(clip, tmp_path / "clip.gif")
    again, facts = decode_clip(tmp_path / "clip.gif", Preprocessing(7, 10, 12, colour, "pad"))
    np.testing.assert_array_equal(again, clip)
    assert (facts.frames, facts.rate, facts.variable_rate) == (7, 10, False)
    with Image.open(tmp_path / "clip.gif") as animation:
        assert animation.size == (36, 30), "three times as large"
        assert animation.info["loop"] == 0, "endless"
