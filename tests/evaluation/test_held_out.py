import numpy as np
import pandas as pd

from motionbench.data.splits import Split
from motionbench.evaluation.held_out import held_out_clips

NAMES = ("still", "up")


def part(*labels: int) -> Split:
    return Split(np.zeros((len(labels), 2, 4, 4, 1), np.uint8), np.array(labels), NAMES)


PARTS = [part(0, 0, 1, 1), part(1, 0, 0)]
FILES = [f"{number}.mp4" for number in range(7)]


def test_drawn_clips_have_neither_files_nor_groups() -> None:
    clips = held_out_clips(PARTS, None, clips_per_class=1)
    assert clips.labels.tolist() == [0, 0, 1, 1, 1, 0, 0]
    assert (clips.class_names, clips.frames) == (NAMES, 2)
    assert clips.perturbed.tolist() == [0, 2, 4, 5]
    assert (clips.files, clips.groups, clips.groups_of_perturbed) == (None, None, None)
    assert clips.units() == "7 clips"


def test_clips_of_files_are_in_their_groups() -> None:
    table = pd.DataFrame({"clip": FILES, "group": ["NA", "b", "b", "", "c", "c", "c"]})
    clips = held_out_clips(PARTS, table, clips_per_class=1)
    assert clips.files == FILES
    assert clips.groups is not None
    assert clips.groups_of_perturbed is not None
    assert clips.groups.tolist() == ["NA", "b", "b", "", "c", "c", "c"]
    assert clips.groups_of_perturbed.tolist() == ["NA", "b", "c", "c"]
    assert clips.units() == "4 groups"


def test_files_that_are_groups_of_their_own_are_no_groups() -> None:
    clips = held_out_clips(PARTS, pd.DataFrame({"clip": FILES, "group": FILES}), clips_per_class=1)
    assert (clips.files, clips.groups) == (FILES, None)
