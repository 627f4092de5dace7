"""Deals clips into parts: no group is in two parts, and each class is in each, unless each group is one."""

import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from motionbench.core.errors import UserError, printable
from motionbench.data.folder.listing import ClipFile
from motionbench.data.folder.params import LEAVE_ONE_GROUP_OUT
from motionbench.data.folds import training_parts
from motionbench.data.splits import SPLITS

SHARES = {"train": 3, "validation": 1, "test": 1}
TRAIN_SHARES = {"train": 4, "validation": 1}  # where the test clips are given
TABLE_GROUPS = 30
FEW = 500  # groups x classes x parts for which a balanced way is searched for: a second
STEPS = 5000  # of that search


def deal(clips: Sequence[ClipFile], folds: int | str | None, seed: int) -> list[str]:
    """Return the name of each clip's part: train, validation or test; with folds 0, 1 and so on.

    Args:
        folds: the number of equal parts; or one part for each group; or, if None, the splits that the clips name, else
            three fifths for train, a fifth for validation and a fifth for test.
        seed: of the random draw.

    Raises:
        UserError: if a class would be missing from a part, or, with one part for each group, from what a fold trains
            on. A table of the classes and groups goes to stderr before.
    """
    if any(clip.split for clip in clips):
        if folds is not None:
            raise UserError("folder.folds: the manifest has a column split; set it to null, or delete the column")
        return _obey_splits(clips, seed)
    if folds == LEAVE_ONE_GROUP_OUT:
        return _leave_one_group_out(clips)
    return _deal_groups(clips, SHARES if folds is None else {str(part): 1 for part in range(int(folds))}, seed)


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


def _obey_splits(clips: Sequence[ClipFile], seed: int) -> list[str]:
    parts = [clip.split or "" for clip in clips]
    for split in ("train", "test"):
        if split not in parts:
            _refuse(clips, f"the manifest's column split: no row says {split}; add some, or delete the column")
    if "validation" not in parts:
        train = [clip for clip in clips if clip.split == "train"]
        dealt = iter(_deal_groups(train, TRAIN_SHARES, seed))
        parts = [next(dealt) if part == "train" else part for part in parts]
    for split in SPLITS:
        there = {clip.label for clip, part in zip(clips, parts, strict=True) if part == split}
        if missing := {clip.label for clip in clips} - there:
            _refuse(clips, f"the manifest's column split: no {split} row has the label {min(missing)}; add some")
    return parts


def _leave_one_group_out(clips: Sequence[ClipFile]) -> list[str]:
    groups = sorted({clip.group for clip in clips})
    if len(groups) < 3:
        _refuse(clips, f"folder.folds: leave_one_group_out needs 3 groups; there are {len(groups)}; see folder.group")
    for fold, tested in enumerate(groups):
        train, validation = training_parts(fold, len(groups))
        trained = {groups[part] for part in train}
        if missing := {clip.label for clip in clips} - {clip.label for clip in clips if clip.group in trained}:
            _refuse(
                clips,
                f"folder.folds: the fold that tests on group {tested} and validates on {groups[validation]} has no "
                f"clip of class {min(missing)} to train on; add some in other groups, or change folder.group",
            )
    return [str(groups.index(clip.group)) for clip in clips]


def _deal_groups(clips: Sequence[ClipFile], shares: Mapping[str, int], seed: int) -> list[str]:
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
    parts = _stratified(labels, groups, list(shares.values()), seed)
    if len({*zip(parts.tolist(), labels.tolist(), strict=True)}) < len(shares) * len(class_names):
        first_clips = np.unique(groups, return_index=True)[1]
        part_of_group = _search(counts, np.array(list(shares.values())), parts[first_clips])
        if part_of_group is None:
            _refuse(
                clips,
                f"folder.folds: {len(counts)} groups: no way was found to deal them into {len(shares)} parts with "
                "each class in each; "
                "add clips in other groups, or change folder.folds or folder.group",
            )
        parts = part_of_group[groups]
    return [list(shares)[part] for part in parts]


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


def _search(counts: NDArray[np.int64], shares: NDArray[np.int64], start: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Return each group's part, so that each class is in each part; None if no such way was found.

    A tabu search: each step moves the group whose move is the best, even if it is for the worse, and does not move it
    back soon. Of few groups the way is kept whose counts are closest to the shares, of many the first one.

    Args:
        counts: clips of each group in each class, shape (groups, classes).
        shares: of each part, shape (parts,).
        start: part of each group, shape (groups,).
    """
    random, numbers, way = np.random.default_rng(0), np.arange(len(counts)), start.copy()
    dealt = np.stack([counts[way == part].sum(axis=0) for part in range(len(shares))])
    targets = np.outer(shares / shares.sum(), counts.sum(axis=0))
    few = counts.size * len(shares) <= FEW
    weight = few / counts.sum() / 2  # Deviations together count less than a missing class.

    def cost(dealt: NDArray[np.int64], targets: NDArray[np.float64]) -> NDArray[np.float64]:
        costs: NDArray[np.float64] = ((dealt == 0) + weight * abs(dealt - targets)).sum(axis=-1)
        return costs

    found, least, tabu_until = None, np.inf, np.zeros((len(counts), len(shares)))
    for step in range(STEPS):
        costs = cost(dealt, targets)
        if dealt.all() and costs.sum() < least:
            found, least = way.copy(), costs.sum()
            if not few:
                break
        change = (cost(dealt[way] - counts, targets[way]) - costs[way])[:, np.newaxis]
        change = change + cost(dealt + counts[:, np.newaxis], targets) - costs
        change[numbers, way] = np.inf
        change[tabu_until > step] = np.inf
        group, part = random.choice(np.argwhere(change <= change.min() + 1e-9))  # sums differ in their last bits
        tabu_until[group, way[group]] = step + random.integers(3, 13)
        dealt[way[group]] -= counts[group]
        dealt[part] += counts[group]
        way[group] = part
    return found


def _refuse(clips: Sequence[ClipFile], reason: str) -> NoReturn:
    print(class_table(clips), file=sys.stderr)
    raise UserError(reason)
