"""Perturbations of test clips, to see what a model's answers depend on. Each is one function.

A new perturbation is one decorated function here and one line in the perturbations section of params.yaml: schema,
scores, figures, report and docs/perturbations.md follow.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from motionbench.core.schema import Pixels, Share
from motionbench.data.label_maps import Change, label_map
from motionbench.data.splits import Clips, SourceRecord, Split

POINT_SIDE = 6  # of a distractor, pixels: the reference notebook's point


class Perturbation(NamedTuple):
    """A function on clips, and the arguments of its decorator."""

    apply: Callable[[Clips, float, np.random.Generator], Clips]
    level: Any  # the type of a level, with its bounds
    unchanged: float | Literal["all frames"] = 0.0
    """The level at which clips stay as they are; "all frames" is the number of their frames."""
    change: Change | None = None
    """What may change the right answers, if anything does."""
    most_levels: int = 20


PERTURBATIONS: dict[str, Perturbation] = {}
"""By name, in the order of definition, which determines their random streams: append, never insert."""


def perturbation(level: Any, **options: Any) -> Callable[[Callable[..., Clips]], Callable[..., Clips]]:
    """Register a function (clips, level, random) -> clips under its own name; options are those of `Perturbation`."""

    def register(function: Callable[..., Clips]) -> Callable[..., Clips]:
        PERTURBATIONS[function.__name__] = Perturbation(function, level, **options)
        return function

    return register


def chosen_clips(split: Split, clips_per_class: int) -> Split:
    """Return the clips to perturb: the first ones of each class."""
    numbers = chosen_numbers([split], clips_per_class)
    return Split(split.clips[numbers], split.labels[numbers], split.class_names)


def chosen_numbers(parts: Sequence[Split], clips_per_class: int) -> NDArray[np.int64]:
    """Return the numbers of the clips to perturb among the clips of all parts."""
    numbers: list[int] = []
    before = 0
    for part in parts:
        firsts = [np.flatnonzero(part.labels == label)[:clips_per_class] for label in np.unique(part.labels)]
        numbers += sorted(before + np.concatenate(firsts))
        before += len(part.labels)
    return np.array(numbers)


def perturb(split: Split, name: str, level: float, seed: int, source: SourceRecord) -> Split:
    """Return `split`, of the clips of `source`, perturbed, its labels changed where the right answers change.

    The same seed gives the same clips. Where possible, the same numbers are drawn for a clip at all levels.
    """
    perturbation = PERTURBATIONS[name]
    random = np.random.default_rng([seed, list(PERTURBATIONS).index(name)])
    clips = perturbation.apply(np.asarray(split.clips), level, random)
    if perturbation.change is None:
        return split._replace(clips=clips)
    names, changed_labels = split.class_names, label_map(source, perturbation.change)
    assert changed_labels is not None
    right_answers = np.array([names.index(changed_labels.get(name, name)) for name in names])
    return Split(clips, right_answers[split.labels], names)


def unchanged_level(name: str, frames: int) -> float:
    """Return the level at which a perturbation leaves clips of `frames` frames as they are."""
    unchanged = PERTURBATIONS[name].unchanged
    return float(frames) if unchanged == "all frames" else unchanged


@perturbation(Annotated[float, Field(ge=0, le=100)])
def pixel_noise(clips: Clips, level: float, random: np.random.Generator) -> Clips:
    """Add normal noise to every pixel; level: its standard deviation as a share of full brightness."""
    noisy = np.empty_like(clips)
    for number, clip in enumerate(clips):  # One clip at a time: noise takes eight times the memory of clips.
        noisy[number] = np.clip(clip + 255 * level * random.standard_normal(clip.shape), 0, 255)
    return noisy


@perturbation(Share)
def dropped_frames(clips: Clips, level: float, random: np.random.Generator) -> Clips:
    """Make frames black; level: their share."""
    frames = clips.shape[1]
    order = random.permuted(np.tile(np.arange(frames), (len(clips), 1)), axis=1)
    black = order < round(level * frames)
    return np.where(black[..., np.newaxis, np.newaxis, np.newaxis], np.uint8(0), clips)


@perturbation(Share)
def occluding_band(clips: Clips, level: float, random: np.random.Generator) -> Clips:
    """Cover a vertical band with black, somewhere; level: its width as a share of the frame's."""
    width = clips.shape[3]
    covered = round(level * width)
    first = np.floor(random.random(len(clips)) * (width - covered + 1))[:, np.newaxis]
    columns = np.arange(width)
    band = (columns >= first) & (columns < first + covered)
    return np.where(band[:, np.newaxis, np.newaxis, :, np.newaxis], np.uint8(0), clips)


@perturbation(Annotated[int, Field(ge=-10_000, le=10_000)])
def shifted(clips: Clips, level: float, _random: np.random.Generator) -> Clips:
    """Move everything down, what leaves the frame is lost; level: by how many pixels, up if negative."""
    rows = round(level)
    moved = np.roll(clips, rows, axis=2)
    if rows > 0:
        moved[:, :, :rows] = 0
    elif rows < 0:
        moved[:, :, rows:] = 0
    return moved


@perturbation(Annotated[float, Field(gt=0, le=100)], unchanged=1.0)
def speed(clips: Clips, level: float, _random: np.random.Generator) -> Clips:
    """Play at another speed, and let the last frame stay where the clip runs out; level: how many times as fast."""
    frames = clips.shape[1]
    shown = np.minimum(np.floor(level * np.arange(frames)), frames - 1).astype(int)
    return clips[:, shown]


@perturbation(Annotated[int, Field(ge=0, le=1000)])
def distractors(clips: Clips, level: float, random: np.random.Generator) -> Clips:
    """Add squares that stand still; level: how many."""
    crowded = clips.copy()
    height, width = clips.shape[2:4]
    side = min(POINT_SIDE, height, width)
    for clip in crowded:
        for _ in range(round(level)):
            row, column = random.integers(height - side + 1), random.integers(width - side + 1)
            clip[:, row : row + side, column : column + side] = 255
    return crowded


@perturbation(Share)
def shuffled(clips: Clips, level: float, random: np.random.Generator) -> Clips:
    """Put frames into a random order; level: the share of them that take part."""
    frames = clips.shape[1]
    mixed = clips.copy()
    for clip in mixed:
        chosen = random.permutation(frames)[: round(level * frames)]
        clip[np.sort(chosen)] = clip[chosen]
    return mixed


@perturbation(Pixels, unchanged="all frames")
def first_frames(clips: Clips, level: float, _random: np.random.Generator) -> Clips:
    """Show the first frames only, the last of them until the end; level: how many."""
    return clips[:, np.minimum(np.arange(clips.shape[1]), round(level) - 1)]


@perturbation(Literal[1], change="reversed", most_levels=1)
def backwards(clips: Clips, _level: float, _random: np.random.Generator) -> Clips:
    """Play from the last frame to the first."""
    return clips[:, ::-1]


@perturbation(Literal[1], change="flipped", most_levels=1)
def upside_down(clips: Clips, _level: float, _random: np.random.Generator) -> Clips:
    """Swap top and bottom."""
    return clips[:, :, ::-1]
