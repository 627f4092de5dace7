from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motionbench.core.errors import UserError
from motionbench.data.augmentation import (
    AugmentationParams,
    augment,
    brightness,
    crop,
    labels_when_flipped,
    time_jitter,
)
from motionbench.data.splits import Clips
from tests.conftest import DRAWN_DATASET

OFF: dict[str, Any] = {"flip": None, "crop": 0.0, "brightness": 0.0, "time_jitter": 0}
ON: dict[str, Any] = {"flip": "left_right", "crop": 0.3, "brightness": 0.3, "time_jitter": 2}
NUMBERS = np.arange(100)
LABELS = NUMBERS % 4
OWN = np.arange(4)
NAMES = ("constant", "ascending", "descending", "sine")

examples = settings(max_examples=200, deadline=None, derandomize=True)
shares = st.floats(0, 1, exclude_max=True)
seeds = st.integers(0, 2**32 - 1)
sizes = st.tuples(st.integers(1, 6), st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]))


def noise(clips: int, *shape: int) -> Clips:
    return np.random.default_rng(0).integers(0, 256, (clips, *shape), dtype=np.uint8)


def augmented(clips: Clips, numbers: Any = None, seed: int = 0, epoch: int = 1, **changes: Any) -> Clips:
    whole = AugmentationParams(**{**OFF, **changes})
    numbers = NUMBERS[: len(clips)] if numbers is None else numbers
    return augment(clips, LABELS[numbers], numbers, whole, OWN, seed, epoch)[0]


@given(sizes, st.sampled_from([None, "left_right", "upside_down"]), shares, shares, st.integers(0, 10), seeds)
@examples
def test_augmented_clips_have_shape_and_type_of_the_clips(
    shape: tuple[int, ...], direction: str | None, cut: float, factor: float, frames: int, seed: int
) -> None:
    clips = noise(2, *shape)
    before = clips.copy()
    changed = augmented(clips, None, seed, flip=direction, crop=cut, brightness=factor, time_jitter=frames)
    assert changed.shape == clips.shape
    assert changed.dtype == np.uint8
    np.testing.assert_array_equal(clips, before)


@given(sizes, seeds)
@examples
def test_what_is_off_changes_nothing(shape: tuple[int, ...], seed: int) -> None:
    clips = noise(2, *shape)
    np.testing.assert_array_equal(augmented(clips, seed=seed), clips)
    assert not AugmentationParams(**OFF).is_on()


@pytest.mark.parametrize("key", ON)
def test_each_augmentation_changes_clips(key: str) -> None:
    assert (augmented(noise(8, 4, 12, 12, 1), **{key: ON[key]}) != noise(8, 4, 12, 12, 1)).any()
    assert AugmentationParams(**OFF | {key: ON[key]}).is_on()


def test_what_is_drawn_depends_on_seed_epoch_and_number_alone() -> None:
    clips = noise(6, 4, 12, 12, 1)
    whole = augmented(clips, **ON)
    for some in ([5, 0, 3], [2], [4, 1]):
        np.testing.assert_array_equal(augmented(clips[some], np.array(some), **ON), whole[some])
    others = (augmented(clips, seed=1, **ON), augmented(clips, epoch=2, **ON), augmented(clips, NUMBERS[6:12], **ON))
    for other in others:
        assert all((whole[number] != other[number]).any() for number in range(6))


@pytest.mark.parametrize(("direction", "axis"), [("left_right", 3), ("upside_down", 2)])
def test_half_of_the_clips_of_each_class_are_flipped_with_their_labels(direction: Any, axis: int) -> None:
    clips, order = noise(100, 2, 5, 7, 1), np.random.default_rng(0).permutation(100)
    params, swapped, labels = AugmentationParams(**OFF | {"flip": direction}), np.array([0, 2, 1, 3]), LABELS[order]
    drawn = [augment(clips, labels, order, params, swapped, seed, 1) for seed in range(30)]
    flipped, new_labels = (np.stack(each) for each in zip(*drawn, strict=True))
    some = (flipped != clips).any(axis=(2, 3, 4, 5))
    for label in range(4):
        assert 310 < some[:, labels == label].sum() < 440, "of 30 x 25: no flip tells the class"
    np.testing.assert_array_equal(new_labels, np.where(some, swapped[labels], labels))
    np.testing.assert_array_equal(labels, LABELS[order])
    seed, number = np.argwhere(some)[0]
    np.testing.assert_array_equal(flipped[seed, number], np.flip(clips, axis)[number])


@given(sizes, shares, seeds)
@examples
def test_a_crop_is_a_rectangle_of_all_frames_enlarged(shape: tuple[int, ...], share: float, seed: int) -> None:
    frames, height, width, _ = shape
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    where = np.broadcast_to(np.stack([rows, columns], axis=-1).astype(np.uint8), (frames, height, width, 2))
    changed = crop(where, share, np.random.default_rng(seed)).astype(int)
    assert changed.shape == where.shape
    shown = changed[0, :, 0, 0], changed[0, 0, :, 1]
    np.testing.assert_array_equal(
        changed, np.broadcast_to(np.stack(np.meshgrid(*shown, indexing="ij"), -1), where.shape)
    )
    for pixels, extent in zip(shown, (height, width), strict=True):
        steps = np.diff(pixels)
        assert ((steps == 0) | (steps == 1)).all(), "none left out, none in another order"
        assert len(np.unique(pixels)) >= np.floor((1 - share) * extent)


def test_a_crop_reaches_every_edge_and_cuts_off_what_it_may() -> None:
    line = np.arange(100, dtype=np.uint8).reshape(1, 100, 1, 1)
    shown = [crop(line, 0.5, np.random.default_rng(seed)).ravel().tolist() for seed in range(300)]
    firsts, lasts = ([each[end] for each in shown] for end in (0, -1))
    assert (min(firsts), max(lasts)) == (0, 99)
    assert max(firsts) > 40
    assert min(lasts) < 59
    assert min(len(set(each)) for each in shown) in range(50, 53)
    assert max(len(set(each)) for each in shown) in range(98, 101)


@given(shares, seeds)
@examples
def test_a_clip_is_brighter_by_one_factor_up_to_white(share: float, seed: int) -> None:
    values = np.arange(256)
    changed = brightness(values.astype(np.uint8).reshape(1, 16, 16, 1), share, np.random.default_rng(seed))
    factor = np.random.default_rng(seed).uniform(1 - share, 1 + share)
    assert 1 - share <= factor <= 1 + share
    np.testing.assert_array_equal(changed.ravel(), np.minimum(np.rint(factor * values), 255))


@given(st.integers(1, 12), st.integers(0, 12), seeds)
@examples
def test_a_clip_starts_at_most_so_many_frames_earlier_or_later(frames: int, most: int, seed: int) -> None:
    clip = np.arange(frames, dtype=np.uint8).reshape(frames, 1, 1, 1)
    shown = time_jitter(clip, most, np.random.default_rng(seed)).ravel().tolist()
    shifts = range(-most, most + 1)
    assert shown in [[min(max(frame + shift, 0), frames - 1) for frame in range(frames)] for shift in shifts]


def test_all_shifts_occur_as_often() -> None:
    clip = np.arange(9, dtype=np.uint8).reshape(9, 1, 1, 1)
    middles = [int(time_jitter(clip, 2, np.random.default_rng(seed))[4, 0, 0, 0]) for seed in range(500)]
    assert all(70 < middles.count(frame) < 130 for frame in range(2, 7))


def labels(direction: str | None, **record: Any) -> list[int]:
    source = DRAWN_DATASET.model_copy(update=record)
    return [*map(int, labels_when_flipped(AugmentationParams(**OFF | {"flip": direction}), source, NAMES))]


def test_labels_that_a_flip_swaps() -> None:
    assert labels(None) == labels("left_right") == [0, 1, 2, 3]
    assert labels("upside_down") == [0, 2, 1, 3]
    swapped = {"sine": "constant", "constant": "sine"}
    assert labels("left_right", source="folder", label_maps={"mirrored": swapped}) == [3, 1, 2, 0]
    assert labels("upside_down", source="folder", label_maps={"flipped": {}}) == [0, 1, 2, 3]
    assert labels(None, source="folder") == [0, 1, 2, 3]


@pytest.mark.parametrize(("direction", "key"), [("left_right", "mirrored_labels"), ("upside_down", "flipped_labels")])
def test_flips_that_may_change_labels_are_refused_in_one_line(direction: str, key: str) -> None:
    with pytest.raises(UserError) as refused:
        labels(direction, source="folder", label_maps={"reversed": {}})
    assert str(refused.value) == (
        f"params.yaml: training.augmentation.flip: {direction}: it is not known which labels this changes; name the "
        f"classes that swap in folder.{key}, or set it to [] if none do"
    )
