from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from PIL import Image

from motionbench.comparison.audit import AuditCheck, Shown
from motionbench.comparison.findings import Findings
from motionbench.data.folds import AnySplit, join
from motionbench.data.perturbations import perturb
from motionbench.reporting.figures import short_name
from motionbench.reporting.pictures import disagreements, draw_pictures
from motionbench.reporting.report import describe_audit
from tests.comparison.made_up import (
    CLASS_NAMES,
    FIVE,
    SPLIT,
    THREE,
    Made,
    compared,
    describe,
    models,
    predictions,
    register,
    result,
)

HOSTILE, OTHER = map(short_name, CLASS_NAMES)


def texts(made: dict[str, Made]) -> list[str]:
    return [text for text, _ in disagreements(compared(made), SPLIT)]


def test_disagreements_have_the_prediction_of_each_majority() -> None:
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


def perturbed_at(made: dict[str, Made], numbers: list[int]) -> Findings:
    """The findings if the perturbed clips were these."""
    table = predictions(made)
    few = [each.only(np.arange(len(numbers)))._replace(clips=np.array(numbers)) for each in table.perturbed]
    return describe(table._replace(perturbed=few), made)


def test_label_and_noise_are_those_of_the_perturbed_clip() -> None:
    found = compared(models(result(80), result(79)))
    [unchanged, fast] = disagreements(found, SPLIT)
    changed = [each._replace(name="pixel_noise", labels=1 - each.labels) for each in found.predictions.perturbed]
    [again, noisy] = disagreements(found._replace(predictions=found.predictions._replace(perturbed=changed)), SPLIT)
    assert again[0] == unchanged[0]
    assert noisy[0] == fast[0].replace("speed", "pixel noise").replace(f"is {HOSTILE}", f"is {OTHER}")
    np.testing.assert_array_equal(noisy[1], perturb(SPLIT.clips, np.arange(80), "pixel_noise", 2.0, 7)[79])


def test_the_clips_of_several_parts_are_numbered_throughout() -> None:
    # Parts of 30, 10 and 40 clips; the second contender is wrong on clip 32, the third of the second part.
    firsts = [0, 30, 40, 80]
    parts = [
        SPLIT._replace(clips=np.full((end - start, 3, 4, 4, 1), part, np.uint8), labels=np.zeros(end - start, np.int64))
        for part, (start, end) in enumerate(pairwise(firsts))
    ]
    parts[1].clips[2, :, 0, 0, 0] = [10, 20, 30]
    made = models(result(80, at_speed={2.0: [7]}), result(80, at_speed={2.0: [6]}))
    [(text, clip)] = disagreements(perturbed_at(made, [0, 1, 2, 3, 30, 31, 32, 33, 40, 41]), join(parts))
    assert text.startswith("test clip 32, speed 2\n")
    assert clip[:, 0, 0, 0].tolist() == [10, 30, 30], "at twice the speed the last frame stays"
    assert clip[0, 1, 1, 0] == 1


def test_each_contender_can_be_the_one_that_disagrees(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, THREE)
    for odd in range(3):
        answers = [result(79 if number == odd else 80) for number in range(3)]
        said = [f"{name}: {OTHER if number == odd else HOSTILE}" for number, name in enumerate(THREE)]
        assert [text.split("\n") for text in texts(models(*answers))] == [
            [f"test clip 79, {what}", f"is {HOSTILE}", *said] for what in ("as it is", "speed 2")
        ]
    assert texts(models(*[result(80)] * 3)) == []


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """Figures by the name of the file that they would have been saved to; drawing them takes seconds."""
    figures: dict[str, Figure] = {}
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: figures.update({Path(path).stem: self}))
    return figures


def draw(made: dict[str, Made], folder: Path, split: AnySplit = SPLIT) -> dict[str, str]:
    return draw_pictures(folder, compared(made), split)


def legend(owner: Any) -> list[str]:
    return [text.get_text() for text in owner.get_texts()]


def test_no_picture_lacks_a_contender(saved: dict[str, Figure], monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, FIVE)
    made = models(*(result(80 - 5 * number) for number in range(5)))
    assert list(draw(made, Path())) == list(saved)
    names = list(made)
    assert names == [*FIVE, "single_frame", "bag_of_frames"]
    assert legend(saved["cost"].axes[0].get_legend())[-len(names) :] == names
    assert legend(saved["perturbations"].legends[0]) == names
    assert legend(saved["reliability"].axes[0].get_legend()) == names
    assert legend(saved["learning_curves"].axes[1].get_legend()) == names
    assert [axis.get_title() for axis in saved["confusions"].axes] == names
    assert all(f"\n{name}: " in saved["disagreements"].axes[0].get_ylabel() for name in FIVE)


def test_models_that_agree_have_no_picture_of_disagreements(saved: dict[str, Figure]) -> None:
    captions = draw(models(result(80), result(80)), Path())
    assert list(captions) == list(saved)
    assert list(captions) == ["cost", "reliability", "perturbations", "confusions", "learning_curves", "samples"]


def test_clips_that_look_alike_are_shown_side_by_side(saved: dict[str, Figure]) -> None:
    pair = [Shown(f"$x_{{/\x1b{number}.mp4", HOSTILE, SPLIT.clips[number, 0]) for number in range(2)]
    found = AuditCheck("scenes", "nearest clips", 0.1, 0.3, True, "may have groups", [pair, pair, pair])
    made = compared(models(result(80), result(80)))
    assert "scenes" in draw_pictures(Path(), made._replace(audit=[found]), SPLIT)
    assert [axis.get_title() for axis in saved["scenes"].axes][:2] == [
        f"$x_{{/\\x1b{number}.mp4\n{HOSTILE}" for number in range(2)
    ]
    assert len(saved["scenes"].axes) == 6
    long = [Shown("W" * 90, HOSTILE, SPLIT.clips[0, 0])] * 2
    draw_pictures(Path(), made._replace(audit=[found._replace(pairs=[long])]), SPLIT)
    saved["scenes"].draw_without_rendering()
    left, right = (axis.title.get_window_extent() for axis in saved["scenes"].axes)
    assert left.x1 < right.x0, "two long names leave room for each other"
    assert describe_audit(made._replace(audit=[found])).pictures == ["scenes"]


def test_the_reliability_diagram_has_the_accuracy_at_each_confidence(saved: dict[str, Figure]) -> None:
    draw(models(result(80, 40), result(80, 80)), Path())
    line = saved["reliability"].axes[0].lines[0]
    # All answers have a probability of 0.9, and 120 of 160 are right.
    assert np.asarray(line.get_xdata()) == pytest.approx([0.9])
    assert np.asarray(line.get_ydata()).tolist() == [0.75]


def test_confusions_are_those_of_all_seeds_together(saved: dict[str, Figure]) -> None:
    draw(models(result(80, 60), result(80, 80)), Path())
    counts = [text.get_text() for text in saved["confusions"].axes[0].texts]
    assert counts == ["100", "20", "0", "40"]


def test_error_against_latency_tells_nine_models_apart_and_joins_those_that_no_other_beats(
    saved: dict[str, Figure],
) -> None:
    correct = {"a": 70, "b": 60, "c": 65, "d": 75, "e": 74}
    made = {name: result(right, latency=number) for number, (name, right) in enumerate(correct.items(), start=1)}
    # The first is beaten by none, the second, third and fifth are beaten in both.
    draw({**made, **models(result(65, latency=0.5), result(60, latency=0.6), controls=(60, 60))}, Path())
    axis = saved["cost"].axes[0]
    bars = [bar for bar in axis.containers if isinstance(bar, ErrorbarContainer)]
    names = [str(bar.get_label()) for bar in bars]
    assert names == [*correct, "cnn_lstm", "convlstm", "single_frame", "bag_of_frames"]
    lines = [bar.lines[0] for bar in bars]
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == len(names)
    places = {name: (line.get_xdata()[0], line.get_ydata()[0]) for name, line in zip(names, lines, strict=True)}  # type: ignore[index] # arrays
    assert places["a"] == (1.0, pytest.approx(0.125))
    [front] = [line for line in axis.lines if line.get_label() == "no other beats both"]
    assert np.asarray(front.get_xdata()).tolist() == [0.5, 1.0, 4.0]
    assert np.asarray(front.get_ydata()).tolist() == pytest.approx([0.1875, 0.125, 0.0625])


def test_class_names_break_no_figure(tmp_path: Path) -> None:
    captions = draw(models(result(80), result(70)), tmp_path)
    assert len(captions) == 7
    for name in captions:
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.width > 200
