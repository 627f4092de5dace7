"""What test clips are put through to see what a model's answers rest on: named, seeded, each with a level."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from motionbench.data.frames import Clips
from motionbench.data.splits import Split
from motionbench.params import ConditionsParams

Stress = Callable[[Clips, float, np.random.Generator], Clips]
MIRRORED = {"ascending": "descending", "descending": "ascending"}
POINT_SIDE = 6  # of a distractor, pixels: the source's point


class Condition(NamedTuple):
    """A stress at one level."""

    name: str
    level: float


def conditions(params: ConditionsParams) -> list[Condition]:
    """Return all conditions, in the order of params.yaml."""
    return [Condition(name, level) for name in STRESSES for level in getattr(params, name)]


def chosen_clips(split: Split, clips_per_class: int) -> tuple[NDArray[np.int64], Split]:
    """Return the numbers of the first clips of each class, which are those to put through conditions, and the clips."""
    numbers = np.sort(
        np.concatenate([np.flatnonzero(split.labels == label)[:clips_per_class] for label in np.unique(split.labels)])
    )
    return numbers, Split(split.clips[numbers], split.labels[numbers], split.class_names)


def stressed(split: Split, condition: Condition, seed: int) -> Split:
    """Return `split` under a condition; where that changes the right answers, with other labels.

    The same seed gives the same clips, and what befalls a clip at one level befalls it at the others too, as far as
    that makes sense.
    """
    random = np.random.default_rng([seed, list(STRESSES).index(condition.name)])
    clips = STRESSES[condition.name](np.asarray(split.clips), condition.level, random)
    labels = _mirrored(split.labels, split.class_names) if condition.name in CHANGE_LABELS else split.labels
    return Split(clips, labels, split.class_names)


def pixel_noise(clips: Clips, level: float, random: np.random.Generator) -> Clips:
    """Add normal noise to every pixel; level: its standard deviation as a share of full brightness."""
    noisy = np.empty_like(clips)
    for number, clip in enumerate(clips):  # One at a time: the noise is eight times as large as the clips.
        noisy[number] = np.clip(clip + 255 * level * random.standard_normal(clip.shape), 0, 255)
    return noisy


def dropped_frames(clips: Clips, level: float, random: np.random.Generator) -> Clips:
    """Make frames black; level: their share."""
    frames = clips.shape[1]
    order = random.permuted(np.tile(np.arange(frames), (len(clips), 1)), axis=1)
    black = order < round(level * frames)
    return np.where(black[..., np.newaxis, np.newaxis, np.newaxis], np.uint8(0), clips)


def occluding_band(clips: Clips, level: float, random: np.random.Generator) -> Clips:
    """Cover a vertical band with black, somewhere; level: its width as a share of the frame's."""
    width = clips.shape[3]
    covered = round(level * width)
    first = np.floor(random.random(len(clips)) * (width - covered + 1))[:, np.newaxis]
    columns = np.arange(width)
    band = (columns >= first) & (columns < first + covered)
    return np.where(band[:, np.newaxis, np.newaxis, :, np.newaxis], np.uint8(0), clips)


def shifted(clips: Clips, level: float, _random: np.random.Generator) -> Clips:
    """Move everything down, what leaves the frame is lost; level: by how many pixels, up if negative."""
    rows = round(level)
    moved = np.roll(clips, rows, axis=2)
    if rows > 0:
        moved[:, :, :rows] = 0
    elif rows < 0:
        moved[:, :, rows:] = 0
    return moved


def speed(clips: Clips, level: float, _random: np.random.Generator) -> Clips:
    """Play at another speed, and let the last frame stay where the clip runs out; level: how many times as fast."""
    frames = clips.shape[1]
    shown = np.minimum(np.floor(level * np.arange(frames)), frames - 1).astype(int)
    return clips[:, shown]


def distractors(clips: Clips, level: float, random: np.random.Generator) -> Clips:
    """Add squares that stand still; level: how many."""
    crowded = clips.copy()
    height, width = clips.shape[2:4]
    for clip in crowded:
        for _ in range(round(level)):
            row, column = random.integers(height - POINT_SIDE + 1), random.integers(width - POINT_SIDE + 1)
            clip[:, row : row + POINT_SIDE, column : column + POINT_SIDE] = 255
    return crowded


def shuffled(clips: Clips, level: float, random: np.random.Generator) -> Clips:
    """Put frames into a random order; level: the share of them that take part."""
    frames = clips.shape[1]
    mixed = clips.copy()
    for clip in mixed:
        chosen = random.permutation(frames)[: round(level * frames)]
        clip[np.sort(chosen)] = clip[chosen]
    return mixed


def first_frames(clips: Clips, level: float, _random: np.random.Generator) -> Clips:
    """Show the first frames only, the last of them until the end; level: how many."""
    return clips[:, np.minimum(np.arange(clips.shape[1]), round(level) - 1)]


def backwards(clips: Clips, _level: float, _random: np.random.Generator) -> Clips:
    """Play from the last frame to the first: what ascended descends."""
    return clips[:, ::-1]


def upside_down(clips: Clips, _level: float, _random: np.random.Generator) -> Clips:
    """Swap top and bottom: what ascended descends."""
    return clips[:, :, ::-1]


STRESSES: Mapping[str, Stress] = {
    stress.__name__: stress
    for stress in (
        pixel_noise, dropped_frames, occluding_band, shifted, speed, distractors, shuffled, first_frames, backwards,
        upside_down,
    )
}  # fmt: skip
CHANGE_LABELS = ("backwards", "upside_down")


def unchanged_level(name: str, frames: int) -> float:
    """Return the level at which a condition leaves clips of `frames` frames as they are."""
    return {"speed": 1.0, "first_frames": float(frames)}.get(name, 0.0)


def _mirrored(labels: NDArray[np.int64], class_names: Sequence[str]) -> NDArray[np.int64]:
    names = list(class_names)
    others = [names.index(MIRRORED.get(name, name)) for name in names]
    return np.array(others)[labels]
