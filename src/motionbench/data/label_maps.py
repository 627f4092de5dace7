"""What the labels of clips become when the clips are changed: played backwards, what ascended descends."""

from collections.abc import Mapping
from typing import Literal

from motionbench.data.splits import DatasetInfo
from motionbench.data.synthetic.patterns import LABEL_MAPS

Change = Literal["reversed", "flipped", "mirrored"]
"""Of clips: played backwards, top to bottom, left to right."""


def label_map(dataset: DatasetInfo, change: Change) -> Mapping[str, str] | None:
    """Return what the labels become that a change of a source's clips changes; None if that is not known."""
    return (LABEL_MAPS if dataset.source == "synthetic" else dataset.label_maps).get(change)
