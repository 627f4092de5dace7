from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from PIL import Image

from motionbench.data.splits import join
from motionbench.evaluation.results import ModelResult
from motionbench.reporting.pictures import disagreements, draw_pictures
from tests.conftest import SOURCE_RECORD
from tests.evaluation.made_up import CLASS_NAMES, FIVE, HOSTILE, SPLIT, THREE, models, register, result

ALL = np.arange(80)
BOTH_CLASSES = SPLIT._replace(labels=np.repeat([0, 1], 40))
OTHER = CLASS_NAMES[1]


def texts(compared: dict[str, ModelResult]) -> list[str]:
    return [text for text, _ in disagreements(compared, SPLIT, ALL, 0, SOURCE_RECORD)]


def test_disagreements_have_the_answer_of_each_majority() -> None:
    assert texts(models(result(80, 80, 70), result(70, 70, 80))) == [
        f"test clip {number}, as it is\nis {HOSTILE}\ncnn_lstm: {HOSTILE}\nconvlstm: {OTHER}"
        for number in range(70, 76)
    ]
    assert texts(models(result(80), result(80))) == []


def test_the_first_of_each_perturbation_follows_if_there_is_room() -> None:
    assert [text.split("\n")[0] for text in texts(models(result(80), result(78)))] == [
        "test clip 78, as it is",
        "test clip 79, as it is",
        "test clip 78, speed 2",
    ]


def test_a_perturbed_clip_has_its_number_in_the_split() -> None:
    # The perturbed clips are fewer, and here not the first ones.
    few = models(result(12, clips=20), result(11, clips=20))
    for model in few.values():
        model["replicates"][0]["predicted"] = [0] * 80
    chosen = np.arange(30, 50)
    clips = SPLIT.clips.copy()
    clips[41, :, 0, 0, 0] = [10, 20, 30]
    [(text, clip)] = disagreements(few, BOTH_CLASSES._replace(clips=clips), chosen, 0, SOURCE_RECORD)
    assert text.startswith("test clip 41, speed 2\n")
    # At twice the speed the last frame stays.
    assert clip[:, 0, 0, 0].tolist() == [10, 30, 30]


def test_the_clips_of_several_parts_are_numbered_throughout() -> None:
    # Parts of 30, 10 and 40 clips; the second contender is wrong on clip 32, the third of the second part.
    firsts = [0, 30, 40, 80]
    parts = [
        SPLIT._replace(clips=np.full((end - start, 3, 4, 4, 1), part, np.uint8), labels=np.zeros(end - start, np.int64))
        for part, (start, end) in enumerate(pairwise(firsts))
    ]
    parts[1].clips[2, :, 0, 0, 0] = [10, 20, 30]
    chosen = np.array([0, 1, 2, 3, 30, 31, 32, 33, 40, 41, 42, 43])  # of which 32 is the seventh
    both = models(result(12, clips=12), result(12, clips=12))
    for model in both.values():
        model["replicates"][0]["predicted"] = [0] * 80
    both["convlstm"]["replicates"][0]["predicted"][32] = 1
    both["convlstm"]["replicates"][0]["perturbed"][0]["predicted"][6] = 1
    (text, clip), (perturbed_text, perturbed) = disagreements(both, join(parts), chosen, 0, SOURCE_RECORD)
    assert text == f"test clip 32, as it is\nis {HOSTILE}\ncnn_lstm: {HOSTILE}\nconvlstm: {OTHER}"
    assert perturbed_text.startswith("test clip 32, speed 2\n")
    assert clip[:, 0, 0, 0].tolist() == [10, 20, 30]
    assert perturbed[:, 0, 0, 0].tolist() == [10, 30, 30]
    assert clip[0, 1, 1, 0] == perturbed[0, 1, 1, 0] == 1


@pytest.mark.parametrize("contenders", [THREE, FIVE])
def test_each_contender_can_be_the_one_that_disagrees(
    contenders: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, contenders)
    for odd in range(len(contenders)):
        answers = [result(79 if number == odd else 80) for number in range(len(contenders))]
        said = [f"{name}: {OTHER if number == odd else HOSTILE}" for number, name in enumerate(contenders)]
        assert [text.split("\n") for text in texts(models(*answers))] == [
            [f"test clip 79, {what}", f"is {HOSTILE}", *said] for what in ("as it is", "speed 2")
        ]
    assert texts(models(*[result(80)] * len(contenders))) == []


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """Figures by the name of the file that they would have been saved to; drawing them takes seconds."""
    figures: dict[str, Figure] = {}
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: figures.update({Path(path).stem: self}))
    return figures


def draw(compared: dict[str, ModelResult], folder: Path) -> dict[str, str]:
    histories = {name: model["training"].history for name, model in compared.items()}
    return draw_pictures(folder, compared, histories, BOTH_CLASSES, ALL, 0, SOURCE_RECORD)


def legend(owner: Any) -> list[str]:
    return [text.get_text() for text in owner.get_texts()]


@pytest.mark.parametrize("contenders", [THREE, FIVE])
def test_no_picture_lacks_a_contender(
    contenders: tuple[str, ...], saved: dict[str, Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, contenders)
    compared = models(*(result(80 - 5 * number) for number in range(len(contenders))))
    assert list(draw(compared, Path())) == list(saved)
    names = list(compared)
    assert names == [*contenders, "single_frame", "bag_of_frames"]
    assert legend(saved["cost"].axes[0].get_legend())[-len(names) :] == names
    assert legend(saved["perturbations"].legends[0]) == names
    assert legend(saved["learning_curves"].axes[1].get_legend()) == names
    assert [axis.get_title() for axis in saved["confusions"].axes] == names
    assert all(f"\n{name}: " in saved["disagreements"].axes[0].get_ylabel() for name in contenders)


def test_models_that_agree_have_no_picture_of_disagreements(saved: dict[str, Figure]) -> None:
    captions = draw(models(result(80), result(80)), Path())
    assert list(captions) == list(saved) == ["cost", "perturbations", "confusions", "learning_curves", "samples"]


def test_confusions_are_those_of_all_replicates_together(saved: dict[str, Figure]) -> None:
    draw(models(result(80, 60), result(80)), Path())
    counts = [text.get_text() for text in saved["confusions"].axes[0].texts]
    assert counts == ["140", "20", "0", "0"]


def five_costs(saved: dict[str, Figure]) -> Axes:
    correct = {"a": 70, "b": 60, "c": 65, "d": 75, "e": 72}
    latency = {"a": 2.0, "b": 1.0, "c": 3.0, "d": 4.0, "e": 5.0}
    five = {name: result(correct[name], latency=latency[name]) for name in correct}
    draw(five | models(five["a"], five["b"]), Path())
    return saved["cost"].axes[0]


def test_five_models_and_more_differ_in_error_against_latency(saved: dict[str, Figure]) -> None:
    bars = [bar for bar in five_costs(saved).containers if isinstance(bar, ErrorbarContainer)]
    names = [str(bar.get_label()) for bar in bars]
    assert names == ["a", "b", "c", "d", "e", "cnn_lstm", "convlstm", "single_frame", "bag_of_frames"]
    lines = [bar.lines[0] for bar in bars]
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == len(names)
    places = {name: (line.get_xdata()[0], line.get_ydata()[0]) for name, line in zip(names, lines, strict=True)}  # type: ignore[index] # arrays
    assert places["a"] == (2.0, pytest.approx(0.125))
    assert places["d"] == (4.0, pytest.approx(0.0625))


def test_the_front_joins_models_that_no_other_beats_in_both(
    saved: dict[str, Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, THREE)
    worse, better = result(60, latency=1.0), result(70, latency=2.0)
    beaten = result(65, latency=3.0)
    compared = models(beaten, worse, better)
    compared["single_frame"], compared["bag_of_frames"] = result(75, latency=4.0), result(74, latency=5.0)
    draw(compared, Path())
    [front] = [line for line in saved["cost"].axes[0].lines if line.get_label() == "no other beats both"]
    assert np.asarray(front.get_xdata()).tolist() == [1.0, 2.0, 4.0]
    assert np.asarray(front.get_ydata()).tolist() == pytest.approx([0.25, 0.125, 0.0625])


def test_class_names_break_no_figure(tmp_path: Path) -> None:
    captions = draw(models(result(80), result(70)), tmp_path)
    assert len(captions) == 6
    for name in captions:
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.width > 200
