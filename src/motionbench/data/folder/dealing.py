"""Deals clips into parts, so that no group is in two parts and each class is in each part."""

import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import LinearConstraint, milp
from scipy.sparse import block_array, csr_array, eye_array, kron
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from motionbench.core.errors import UserError, printable
from motionbench.data.folder.listing import SPLITS, ClipFile

SHARES = (3, 1, 1)  # of train, validation and test
TRAIN_SHARES = (4, 1)  # of train and validation, where the test clips are given
TABLE_GROUPS = 30
SMALL = 500  # groups x classes x parts for which the most balanced way is searched for: seconds
NODES = 1000  # of that search's tree, at most


def deal(clips: Sequence[ClipFile], folds: int | str | None, seed: int) -> dict[str, list[int]]:
    """Return the numbers of the clips in each part.

    The parts are train, validation and test. With folds they are 0, 1 and so on: fold i tests on part i, validates on
    the next part (the first, after the last), and trains on the rest.

    Args:
        folds: the number of equal parts, at least 3; or one part for each group; or, if None, the splits that the
            clips name, else three fifths for train, a fifth for validation and a fifth for test.
        seed: of the random draw.

    Raises:
        UserError: if a class would be missing from a part, or, with one part for each group, from what a fold trains
            on. A table of the classes and groups goes to stderr before.
    """
    given = any(clip.split for clip in clips)
    if given and folds is not None:
        raise UserError("folder.folds: the manifest has a column split; set it to null, or delete the column")
    if given:
        return _obey_splits(clips, seed)
    if isinstance(folds, str):
        return _leave_one_group_out(clips)
    if folds is None:
        return _deal_groups(clips, dict(zip(SPLITS, SHARES, strict=True)), seed)
    if folds < 3:
        raise UserError(
            f"folder.folds: {folds}; at least 3, since a fold trains, validates and tests on different parts"
        )
    return _deal_groups(clips, {str(part): 1 for part in range(folds)}, seed)


def class_table(clips: Sequence[ClipFile]) -> str:
    """Return how many clips of each class (columns) each group (rows) has, as text of at most 30 groups."""
    # A group's name may hold terminal codes, as a file's may.
    groups = [printable(clip.group) for clip in clips]
    table = pd.crosstab(pd.Series(groups, name="group"), pd.Series([clip.label for clip in clips], name="class"))
    shown = table.iloc[:TABLE_GROUPS].copy()
    if len(table) > TABLE_GROUPS:
        shown.loc[f"{len(table) - TABLE_GROUPS} more groups"] = table.iloc[TABLE_GROUPS:].sum()
    shown.loc["clips"] = table.sum()
    shown.loc["groups"] = (table > 0).sum()
    return shown.to_string(line_width=120)


def _obey_splits(clips: Sequence[ClipFile], seed: int) -> dict[str, list[int]]:
    parts = {split: [number for number, clip in enumerate(clips) if clip.split == split] for split in SPLITS}
    for split in ("train", "test"):
        if not parts[split]:
            _refuse(clips, f"the manifest's column split: no row says {split}; add some, or delete the column")
    if not parts["validation"]:
        train = parts["train"]
        shares = dict(zip(("train", "validation"), TRAIN_SHARES, strict=True))
        dealt = _deal_groups([clips[number] for number in train], shares, seed)
        parts |= {part: [train[index] for index in dealt[part]] for part in shares}
    for split, numbers in parts.items():
        missing = {clip.label for clip in clips} - {clips[number].label for number in numbers}
        if missing:
            _refuse(clips, f"the manifest's column split: no {split} row has the label {min(missing)}; add some")
    return parts


def _leave_one_group_out(clips: Sequence[ClipFile]) -> dict[str, list[int]]:
    groups = sorted({clip.group for clip in clips})
    if len(groups) < 3:
        _refuse(clips, f"folder.folds: leave_one_group_out needs 3 groups; there are {len(groups)}; see folder.group")
    labels = {clip.label for clip in clips}
    for number, tested in enumerate(groups):
        validated = groups[(number + 1) % len(groups)]
        missing = labels - {clip.label for clip in clips if clip.group not in (tested, validated)}
        if missing:
            _refuse(
                clips,
                f"folder.folds: the fold that tests on group {tested} and validates on {validated} has no "
                f"clip of class {min(missing)} to train on; add some in other groups, or change folder.group",
            )
    return {
        str(part): [number for number, clip in enumerate(clips) if clip.group == group]
        for part, group in enumerate(groups)
    }


def _deal_groups(clips: Sequence[ClipFile], shares: dict[str, int], seed: int) -> dict[str, list[int]]:
    """Deal whole groups into parts with about these shares of each class."""
    class_names, labels = np.unique([clip.label for clip in clips], return_inverse=True)
    groups = np.unique([clip.group for clip in clips], return_inverse=True)[1]
    counts = np.zeros((groups.max() + 1, len(class_names)), np.int64)  # clips of each group in each class
    np.add.at(counts, (groups, labels), 1)
    for name, holders in zip(class_names, (counts > 0).sum(axis=0), strict=True):
        if holders < len(shares):
            _refuse(
                clips,
                f"folder.folds: each part ({', '.join(shares)}) needs a group with class {name}, but only {holders} "
                "have it; add clips of it in other groups, or change folder.folds or folder.group",
            )

    part_of_clip = _stratified(labels, groups, list(shares.values()), seed)
    if not _covers(part_of_clip, labels, len(shares)):
        first_clips = np.unique(groups, return_index=True)[1]
        part_of_group = _search(counts, np.array(list(shares.values())), part_of_clip[first_clips])
        if part_of_group is None:
            _refuse(
                clips,
                f"folder.folds: {len(counts)} groups cannot be dealt into {len(shares)} parts with each class in each; "
                "add clips in other groups, or change folder.folds or folder.group",
            )
        part_of_clip = part_of_group[groups]
    return {name: np.flatnonzero(part_of_clip == part).tolist() for part, name in enumerate(shares)}


def _stratified(
    labels: NDArray[np.int64], groups: NDArray[np.int64], shares: list[int], seed: int
) -> NDArray[np.int64]:
    """Return each clip's part by scikit-learn's greedy rule, which may leave a class out of a part."""
    # With a group for each clip StratifiedGroupKFold would do the same, slowly.
    alone = groups.max() + 1 == len(groups)
    folds = min(sum(shares), int(np.bincount(labels).max()), int(groups.max()) + 1)  # It refuses more.
    splitter = (StratifiedKFold if alone else StratifiedGroupKFold)(folds, shuffle=True, random_state=seed)
    fold_of_clip = np.empty(len(labels), np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a class has fewer clips than there are folds
        for fold, (_, held_out) in enumerate(splitter.split(labels, labels, groups)):
            fold_of_clip[held_out] = fold
    return np.repeat(np.arange(len(shares)), shares)[fold_of_clip]


def _covers(parts: NDArray[np.int64], labels: NDArray[np.int64], count: int) -> bool:
    """Return whether each class is in each part."""
    return len(set(zip(parts.tolist(), labels.tolist(), strict=True))) == count * len(set(labels.tolist()))


def _search(counts: NDArray[np.int64], shares: NDArray[np.int64], start: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Return each group's part, so that each class is in each part; None if there is no way.

    Few groups are dealt so that the counts are as close to the shares as possible. That takes too long for many: of
    these as few clips as possible leave the parts in which they are at the start.

    Args:
        counts: clips of each group in each class, shape (groups, classes).
        shares: of each part, shape (parts,).
        start: part of each group, shape (groups,).
    """
    unknowns, each_part = len(counts) * len(shares), eye_array(len(shares))  # 1 where a group is in a part, 0 elsewhere
    in_one_part = kron(eye_array(len(counts)), np.ones((1, len(shares))))
    holders = kron(counts.T > 0, each_part)
    staying = counts.sum(axis=1, keepdims=True) * (start[:, np.newaxis] == np.arange(len(shares)))
    found = milp(
        -staying.ravel(),
        integrality=1,
        constraints=[LinearConstraint(in_one_part, 1, 1), LinearConstraint(holders, 1, np.inf)],
    ).x
    if found is None:
        return None
    if counts.size * len(shares) <= SMALL:
        targets = np.outer(counts.sum(axis=0), shares / shares.sum()).ravel()
        clips, deviations = kron(counts.T, each_part), eye_array(len(targets))
        closest = milp(
            np.repeat([0, 1], [unknowns, len(targets)]),
            integrality=np.repeat([1, 0], [unknowns, len(targets)]),
            constraints=[
                LinearConstraint(block_array([[in_one_part, csr_array((len(counts), len(targets)))]]), 1, 1),
                LinearConstraint(block_array([[holders, 0 * deviations]]), 1, np.inf),
                LinearConstraint(block_array([[clips, -deviations]]), -np.inf, targets),
                LinearConstraint(block_array([[clips, deviations]]), targets, np.inf),
            ],
            options={"node_limit": NODES},
        ).x
        found = found if closest is None else closest
    chosen: NDArray[np.int64] = found[:unknowns].reshape(len(counts), -1).argmax(axis=1)
    return chosen


def _refuse(clips: Sequence[ClipFile], reason: str) -> NoReturn:
    print(class_table(clips), file=sys.stderr)
    raise UserError(reason)
