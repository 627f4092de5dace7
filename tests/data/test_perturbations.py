from typing import Any

import numpy as np
import pytest

from motionbench.data.perturbations import (
    CHANGE_LABELS,
    PERTURBATIONS,
    Condition,
    conditions,
    stressed,
    unchanged_level,
)
from motionbench.data.splits import Split
from motionbench.data.synthetic.frames import draw_clamped
from motionbench.data.synthetic.patterns import PATTERNS
from motionbench.params.loading import load_params
from motionbench.params.schema import PerturbationsParams
from tests.conftest import ROOT

PARAMS = load_params(ROOT / "params.yaml")


@pytest.fixture(scope="module")
def split() -> Split:
    data, random = PARAMS.data, np.random.default_rng(0)
    paths = np.concatenate([pattern(data, 3, random) for pattern in PATTERNS.values()])
    clips = draw_clamped(paths, data.height, data.width, data.point_size)
    return Split(clips, np.repeat(np.arange(4), 3), tuple(PATTERNS))


def under(split: Split, name: str, level: float, seed: int = 0) -> Split:
    return stressed(split, Condition(name, level), seed)


@pytest.mark.parametrize("condition", conditions(PARAMS.conditions), ids=str)
def test_each_condition_changes_the_clips_and_never_the_originals(condition: Condition, split: Split) -> None:
    before = split.clips.copy()
    changed = stressed(split, condition, 0)
    assert (split.clips == before).all()
    assert changed.clips.shape == split.clips.shape
    assert changed.clips.dtype == np.uint8
    assert (changed.clips != split.clips).any()
    assert (stressed(split, condition, 0).clips == changed.clips).all()


@pytest.mark.parametrize("name", [name for name in PERTURBATIONS if name not in CHANGE_LABELS])
def test_at_the_unchanged_level_nothing_changes(name: str, split: Split) -> None:
    same = under(split, name, unchanged_level(name, split.clips.shape[1]))
    assert (same.clips == split.clips).all()
    assert (same.labels == split.labels).all()


@pytest.mark.parametrize("name", ["pixel_noise", "dropped_frames", "occluding_band", "distractors", "shuffled"])
def test_what_is_drawn_depends_on_the_seed(name: str, split: Split) -> None:
    level = getattr(PARAMS.conditions, name)[-1]
    assert (under(split, name, level, seed=1).clips != under(split, name, level).clips).any()


@pytest.mark.parametrize("name", CHANGE_LABELS)
def test_what_swaps_up_and_down_swaps_the_labels(name: str, split: Split) -> None:
    changed = under(split, name, 1)
    names = [split.class_names[label] for label in changed.labels[::3]]
    assert names == ["constant", "descending", "ascending", "sine"]
    # The centre of mass says which way the point really goes on the screen: row 0 is at the top.
    rows = np.arange(split.clips.shape[2])[:, np.newaxis, np.newaxis]
    for clip, label in zip(changed.clips, changed.labels, strict=True):
        heights = (clip * rows).sum(axis=(1, 2, 3)) / clip.sum(axis=(1, 2, 3))
        expected = {"ascending": -1, "descending": 1}.get(split.class_names[label])
        if expected:
            assert np.sign(heights[-1] - heights[0]) == expected


def test_levels_mean_what_they_say(split: Split) -> None:
    frames = split.clips.shape[1]
    black = (under(split, "dropped_frames", 0.25).clips == 0).all(axis=(2, 3, 4)).sum(axis=1)
    assert (black == frames // 4).all()
    full = Split(np.full_like(split.clips, 255), split.labels, split.class_names)
    dark = (under(full, "occluding_band", 0.3).clips == 0).all(axis=(1, 2, 4)).sum(axis=1)
    assert (dark == round(0.3 * split.clips.shape[3])).all()
    noise = under(Split(np.full_like(split.clips, 128), split.labels, split.class_names), "pixel_noise", 0.1).clips
    assert noise.std() / 255 == pytest.approx(0.1, rel=0.02)
    down = under(split, "shifted", 5).clips
    assert (down[:, :, 5:] == split.clips[:, :, :-5]).all()
    assert (down[:, :, :5] == 0).all()
    fast = under(split, "speed", 2.0).clips
    assert (fast[:, : frames // 2] == split.clips[:, ::2]).all()
    assert (fast[:, frames // 2 :] == split.clips[:, -1:]).all()
    first = under(split, "first_frames", 3).clips
    assert (first[:, :3] == split.clips[:, :3]).all()
    assert (first[:, 3:] == split.clips[:, 2:3]).all()
    mixed = under(split, "shuffled", 1.0).clips
    for clip, original in zip(mixed, split.clips, strict=True):
        assert sorted(frame.tobytes() for frame in clip) == sorted(frame.tobytes() for frame in original)
    crowded = under(Split(np.zeros_like(split.clips), split.labels, split.class_names), "distractors", 1).clips
    assert (crowded.sum(axis=(2, 3, 4)) == 36 * 255).all()


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_every_key_of_the_conditions_adds_its_levels(name: str) -> None:
    content: dict[str, Any] = PARAMS.conditions.model_dump()
    without = PerturbationsParams.model_validate({**content, name: []})
    assert {each.name for each in conditions(PARAMS.conditions)} - {each.name for each in conditions(without)} == {name}
    assert set(PERTURBATIONS) == set(PerturbationsParams.model_fields) - {"seed", "clips_per_class"}
