from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from motionbench.core.errors import UserError
from motionbench.data.perturbations import (
    PERTURBATIONS,
    chosen_numbers,
    perturb,
    perturbed_labels,
    unchanged_level,
)
from motionbench.data.splits import Clips, DatasetInfo, Split
from motionbench.data.synthetic.frames import draw_clamped
from motionbench.data.synthetic.patterns import PATTERNS
from motionbench.params.loading import load_params
from motionbench.params.schema import Params
from tests.conftest import DRAWN_DATASET, ROOT, drawing

Load = Callable[[dict[str, Any]], Params]

PARAMS = load_params(ROOT / "params.yaml")
RANDOM = ("pixel_noise", "dropped_frames", "occluding_band", "distractors", "shuffled")
CHANGING = [name for name, perturbation in PERTURBATIONS.items() if perturbation.change]


@pytest.fixture(scope="module")
def split() -> Split:
    data, random = drawing(PARAMS), np.random.default_rng(0)
    paths = np.concatenate([pattern(data, 3, random) for pattern in PATTERNS.values()])
    clips = draw_clamped(paths, data.height, data.width, data.point_size)
    return Split(clips, np.repeat(np.arange(4), 3), tuple(PATTERNS))


def perturbed(split: Split, name: str, level: float, seed: int = 0) -> Clips:
    return perturb(split.clips, np.arange(len(split.labels)), name, level, seed)


@pytest.mark.parametrize(("name", "level"), PARAMS.perturbations.settings(DRAWN_DATASET))
def test_each_perturbation_changes_a_copy_of_the_clips(name: str, level: float, split: Split) -> None:
    before = split.clips.copy()
    changed = perturbed(split, name, level)
    assert (split.clips == before).all()
    assert changed.shape == split.clips.shape
    assert changed.dtype == np.uint8
    assert (changed != split.clips).any()
    assert (perturbed(split, name, level) == changed).all()


@pytest.mark.parametrize("name", [name for name in PERTURBATIONS if name not in CHANGING])
def test_the_unchanged_level_leaves_the_clips_as_they_are(name: str, split: Split) -> None:
    same = perturbed(split, name, unchanged_level(name, split.clips.shape[1]))
    assert (same == split.clips).all()


@pytest.mark.parametrize("name", RANDOM)
def test_what_is_drawn_at_random_depends_on_the_seed(name: str, split: Split) -> None:
    level = getattr(PARAMS.perturbations, name)[-1]
    assert (perturbed(split, name, level, 1) != perturbed(split, name, level, 0)).any()


@pytest.mark.parametrize("name", RANDOM)
def test_what_is_drawn_for_a_clip_depends_on_its_number_alone(name: str, split: Split) -> None:
    level = getattr(PARAMS.perturbations, name)[-1]
    alone = perturb(split.clips[5:6], np.array([5]), name, level, 0)
    assert (alone[0] == perturbed(split, name, level)[5]).all()
    same = np.concatenate([split.clips[5:6]] * 2)
    one, other = perturb(same, np.array([5, 6]), name, level, 0)
    assert (one != other).any()


def names_of(split: Split, name: str, source: DatasetInfo) -> list[str]:
    """The classes of the first clip of each class, when perturbed."""
    labels = perturbed_labels(split.labels, split.class_names, name, source)
    return [split.class_names[label] for label in labels[::3]]


def test_clips_of_the_user_have_the_labels_of_the_users_maps(split: Split) -> None:
    swapped = {"ascending": "sine", "sine": "ascending"}
    source = DRAWN_DATASET.model_copy(update={"source": "folder", "label_maps": {"reversed": swapped, "flipped": {}}})
    assert names_of(split, "backwards", source) == ["constant", "sine", "descending", "ascending"]
    assert names_of(split, "upside_down", source) == list(split.class_names)


@pytest.mark.parametrize("name", ["backwards", "upside_down"])
def test_mirrored_clips_have_mirrored_labels(name: str, split: Split) -> None:
    assert names_of(split, name, DRAWN_DATASET) == ["constant", "descending", "ascending", "sine"]
    labels = perturbed_labels(split.labels, split.class_names, name, DRAWN_DATASET)
    # The centre of mass says which way the point really goes on the screen: row 0 is at the top.
    rows = np.arange(split.clips.shape[2])[:, np.newaxis, np.newaxis]
    for clip, label in zip(perturbed(split, name, 1), labels, strict=True):
        heights = (clip * rows).sum(axis=(1, 2, 3)) / clip.sum(axis=(1, 2, 3))
        expected = {"ascending": -1, "descending": 1}.get(split.class_names[label])
        if expected:
            assert np.sign(heights[-1] - heights[0]) == expected


def test_other_perturbations_leave_the_labels_as_they_are(split: Split) -> None:
    for name in PERTURBATIONS:
        if name not in CHANGING:
            assert names_of(split, name, DRAWN_DATASET) == list(split.class_names), name


def test_levels_mean_what_they_say(split: Split) -> None:
    frames = split.clips.shape[1]

    def changed(name: str, level: float, clips: Any = split.clips) -> Any:
        return perturbed(split._replace(clips=clips), name, level)

    black = (changed("dropped_frames", 0.25) == 0).all(axis=(2, 3, 4)).sum(axis=1)
    assert (black == frames // 4).all()
    dark = (changed("occluding_band", 0.3, np.full_like(split.clips, 255)) == 0).all(axis=(1, 2, 4)).sum(axis=1)
    assert (dark == round(0.3 * split.clips.shape[3])).all()
    noise = changed("pixel_noise", 0.1, np.full_like(split.clips, 128))
    assert noise.std() / 255 == pytest.approx(0.1, rel=0.02)
    # Rounded, not cut off: the mean stays, also of noise below one step of brightness.
    assert noise.mean() == pytest.approx(128, abs=0.05)
    faint = changed("pixel_noise", 0.004, np.full_like(split.clips, 128))
    assert (faint.mean(), faint.std()) == (pytest.approx(128, abs=0.01), pytest.approx(1.06, rel=0.02))
    down = changed("shifted", 5)
    assert (down[:, :, 5:] == split.clips[:, :, :-5]).all()
    assert (down[:, :, :5] == 0).all()
    fast = changed("speed", 2.0)
    assert (fast[:, : frames // 2] == split.clips[:, ::2]).all()
    assert (fast[:, frames // 2 :] == split.clips[:, -1:]).all()
    first = changed("first_frames", 3)
    assert (first[:, :3] == split.clips[:, :3]).all()
    assert (first[:, 3:] == split.clips[:, 2:3]).all()
    for clip, original in zip(changed("shuffled", 1.0), split.clips, strict=True):
        assert sorted(frame.tobytes() for frame in clip) == sorted(frame.tobytes() for frame in original)
    crowded = changed("distractors", 1, np.zeros_like(split.clips))
    assert (crowded.sum(axis=(2, 3, 4)) == 36 * 255).all()


def test_so_many_clips_of_each_class_are_perturbed() -> None:
    labels = np.repeat([0, 1, 3], [12, 5, 30])
    chosen = chosen_numbers(labels, None, 10, seed=0)
    assert np.bincount(labels[chosen]).tolist() == [10, 5, 0, 10]
    assert (np.diff(chosen) > 0).all()
    assert (chosen == chosen_numbers(labels, None, 10, seed=0)).all()
    assert (chosen != chosen_numbers(labels, None, 10, seed=1)).any()
    # Not the first ones of a class.
    assert (chosen[:10] != np.arange(10)).any()


@pytest.mark.parametrize("clips_per_class", [1, 2, 4, 10])
def test_perturbed_clips_are_spread_over_groups(clips_per_class: int) -> None:
    # Sorted by class and group, as the clips of a folder are: 3 classes, 12 groups of 2 clips of each class.
    labels, groups = np.repeat([0, 1, 2], 24), np.tile(np.repeat([f"person {n}" for n in range(12)], 2), 3)
    chosen = chosen_numbers(labels, groups, clips_per_class, seed=0)
    assert len(set(groups[chosen])) == min(12, 3 * clips_per_class)
    for label in range(3):
        assert len(set(groups[chosen][labels[chosen] == label])) == clips_per_class


def test_few_groups_give_several_clips_each() -> None:
    labels, groups = np.repeat([0, 1], 40), np.tile(np.repeat(["a", "b"], [35, 5]), 2)
    chosen = chosen_numbers(labels, groups, 20, seed=0)
    assert [int((groups[chosen][labels[chosen] == label] == "b").sum()) for label in (0, 1)] == [5, 5]


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_no_levels_leave_a_perturbation_out(name: str, params_with: Load) -> None:
    without = params_with({f"perturbations.{name}": []}).perturbations.settings(DRAWN_DATASET)
    assert without == [setting for setting in PARAMS.perturbations.settings(DRAWN_DATASET) if setting[0] != name]


@pytest.mark.parametrize(
    ("name", "refused", "allowed"),
    [
        ("pixel_noise", [-0.1, 100.1, "a"], [0.0, 100.0]),
        ("dropped_frames", [-0.1, 1.1], [0.0, 1.0]),
        ("occluding_band", [-0.1, 1.1], [0.0, 1.0]),
        ("shifted", [-10_001, 10_001, 0.5], [-10_000, 10_000]),
        ("speed", [0.0, -1.0, 100.1], [0.01, 100.0]),
        ("distractors", [-1, 1001, 0.5], [0, 1000]),
        ("shuffled", [-0.1, 1.1], [0.0, 1.0]),
        ("first_frames", [0, 10_001, 1.5], [1, 10_000]),
        ("backwards", [0, 2], [1]),
        ("upside_down", [0, 2], [1]),
    ],
)
def test_bad_levels_are_refused(name: str, refused: list[Any], allowed: list[Any], params_with: Load) -> None:
    for level in allowed:
        assert getattr(params_with({f"perturbations.{name}": [level]}).perturbations, name) == (level,)
    for level in (*refused, "1", None, [1], float("nan"), float("inf")):
        with pytest.raises(UserError, match=rf"perturbations\.{name}\.0: .* is not allowed"):
            params_with({f"perturbations.{name}": [level]})
    most = PERTURBATIONS[name].most_levels
    with pytest.raises(UserError, match=rf"perturbations\.{name}: .* is not allowed"):
        params_with({f"perturbations.{name}": allowed[:1] * (most + 1)})
