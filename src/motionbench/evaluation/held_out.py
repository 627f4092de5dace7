"""What the answers to the test clips are judged by."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from motionbench.evaluation.predictions import Predictions
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


def held_out_clips(predictions: Predictions) -> HeldOutClips:
    """Return what the answers are judged by."""
    chosen = predictions.perturbed[0].clips if predictions.perturbed else np.array([], np.int64)
    files = None if predictions.files is None else predictions.files.tolist()
    return HeldOutClips(
        predictions.labels, predictions.class_names, predictions.frames, chosen, files, predictions.groups
    )
