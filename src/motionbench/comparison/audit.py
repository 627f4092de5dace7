"""The leak audit of a folder of video files: what could tell the class without motion, and whether it does."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest

from motionbench.comparison.intervals import Right
from motionbench.comparison.pairs import Comparison
from motionbench.comparison.similarity import compare_neighbours, find_copies, look_at
from motionbench.core.errors import UserError, printable
from motionbench.core.paths import CLIPS
from motionbench.data.folds import held_out_folder, join, training_folders
from motionbench.data.splits import REDRAW, DatasetInfo, part_folders, read_clip_table, read_split
from motionbench.models.registry import MODELS

METADATA = ("frames", "rate", "seconds", "width", "height", "aspect", "variable_rate", "audio")
LEVEL = 0.05  # of each test for groups that nobody named
MOST_PAIRS = 4  # of clips that look alike, to show
Fold = tuple[pd.DataFrame, pd.DataFrame]
"""The clips to train and to test with: the columns of `ClipRecord`, the label, and the aspect ratio."""


class Shown(NamedTuple):
    """A clip to show."""

    name: str
    class_name: str
    frame: NDArray[np.uint8]  # shape (height, width, channels)


class AuditCheck(NamedTuple):
    """What one check of the audit found."""

    check: str
    sees: str
    accuracy: float | None  # on the test clips; None if nothing is classified
    reference: float | None  # what the accuracy is compared with
    fires: bool
    sentence: str  # without its full stop
    pairs: Sequence[Sequence[Shown]] = ()  # of clips that look alike, to show


def audit(controls: Sequence[Comparison], right: Mapping[str, Right], dataset: DatasetInfo) -> list[AuditCheck]:
    """Check what could tell the class of a folder's clips without motion. Clips of another data set are not checked.

    Args:
        controls: the most accurate contender compared with each control.
        right: by model, whether each prediction is right, shape (seeds, clips).
        dataset: of the clips.

    Raises:
        UserError: if a table of the clips is missing or damaged.
    """
    if dataset.source != "folder":
        return []
    folds = [
        (_read_clips(training_folders(fold)[:-1]), _read_clips([held_out_folder(fold)]))
        for fold in dataset.fold_numbers()
    ]
    return [
        *(audit_control(pair, right) for pair in controls),
        *audit_files(folds, dataset.resize),
        AuditCheck(
            "duplicates", "decoded pixels", None, None, dataset.duplicates is not None, dataset.duplicates or "none"
        ),
        audit_groups(right, folds),
        *audit_looks([part for folder in CLIPS for part in part_folders(folder)]),
    ]


def summarise_audit(findings: Sequence[AuditCheck]) -> str:
    """Say which checks fire, and what that means."""
    firing = [finding for finding in findings if finding.fires]
    if not firing:
        return "Leak audit: nothing fires."
    *others, last = [finding.check for finding in firing]
    names = f"{', '.join(others)} and {last} fire" if others else f"{last} fires"
    return f"Leak audit: {names}. {' '.join(f'{finding.check}: {finding.sentence}.' for finding in firing)}"


def audit_control(pair: Comparison, right: Mapping[str, Right]) -> AuditCheck:
    """Check whether a contender is shown to be better than a control, which cannot see motion."""
    sees = MODELS[pair.second].sees
    low, high = (pair.recipes or pair.networks).interval
    sentence = (
        f"seeing {sees} {'is not' if pair.first_leads else 'may be'} enough, since {pair.first} is "
        f"{'' if pair.first_leads else 'not shown to be '}better ({pair.difference:+.3f}, 95 % interval {low:+.3f} to "
        f"{high:+.3f}{'' if pair.testable else '; there are too few groups to show any difference'})"
    )
    accuracy, reference = (float(right[name].mean()) for name in (pair.second, pair.first))
    return AuditCheck(pair.second, sees, accuracy, reference, not pair.first_leads, sentence)


def audit_files(folds: Sequence[Fold], resize: str) -> list[AuditCheck]:
    """Check whether a random forest tells the class by what the files say about themselves.

    It is trained and tested on the clips that the models are trained and tested on. It fires if the exact 95 % interval
    of its accuracy lies above the share of the commonest class. The interval takes clips for independent, since an
    audit had better fire too often than too rarely.

    Args:
        resize: how a video of another shape becomes a clip. If by "pad", there is a second check, of the black bars.
    """
    metadata, column = _classify("metadata", METADATA, folds)
    tells = f"tells the class, mostly {column}: record or convert the clips of all classes in the same way"
    sentence = f"what files say about themselves {tells if metadata.fires else 'is not shown to tell the class'}"
    findings = [metadata._replace(sentence=sentence)]
    if resize == "pad":
        padding, _ = _classify("padding", ("aspect",), folds)
        tells = "tell the class; to hide them, set folder.resize to crop or stretch"
        sentence = (
            "the black bars that folder.resize: pad adds show the proportions of a video, and these "
            f"{tells if padding.fires else 'are not shown to tell the class'}"
        )
        if len(set(pd.concat([test for _, test in folds])["aspect"])) == 1:
            sentence = "all clips have the same proportions"
        findings.append(padding._replace(sentence=sentence))
    return findings


def audit_groups(right: Mapping[str, Right], folds: Sequence[Fold]) -> AuditCheck:
    """Check whether a model is right less often than guessing.

    A model that recognises the scenes of its training clips says their class. Where each scene has clips of several
    classes, and clips of one scene are in several parts, it is wrong of most clips that it is tested on.

    It fires if no groups are named, and the one-sided exact test, with Bonferroni's correction, shows an accuracy below
    what guessing reaches: the share of the rarest class, or, if it is lower, that of the class that is the commonest in
    training. Of a fold that tests on a single clip this is often another class.

    Args:
        right: by model, whether each prediction is right, shape (seeds, clips).
    """
    clips = pd.concat([test for _, test in folds])
    labels = clips["label"].to_numpy()
    name, least = min(((name, float(each.mean())) for name, each in right.items()), key=lambda pair: pair[1])
    commonest = sum(int((test["label"] == train["label"].mode()[0]).sum()) for train, test in folds)
    guessed = min(int(np.unique(labels, return_counts=True)[1].min()), commonest) / len(labels)
    test = binomtest(round(least * len(labels)), len(labels), guessed, alternative="less")
    unnamed = clips["group"].is_unique
    fires = bool(unnamed and test.pvalue * len(right) < LEVEL)
    sentence = (
        f"{name} is right less often than guessing: your clips may have groups that you did not name, such as a scene "
        "with clips of several classes; name them in folder.group"
    )
    silent = "none is missed" if unnamed else "groups are named"
    return AuditCheck("groups", "below guessing", least, guessed, fires, sentence if fires else silent)


def audit_looks(folders: Sequence[Path]) -> list[AuditCheck]:
    """Check whether clips of different parts are copies, and whether clips that look alike differ in class too often.

    The second fires if no groups are named, and the test of `compare_neighbours`, with Bonferroni's correction, shows
    it of the clips' backgrounds, which are the medians over time, or of their mean colours.

    Args:
        folders: all splits or parts.
    """
    splits, clips = [read_split(folder) for folder in folders], _read_clips(folders)
    names, labels, split = clips["clip"], clips["label"].to_numpy(), join(splits)
    parts = np.repeat(range(len(splits)), [len(each.labels) for each in splits])
    looks = look_at(clip for each in splits for clip in each.clips)

    def show(pairs: Sequence[tuple[int, int]]) -> list[list[Shown]]:
        spread = pairs[:: max(1, len(pairs) // MOST_PAIRS)][:MOST_PAIRS]
        return [
            [Shown(names[each], split.class_names[labels[each]], split.clips[each : each + 1][0, 0]) for each in pair]
            for pair in spread
        ]

    copies = [(one, other) for one, other in find_copies(looks) if parts[one] != parts[other]]
    sentence = "no clips of different parts look and move the same"
    if copies:
        such = printable(" and ".join(names[list(copies[0])]))
        sentence = (
            f"{len(copies)} pairs of clips of different parts look and move the same, such as {such}: delete one of "
            "each, or put them into one group"
        )
    findings = [AuditCheck("copies", "small frames", None, None, bool(copies), sentence, show(copies))]
    if clips["group"].is_unique:
        descriptions = np.median(looks, axis=1), looks.mean(axis=(1, 2, 3))
        tests = [compare_neighbours(each.reshape(len(looks), -1), labels) for each in descriptions]
        found = min(tests, key=lambda each: each.p_value)
        fires, mutual = found.p_value * len(tests) < LEVEL, []
        sentence = "clips that look alike are not shown to differ in class"
        if fires:
            nearest = found.nearest[:, 0].tolist()
            mutual = [
                (one, other)
                for one, other in enumerate(nearest)
                if one < other and nearest[other] == one and labels[one] != labels[other]
            ]
            sentence = (
                "clips that look alike differ in class more often than by chance: your clips may have groups that you "
                "did not name, such as a person or a scene with clips of several classes; name them in folder.group"
            )
        findings.append(
            AuditCheck("scenes", "nearest clips", found.same_class, found.chance, fires, sentence, show(mutual))
        )
    return findings


def _classify(check: str, columns: Sequence[str], folds: Sequence[Fold]) -> tuple[AuditCheck, str]:
    """Return what a random forest finds in these columns, without a sentence, and the column that it uses most."""
    from sklearn.ensemble import RandomForestClassifier  # imported late, and slow: only folders need it

    right, importances = 0, np.zeros(len(columns))
    for train, test in folds:
        seen, unseen = (clips[list(columns)].astype(float) for clips in (train, test))
        forest = RandomForestClassifier(random_state=0).fit(seen, train["label"])
        right += int((forest.predict(unseen) == test["label"]).sum())
        importances += forest.feature_importances_
    labels = pd.concat([test["label"] for _, test in folds])
    commonest = float(labels.value_counts(normalize=True).max())
    fires = binomtest(right, len(labels)).proportion_ci().low > commonest
    sees = ", ".join(columns).replace("_", " ")
    return AuditCheck(check, sees, right / len(labels), commonest, fires, ""), columns[int(importances.argmax())]


def _read_clips(folders: Sequence[Path]) -> pd.DataFrame:
    table = read_clip_table(folders)
    if table is None:
        raise UserError(f"{folders[0] / 'clips.csv'}: missing; {REDRAW}")
    aspect = (table["width"] / table["height"]).round(2)  # Finer differences are less than a pixel in a clip.
    return table.assign(aspect=aspect, label=np.concatenate([read_split(folder).labels for folder in folders]))
