"""Clips are dealt so that no group is in two parts and each class in each, wherever there is such a way."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motionbench.core.errors import UserError
from motionbench.data.folder import dealing
from motionbench.data.folder.dealing import class_table
from motionbench.data.folder.listing import ClipFile
from motionbench.data.splits import SPLITS


def clip(number: int, label: str, group: str, split: str | None = None) -> ClipFile:
    return ClipFile(Path(f"{number}.mp4"), f"{number}.mp4", label, group, split)


def make_clips(counts: list[list[int]]) -> list[ClipFile]:
    """Make this many clips of each group (rows) and class (columns)."""
    pairs = [
        (f"class {label}", f"group {group:02}")
        for group, row in enumerate(counts)
        for label, count in enumerate(row)
        for _ in range(count)
    ]
    return [clip(number, label, group) for number, (label, group) in enumerate(pairs)]


def deal(clips: list[ClipFile], folds: int | str | None, seed: int) -> dict[str, list[int]]:
    """Return the numbers of the clips in each part."""
    dealt = dealing.deal(clips, folds, seed)
    names = [*SPLITS] if "train" in dealt else sorted(set(dealt), key=int)
    return {name: [number for number, part in enumerate(dealt) if part == name] for name in names}


def labels_of(clips: list[ClipFile], numbers: list[int]) -> list[str]:
    return [clips[number].label for number in numbers]


def assert_sound(clips: list[ClipFile], parts: dict[str, list[int]]) -> None:
    assert sorted(itertools.chain(*parts.values())) == list(range(len(clips))), "each clip is dealt once"
    groups = [{clips[number].group for number in numbers} for numbers in parts.values()]
    assert sum(map(len, groups)) == len(set().union(*groups)), "no group is in two parts"
    for numbers in parts.values():
        assert set(labels_of(clips, numbers)) == {clip.label for clip in clips}, "each class is in each part"


def ways(counts: list[list[int]], parts: int) -> list[tuple[int, ...]]:
    """Return all ways to deal groups into parts with each class in each part."""
    present = np.array(counts) > 0
    return [
        way
        for way in itertools.product(range(parts), repeat=len(counts))
        if all(present[np.array(way) == part].any(axis=0).all() for part in range(parts))
    ]


def deviation(counts: list[list[int]], way: tuple[int, ...], shares: list[int]) -> float:
    dealt = np.array([np.array(counts)[np.array(way) == part].sum(axis=0) for part in range(len(shares))])
    return float(abs(dealt - np.outer(shares, np.sum(counts, axis=0)) / sum(shares)).sum())


def refusal(clips: list[ClipFile], folds: Any, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(UserError) as refused:
        deal(clips, folds, 0)
    assert class_table(clips) in capsys.readouterr().err
    return str(refused.value)


@st.composite
def designs(draw: st.DrawFn) -> list[list[int]]:
    classes = draw(st.integers(1, 3))
    rows = st.lists(st.sampled_from([0, 0, 1, 2, 7]), min_size=classes, max_size=classes)
    counts = draw(st.lists(rows.filter(any), min_size=1, max_size=6))
    present = [any(column) for column in zip(*counts, strict=True)]
    return [[count for count, kept in zip(row, present, strict=True) if kept] for row in counts]


@pytest.fixture(scope="module")
def few_steps() -> Iterator[None]:
    """All steps would take a second for each design, and are not needed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dealing, "STEPS", 500)
        yield


@pytest.mark.usefixtures("few_steps")
@settings(max_examples=500, deadline=None, derandomize=True)
@given(designs(), st.sampled_from([None, 3]), st.integers(0, 2**32 - 1))
def test_clips_are_dealt_if_and_only_if_there_is_a_way(counts: list[list[int]], folds: int | None, seed: int) -> None:
    clips = make_clips(counts)
    if ways(counts, 3):
        parts = deal(clips, folds, seed)
        assert list(parts) == (["train", "validation", "test"] if folds is None else ["0", "1", "2"])
        assert_sound(clips, parts)
    else:
        with pytest.raises(UserError, match=r"folder\.folds.*folder\.group"):
            deal(clips, folds, seed)


# Where scikit-learn's greedy rule leaves a class out of a part, and the fewest changes to it are not the most balanced.
HARD = [[3, 4, 0], [3, 0, 0], [0, 3, 3], [0, 2, 0], [3, 5, 5], [0, 5, 5]]


@pytest.mark.parametrize(("folds", "shares"), [(None, [3, 1, 1]), (3, [1, 1, 1])])
def test_few_groups_are_dealt_in_the_most_balanced_way(folds: int | None, shares: list[int]) -> None:
    clips = make_clips(HARD)
    parts = deal(clips, folds, 0)
    assert_sound(clips, parts)
    part_of_group = {clips[number].group: part for part, numbers in enumerate(parts.values()) for number in numbers}
    way = tuple(part_of_group[group] for group in sorted(part_of_group))
    assert deviation(HARD, way, shares) == pytest.approx(min(deviation(HARD, other, shares) for other in ways(HARD, 3)))


@pytest.mark.parametrize(
    ("folds", "shares"), [(None, [3 / 5, 1 / 5, 1 / 5]), (3, [1 / 3] * 3), (5, [1 / 5] * 5), (10, [1 / 10] * 10)]
)
@pytest.mark.parametrize("each_alone", [True, False])
def test_an_ordinary_design_is_balanced(folds: int | None, shares: list[float], each_alone: bool) -> None:
    counts = np.random.default_rng(0).integers(2, 6, (40, 3))
    clips = make_clips(counts.tolist())
    if each_alone:
        clips = [clip._replace(group=clip.name) for clip in clips]
    parts = deal(clips, folds, 0)
    assert_sound(clips, parts)
    for share, numbers in zip(shares, parts.values(), strict=True):
        for label, total in enumerate(counts.sum(axis=0)):
            dealt = labels_of(clips, numbers).count(f"class {label}")
            assert abs(dealt - share * total) <= (1 if each_alone else 6)


@pytest.mark.parametrize("folds", [None, 5])
def test_the_seed_decides_who_is_in_which_part(folds: int | None) -> None:
    clips = make_clips([[3, 2]] * 20)
    assert deal(clips, folds, 0) == deal(clips, folds, 0)
    assert deal(clips, folds, 0) != deal(clips, folds, 1)


def test_a_class_too_rare_for_the_greedy_rule_is_dealt_among_many_groups() -> None:
    counts = np.random.default_rng(0).integers(1, 5, (300, 6))
    counts[:, 5] = 0
    counts[:3, 5] = 1
    clips = make_clips(counts.tolist())
    parts = deal(clips, None, 1)  # The greedy rule puts the rare class into two parts from this seed.
    assert_sound(clips, parts)
    assert len(parts["train"]) == pytest.approx(0.6 * len(clips), rel=0.02)
    assert len(parts["test"]) == pytest.approx(0.2 * len(clips), rel=0.02)


def test_a_class_in_too_few_groups_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    clips = make_clips([[1, 1], [1, 1], [9, 0]])
    for folds in (None, 3):
        message = refusal(clips, folds, capsys)
        assert "folder.folds" in message
        assert "class 1" in message
        assert "only 2 have it" in message
    assert "each part (0, 1, 2, 3)" in refusal(make_clips([[1]] * 3), 4, capsys)


def test_a_design_without_a_way_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    # Each class is in three groups, but no three groups hold all of both.
    clips = make_clips([[1, 0], [1, 0], [1, 1], [0, 1], [0, 1]])
    assert_sound(clips, deal(clips, 3, 0))
    clips = make_clips([[1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1]])
    assert "4 groups: no way was found to deal them into 3 parts" in refusal(clips, 3, capsys)


def test_a_way_is_found_for_many_classes_in_shared_groups(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    counts = np.zeros((100, 40), np.int64)
    for label in range(40):
        counts[random.permutation(100)[:6], label] = 1
    clips = make_clips(counts[counts.any(axis=1)].tolist())
    assert_sound(clips, deal(clips, 5, 0))
    monkeypatch.setattr(dealing, "STEPS", 0)
    assert "no way was found to deal them into 5 parts" in refusal(clips, 5, capsys)


def test_leave_one_group_out_makes_a_part_of_each_group_by_name() -> None:
    clips = make_clips([[1, 1], [2, 0], [1, 1], [0, 1]])
    parts = deal(clips[::-1], "leave_one_group_out", 0)
    assert list(parts) == ["0", "1", "2", "3"]
    assert [{clips[::-1][number].group for number in numbers} for numbers in parts.values()] == [
        {f"group 0{group}"} for group in range(4)
    ]


def test_leave_one_group_out_needs_each_class_in_what_is_trained_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert "needs 3 groups; there are 2" in refusal(make_clips([[1], [1]]), "leave_one_group_out", capsys)
    # Groups 3 and 0 are the last fold's.
    message = refusal(make_clips([[1, 1], [1, 0], [1, 0], [1, 1]]), "leave_one_group_out", capsys)
    assert "group 03" in message
    assert "class 1" in message
    deal(make_clips([[1, 1], [1, 0], [1, 1], [1, 0]]), "leave_one_group_out", 0)


def given_splits(*splits: str) -> list[ClipFile]:
    """Make a clip of each of two classes in each of these splits, each clip a group."""
    pairs = itertools.product(splits, ("bow", "wave"))
    return [clip(number, label, str(number), split) for number, (split, label) in enumerate(pairs)]


def test_given_splits_are_obeyed() -> None:
    clips = given_splits("test", "train", "validation", "train")
    assert deal(clips, None, 0) == {"train": [2, 3, 6, 7], "validation": [4, 5], "test": [0, 1]}


def test_a_fifth_of_the_train_groups_validates_where_no_row_says_so() -> None:
    clips = given_splits("test", *["train"] * 10)
    parts = deal(clips, None, 0)
    assert list(parts) == ["train", "validation", "test"]
    assert_sound(clips, parts)
    assert parts["test"] == [0, 1]
    assert sorted(labels_of(clips, parts["validation"])) == ["bow", "bow", "wave", "wave"]


def test_given_splits_that_cannot_be_used_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no row says test" in refusal(given_splits("train", "validation"), None, capsys)
    assert "no row says train" in refusal(given_splits("validation", "test"), None, capsys)
    for missing, split in enumerate(("train", "validation", "test")):
        clips = given_splits("train", "validation", "test")
        del clips[2 * missing]
        message = refusal(clips, None, capsys)
        assert f"no {split} row has the label bow" in message
    with pytest.raises(UserError, match=r"each part \(train, validation\) needs a group with class bow"):
        deal(given_splits("train", "test"), None, 0)
    for folds in (3, "leave_one_group_out"):
        with pytest.raises(UserError, match=r"folder\.folds: the manifest has a column split"):
            deal(given_splits("train", "test"), folds, 0)


def test_the_table_shows_thirty_groups_and_sums_up_the_rest() -> None:
    clips = [clip(0, "bow", "an\x1b[31m evil\ngroup"), *make_clips([[1, 2]] * 40)]
    lines = class_table(clips).splitlines()
    assert [line.split() for line in lines[-3:]] == [
        ["11", "more", "groups", "0", "11", "22"],
        ["clips", "1", "40", "80"],
        ["groups", "1", "40", "40"],
    ]
    assert len(lines) == 2 + 30 + 3
    assert all(line.isprintable() for line in lines)
