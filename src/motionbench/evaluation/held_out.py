"""What the answers to the test clips are judged by."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from motionbench.data.perturbations import chosen_numbers
from motionbench.data.splits import Split, join
from motionbench.evaluation.statistics import Groups


class HeldOutClips(NamedTuple):
    """The test clips of all parts together, without their frames."""

    labels: NDArray[np.int64]  # shape (clips,)
    class_names: tuple[str, ...]
    frames: int  # of each clip
    perturbed: NDArray[np.int64]  # the numbers of those that are tested perturbed too
    files: list[str] | None  # of each clip; None: they are drawn
    groups: Groups | None  # the name of each clip's group, shape (clips,); None: each clip is a group of its own

    @property
    def groups_of_perturbed(self) -> Groups | None:
        """Return the group of each clip that is tested perturbed too."""
        return None if self.groups is None else self.groups[self.perturbed]

    def units(self) -> str:
        """Return what is independent of each other, as in "80 clips" or "9 groups"."""
        if self.groups is None:
            return f"{len(self.labels)} clips"
        groups = len(set(self.groups))
        return f"{groups} groups" if groups > 1 else "1 group"


def held_out_clips(tests: Sequence[Split], table: pd.DataFrame | None, clips_per_class: int) -> HeldOutClips:
    """Return what the answers to the clips of `tests` are judged by.

    Args:
        tests: the test clips, those of each fold.
        table: of all of them, as `read_clip_table` returns it.
        clips_per_class: how many of each part are tested perturbed too, at most.
    """
    test = join(tests)
    return HeldOutClips(
        labels=test.labels,
        class_names=test.class_names,
        frames=test.clips.shape[1],
        perturbed=chosen_numbers(tests, clips_per_class),
        files=None if table is None else table["clip"].tolist(),
        groups=None if table is None or table["group"].is_unique else table["group"].to_numpy(object),
    )
