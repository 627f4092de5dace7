"""What is wrong with the clips of a folder together: copies of one another, or files that give their class away."""

import math
import sys
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import chi2_contingency

from motionbench.core.errors import UserError, printable
from motionbench.data.folder.cache import DecodedClip

NAMED = 5  # clips, or pairs of them, in a warning
BINS = 4  # of rates or sizes that are nearly all different
LEVEL = 0.001  # of the test whether a property of files goes with the class


def refuse_copies(clips: Sequence[DecodedClip], what: str, values: Sequence[str], remedy: str) -> None:
    """Refuse clips that are the same piece of the same content, but differ in `what`.

    Args:
        what: "label" or "part", for the message.
        values: the label or the part of each clip.
        remedy: how to fix it, for the message.

    Raises:
        UserError: if there are any. Each content's clips go to stderr before, a line each.
    """
    copies: dict[object, list[tuple[str, str]]] = defaultdict(list)  # by content, names with values
    for clip, value in zip(clips, values, strict=True):
        copies[clip.kept].append((clip.file.name, value))
    refused = [named for named in copies.values() if len({value for _, value in named}) > 1]
    for named in refused:
        listed = ", ".join(f"{name} ({what} {value})" for name, value in named)
        print(UserError(f"the same content: {listed}"), file=sys.stderr)
    if refused:
        raise UserError(f"folder.path: files of the same content differ in {what}, as listed above; {remedy}")


def refuse_overlaps(clips: Sequence[DecodedClip], parts: Sequence[str], remedy: str) -> None:
    """Refuse clips of one file, or of copies of it, that have frames in common, but are in two parts.

    Args:
        parts: the part of each clip.
        remedy: how to fix it, for the message.

    Raises:
        UserError: if there are any. Each pair goes to stderr before, a line each.
    """
    pieces: dict[str, list[tuple[float, float, str, str]]] = defaultdict(list)
    for clip, part in zip(clips, parts, strict=True):
        start, end = clip.file.start or 0.0, math.inf if clip.file.end is None else clip.file.end
        pieces[clip.content].append((start, end, clip.file.name, part))
    refused = False
    for of_file in pieces.values():
        running: list[tuple[float, float, str, str]] = []
        for piece in sorted(of_file):
            running = [other for other in running if other[1] > piece[0]]
            for *_, name, part in (other for other in running if other[3] != piece[3]):
                print(
                    UserError(f"the same frames: {name} (part {part}), {piece[2]} (part {piece[3]})"), file=sys.stderr
                )
                refused = True
            running.append(piece)
    if refused:
        raise UserError(f"folder.path: pieces that overlap are in two parts, as listed above; {remedy}")


def warn_of_equal_pixels(clips: Sequence[DecodedClip], parts: Sequence[str]) -> str | None:
    """Return a warning, without its full stop, of clips that have the same pixels and are not copies; None without any.

    Args:
        parts: the part of each clip.
    """
    firsts: dict[str, tuple[DecodedClip, str]] = {}
    pairs: list[tuple[list[str], str]] = []  # what differs, and the names of two clips
    for clip, part in zip(clips, parts, strict=True):
        first, its_part = firsts.setdefault(clip.pixels, (clip, part))
        if first.kept != clip.kept:
            differs = {"labels": first.file.label != clip.file.label, "parts": its_part != part}
            pairs.append(([what for what in differs if differs[what]], f"{first.file.name} and {clip.file.name}"))
    pairs.sort(key=lambda pair: -len(pair[0]))
    named = [
        f"{names} ({' and '.join(what) + ' differ' if what else 'same label and part'})"
        for what, names in pairs[:NAMED]
    ]
    more = f" and {len(pairs) - NAMED} more pairs" if len(pairs) > NAMED else ""
    return printable(f"equal pixels from different files: {', '.join(named)}{more}") if pairs else None


def misleading(clips: Sequence[DecodedClip], group: str | None) -> list[str]:
    """Return warnings of what may mislead a model or a reader, each without its full stop.

    Args:
        group: the expression that gave the groups, if one did.
    """
    table = pd.DataFrame([{**clip.file._asdict(), **clip.facts._asdict()} for clip in clips])
    named = {
        "one frame only, so that nothing moves": table["name"][table["frames"] == 1],
        "the frame rate varies; frames are taken by time": table["name"][table["variable_rate"]],
    }
    warnings = []
    for what, names in named.items():
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        if len(names):
            warnings.append(printable(f"{', '.join(names[:NAMED])}{more}: {what}"))
    for what, found in (("classes", set(table["label"])), ("groups", set(table["group"]) - set(table["name"]))):
        spellings = defaultdict(list)
        for name in sorted(found):
            spellings[name.casefold()].append(name)
        if alike := [" and ".join(names) for names in spellings.values() if len(names) > 1]:
            warnings.append(printable(f"{what} that differ in upper and lower case only: {', '.join(alike[:NAMED])}"))
    if group and table.groupby("group")["label"].nunique().max() == 1:
        warnings.append(
            f"folder.group: {printable(group)}: each group has clips of one class; where people or places are in "
            "several classes, it must match the same in each, and not the class folder"
        )
    sizes = table["width"].astype(str) + "x" + table["height"].astype(str)
    proportions = table["width"] / table["height"]
    properties = {
        "frame rates": (table["rate"].map("{:.4g} per second".format), table["rate"], " per second"),
        "frame sizes": (sizes, table["width"] * table["height"] / 1000, " thousand pixels"),
        "frame proportions (width / height)": (proportions.map("{:.3g}".format), proportions, ""),
    }
    for what, (values, numbers, unit) in properties.items():
        # Too few of each for the test; sizes of one area have no ranges.
        if values.nunique() > max(BINS, len(values) / 5) and numbers.min() < numbers.max():
            bins = np.ceil(numbers.rank(pct=True) * BINS)  # Equal numbers are in one, and others beside it.
            ends = zip(*(numbers.groupby(bins).transform(end) for end in ("min", "max")), strict=True)
            values = pd.Series([" to ".join(dict.fromkeys(f"{end:.4g}" for end in pair)) + unit for pair in ends])
        counts = pd.crosstab(values, table["label"])
        if len(counts) > 1 and chi2_contingency(counts).pvalue < LEVEL:
            commonest = ", ".join(f"{label} mostly {counts[label].idxmax()}" for label in counts)
            warnings.append(
                f"{what} go with the class ({commonest}), so that a model may tell the class by what they leave in a "
                "clip"
            )
    return warnings
