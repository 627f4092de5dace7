"""Augmentation: training clips changed at random, anew in each epoch, in ways that keep their labels."""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from motionbench.core.errors import UserError
from motionbench.core.schema import Section, Share
from motionbench.data.label_maps import Change, label_map
from motionbench.data.splits import Clips, DatasetInfo

Clip = NDArray[np.uint8]  # shape (frames, height, width, channels)
Flip = Literal["left_right", "upside_down"]
CHANGES: dict[Flip, Change] = {"left_right": "mirrored", "upside_down": "flipped"}


class AugmentationParams(Section):
    """How training clips are changed at random. With null and 0 they are not."""

    flip: Flip | None
    crop: Annotated[float, Field(ge=0, lt=1)]
    brightness: Share
    time_jitter: Annotated[int, Field(ge=0, le=10_000)]

    def is_on(self) -> bool:
        """Return whether there is anything to change."""
        return any(value for _, value in self)


def labels_when_flipped(
    params: AugmentationParams, dataset: DatasetInfo, class_names: tuple[str, ...]
) -> NDArray[np.int64]:
    """Return the label that a flipped clip of each class has, shape (classes,); without flips its own.

    If only clips of classes that keep their label were flipped, a flipped picture would tell the class.

    Raises:
        UserError: if it is not known which classes these are.
    """
    if params.flip is None:
        return np.arange(len(class_names))
    change = CHANGES[params.flip]
    changed_labels = label_map(dataset, change)
    if changed_labels is None:
        raise UserError(
            f"params.yaml: training.augmentation.flip: {params.flip}: it is not known which labels this changes; name "
            f"the classes that swap in folder.{change}_labels, or set it to [] if none do"
        )
    return np.array([class_names.index(changed_labels.get(name, name)) for name in class_names])


def augment(
    clips: Clips,
    labels: NDArray[np.int64],
    numbers: NDArray[np.int64],
    params: AugmentationParams,
    flipped_labels: NDArray[np.int64],
    seed: int,
    epoch: int,
) -> tuple[Clips, NDArray[np.int64]]:
    """Return clips changed at random, and their labels. A clip's number, the seed and the epoch decide what is drawn.

    Args:
        labels: of the clips, shape (clips,), as `numbers`.
        flipped_labels: from `labels_when_flipped`.
    """
    changed, labels = np.empty_like(clips), labels.copy()
    for place, number in enumerate(numbers):
        random = np.random.default_rng([number, seed, epoch])
        clip = clips[place]
        if random.random() >= 0.5 and params.flip:
            clip, labels[place] = flip(clip, params.flip), flipped_labels[labels[place]]
        clip = crop(clip, params.crop, random)
        clip = brightness(clip, params.brightness, random)
        changed[place] = time_jitter(clip, params.time_jitter, random)
    return changed, labels


def flip(clip: Clip, direction: Flip) -> Clip:
    """Swap left and right, or top and bottom."""
    return clip[:, :, ::-1] if direction == "left_right" else clip[:, ::-1]


def crop(clip: Clip, share: float, random: np.random.Generator) -> Clip:
    """Enlarge a part at a random place to the full frame; what is cut off is at most `share` of height and width."""
    kept = 1 - random.uniform(0, share)
    rows, columns = (_nearest(extent, max(1, round(kept * extent)), random) for extent in clip.shape[1:3])
    enlarged: Clip = clip.take(rows, axis=1).take(columns, axis=2)
    return enlarged


def _nearest(extent: int, kept: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Return for each of `extent` pixels which one it shows of a random piece of `kept` pixels."""
    first = random.integers(extent - kept + 1)
    return first + (2 * np.arange(extent) + 1) * kept // (2 * extent)


def brightness(clip: Clip, share: float, random: np.random.Generator) -> Clip:
    """Multiply by a factor from 1 - share to 1 + share; what becomes brighter than white is white."""
    factor = random.uniform(1 - share, 1 + share)
    changed: Clip = np.clip(np.rint(factor * np.arange(256)), 0, 255).astype(np.uint8).take(clip)
    return changed


def time_jitter(clip: Clip, frames: int, random: np.random.Generator) -> Clip:
    """Start up to `frames` frames earlier or later; the first frame, or the last one, is repeated."""
    shift = random.integers(-frames, frames + 1)
    shifted: Clip = clip.take(np.arange(len(clip)) + shift, axis=0, mode="clip")
    return shifted
