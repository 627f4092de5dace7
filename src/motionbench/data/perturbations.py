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
from motionbench.data.splits import Clips, DatasetInfo

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


def chosen_numbers(
    labels: NDArray[np.int64], groups: NDArray[Any] | None, clips_per_class: int, seed: int
) -> NDArray[np.int64]:
    """Return the numbers of the clips to perturb, in ascending order, spread over classes and groups.

    The groups are in a random order, and each class takes its clips where the class before it stopped, one from each
    group before a second one from any.

    Args:
        labels: of all clips, shape (clips,).
        groups: of all clips; None: each clip is a group of its own.
        clips_per_class: how many to choose of each class, at most.
        seed: of the order of groups and of clips.
    """
    random = np.random.default_rng(seed)
    names, group = np.unique(np.arange(len(labels)) if groups is None else groups, return_inverse=True)
    place, order = random.permutation(len(names))[group], random.permutation(len(labels))
    chosen, first = [], 0
    for label in np.unique(labels):
        mine = order[labels[order] == label]
        mine = mine[np.argsort(place[mine], kind="stable")]
        starts = np.searchsorted(place[mine], place[mine])
        turn, distance = np.arange(len(mine)) - starts, (place[mine] - first) % len(names)
        chosen.append(mine[np.lexsort((distance, turn))][:clips_per_class])
        first = place[chosen[-1][-1]] + 1
    return np.sort(np.concatenate(chosen))


def perturb(clips: Clips, numbers: NDArray[np.int64], name: str, level: float, seed: int) -> Clips:
    """Return clips perturbed. Each clip has a random stream of its own, at all levels the same where possible.

    Args:
        clips: shape (clips, frames, height, width, channels).
        numbers: of these clips among all held-out clips.
        seed: the same seed gives the same clips.
    """
    apply, place = PERTURBATIONS[name].apply, list(PERTURBATIONS).index(name)
    streams = (np.random.default_rng([seed, place, number]) for number in numbers)
    return np.concatenate(
        [apply(np.asarray(clips[index : index + 1]), level, random) for index, random in enumerate(streams)]
    )


def perturbed_labels(
    labels: NDArray[np.int64], class_names: Sequence[str], name: str, dataset: DatasetInfo
) -> NDArray[np.int64]:
    """Return the right answers to perturbed clips of a data set from those to the clips as they are.

    Raises:
        KeyError: if there is no such perturbation, or if it is not known what it does to the answers.
    """
    change = PERTURBATIONS[name].change
    if change is None:
        return labels
    changed = label_map(dataset, change)
    if changed is None:
        raise KeyError(change)
    return np.array([class_names.index(changed.get(each, each)) for each in class_names])[labels]


def unchanged_level(name: str, frames: int) -> float:
    """Return the level at which a perturbation leaves clips of `frames` frames as they are."""
    unchanged = PERTURBATIONS[name].unchanged
    return float(frames) if unchanged == "all frames" else unchanged


@perturbation(Annotated[float, Field(ge=0, le=100)])
def pixel_noise(clips: Clips, level: float, random: np.random.Generator) -> Clips:
    """Add normal noise; level: its standard deviation, a share of full brightness, before black and white cut it off.

    Of the noise on a black pixel, only what is brighter is left.
    """
    return np.clip(np.rint(clips + 255 * level * random.standard_normal(clips.shape)), 0, 255).astype(np.uint8)


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
