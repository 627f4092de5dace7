"""A folder of clips looked at without training: what is in it, and an experiment that suits it."""

import csv
import json
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from io import StringIO
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from unicodedata import normalize

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from motionbench.comparison.similarity import FRAMES_SEEN, NEIGHBOURS, SIDE_SEEN, find_copies, look_at, nearest
from motionbench.core.errors import UserError, printable
from motionbench.core.files import read_yaml
from motionbench.core.paths import BACKBONES, EXPERIMENTS, PARAMS
from motionbench.data.decoding import MAX_PIXELS
from motionbench.data.folder.cache import DecodedClip, decode_clips
from motionbench.data.folder.checks import misleading, refuse_copies, refuse_overlaps
from motionbench.data.folder.dealing import deal
from motionbench.data.folder.listing import REQUIRED_COLUMNS, BadClip, ClipFile, list_clips
from motionbench.data.folder.params import plain_name
from motionbench.data.params import Preprocessing
from motionbench.models.registry import CONTENDERS, CONTROLS, reads_features

LOOK = Preprocessing(frames=FRAMES_SEEN, height=SIDE_SEEN, width=SIDE_SEEN, colour="rgb", resize="stretch")
SCENE_LEVELS = 6  # of 255: how far the mean pictures of one scene are apart, at most
COLOUR_LEVELS = 4  # of 255, between the channels of a pixel: grey videos have less
COUNTERS = {"c", "clip", "img", "mov", "movie", "part", "seq", "take", "v", "vid", "video"}  # words before numbers
SHOWN = 10  # rows of a table
FRAMES, FRAMES_A_SECOND = (8, 20), 6  # of a clip
PIXELS, SIDES = 48 * 48, (24, 192)  # of a frame
UNEVEN = 1.5  # times as many clips in one class as in another

SUITABLE = {
    "cnn_lstm": "a CNN for each frame, and an LSTM over them",
    "convlstm": "convolutions inside the LSTM; the slowest",
    "cnn3d": "kernels over neighbouring frames; learns from few clips",
    "pretrained_lstm": "what changes in the features of the backbone in data/backbone, in order",
    "pretrained_linear": "a logistic regression of these features",
    "pretrained_bag": "the control of these two",
}
"""The models to switch on, each with its reason; those that read features where there is a backbone."""


class Grouping(NamedTuple):
    """What names the groups of clips: a value of `folder.group`, or None for a manifest's column or the files."""

    pattern: str | None
    groups: list[str]  # of each clip
    folds: int | None


class Inspection(NamedTuple):
    """What is in a folder of clips."""

    path: str
    manifest: str | None
    clips: list[DecodedClip]
    bad: list[BadClip]
    groupings: list[Grouping]  # the best first
    alike: list[tuple[str, str]]  # names of clips that look the same
    scenes: list[int]  # the number of each clip's scene
    colour: bool


def inspect_folder(folder: Path) -> Inspection:
    """Decode all files of a folder, and find out what an experiment needs to know.

    Raises:
        UserError: if no experiment is possible: no folder, fewer than two classes with clips that can be used, classes
            with too few clips for parts, or the same content in two classes.
    """
    here, there = Path.cwd(), folder.resolve()
    path = there.relative_to(here) if there.is_relative_to(here) else there
    if not str(path).isprintable():
        raise UserError(f"FOLDER: {path}: a name that params.yaml cannot hold; rename it, with letters that print")
    manifest = None
    for table in sorted(filter(Path.is_file, folder.glob("*.csv"))):
        with table.open(encoding="utf-8-sig", errors="replace") as file, suppress(csv.Error):
            if set(REQUIRED_COLUMNS) <= {cell.strip() for cell in next(csv.reader(file), [])}:
                if manifest:
                    raise UserError(f"{folder}: {manifest} and {table.name} both list clips; join them, or move one")
                manifest = table.name
    files, bad = list_clips(folder, manifest, None)
    clips, damaged = decode_clips(files, LOOK, MAX_PIXELS)
    bad = sorted([*bad, *damaged])
    labels = [clip.file.label for clip in clips]
    lost = {each.label for each in bad if each.label} - set(labels)
    if lost or len(set(labels)) < 2:
        none = f", and none of class {min(lost)}" if lost else ""
        instead = f"; {len(bad)} cannot, such as {bad[0].name}: {bad[0].reason}" if bad else ""
        raise UserError(
            f"{folder}: {len(clips)} clips of {len(set(labels))} classes can be used{none}; an experiment needs at "
            f"least 2 classes, and clips of each; add some, or take the class out{instead}"
        )
    refuse_copies(clips, "label", labels, "delete the files, or the rows of the manifest, with the wrong label")
    groupings = [] if manifest else find_groupings([clip.file for clip in clips])
    if not groupings:
        given = [clip.file for clip in clips]
        folds = None if any(file.split for file in given) else _most_folds(given)
        groupings = [Grouping(None, [file.group for file in given], folds)]
    clips = [
        clip._replace(file=clip.file._replace(group=group))
        for clip, group in zip(clips, groupings[0].groups, strict=True)
    ]
    parts = deal([clip.file for clip in clips], groupings[0].folds, 0)  # as `generate` deals them
    refuse_copies(clips, "part", parts, "delete all but one")
    refuse_overlaps(clips, parts, "put them into one group: the manifest's column group")
    alike, scenes, colour = _look_at(clips)
    return Inspection(path.as_posix(), manifest, clips, bad, groupings, alike, scenes, colour)


def find_groupings(files: Sequence[ClipFile]) -> list[Grouping]:
    """Return how names can group the clips so that they can be dealt into folds, the most plausible first.

    Tried are folders in the class folders; words with a number, such as person01; all but a number at the end; and each
    word but the last. It is more plausible that a group has clips of several classes.
    """
    stems = [file.path.stem for file in files]
    word = r"(?:^|[_ .-])([A-Za-z]+-?)[0-9]+"
    words = set.intersection(*(set(re.findall(word, stem)) for stem in stems))
    patterns = [
        "^[^/]+/([^/]+)/",
        *(f"[/_ .-]({each}[0-9]+)" for each in sorted(words) if each.lower().rstrip("-") not in COUNTERS),
        "/([^/]+)[_ -][0-9]+[.]",
        *(f"/{'[^/_ -]+[_ -]' * before}([^/_ -]+)[_ -][^/]*$" for before in range(4)),
    ]
    found: list[tuple[float, Grouping]] = []
    for pattern in patterns:
        matches = [re.search(pattern, normalize("NFC", file.name)) for file in files]
        groups = [*filter(None, (plain_name(match[1]) for match in matches if match))]
        known = any(groups == other.groups for _, other in found)
        if known or len(groups) < len(files) or len(set(groups)) > len(files) / 2:
            continue
        grouped = [file._replace(group=group) for file, group in zip(files, groups, strict=True)]
        if folds := _most_folds(grouped):
            pairs = {(file.group, file.label) for file in grouped}
            found.append((len(pairs) / len(set(groups)), Grouping(pattern, groups, folds)))
    found.sort(key=lambda each: each[0] < 1.5)  # classes in a group, on average
    return [grouping for _, grouping in found]


def _most_folds(files: Sequence[ClipFile]) -> int | None:
    for folds in (5, 4, 3):
        try:
            with redirect_stderr(StringIO()):
                deal(files, folds, 0)
        except UserError:
            continue
        return folds
    return None


def _look_at(clips: Sequence[DecodedClip]) -> tuple[list[tuple[str, str]], list[int], bool]:
    """Return the pairs that look the same, the number of each clip's scene, and whether there is colour."""
    looks = look_at(clip.read() for clip in clips)
    alike = [(clips[one].file.name, clips[other].file.name) for one, other in find_copies(looks)]
    means = looks.mean(axis=(1, -1), dtype=np.float32).reshape(len(clips), -1)
    numbers, levels = nearest(means, NEIGHBOURS)
    first, place = np.nonzero(levels <= SCENE_LEVELS)
    edges = coo_array((np.ones(len(first)), (first, numbers[first, place])), shape=(len(clips), len(clips)))
    colourful = np.ptp(looks, axis=-1).mean(axis=(1, 2, 3)) > COLOUR_LEVELS
    return alike, connected_components(edges, directed=False)[1].tolist(), bool(colourful.mean() > 0.5)


def print_inspection(found: Inspection) -> None:
    """Print what is in the folder as tables, of the terminal's width, or 80 columns where there is none."""
    console = Console(highlight=False, markup=False)
    classes = []
    for label, count in sorted(Counter(clip.file.label for clip in found.clips).items()):
        of_class = [clip for clip in found.clips if clip.file.label == label]
        facts = [clip.facts for clip in of_class]
        (size, _), *others = Counter(f"{each.width}x{each.height}" for each in facts).most_common()
        groups = {clip.file.group for clip in of_class}
        ranges = [_range([each.seconds for each in facts]), _range([each.rate for each in facts])]
        size += f" and {len(others)} more" * bool(others)
        classes.append((label, str(count), str(len(groups)), *ranges, size))
    _print_rows(console, "class", "clips", "groups", "seconds", "frames a second", "frame size", rows=classes)
    groupings = [
        (each.pattern, str(len(set(each.groups))), _range([*Counter(each.groups).values()]), each.groups[0])
        for each in found.groupings
        if each.pattern
    ]
    _print_rows(console, "what names suggest as groups", "groups", "clips in each", "such as", rows=groupings)
    _print_rows(console, "looks the same", "as", rows=found.alike)
    _print_rows(console, "cannot be used", "why", rows=[(each.name, each.reason) for each in found.bad])
    console.print(
        f"{len(found.clips)} clips can be used, {len(found.bad)} cannot. By their mean pictures they show "
        f"{len(set(found.scenes))} scenes, of which the commonest has {max(Counter(found.scenes).values())} clips."
    )
    for warning in misleading(found.clips, found.groupings[0].pattern):
        console.print(f"warning: {warning}")


def _print_rows(console: Console, *headings: str, rows: Sequence[tuple[str, ...]]) -> None:
    table = Table(box=SIMPLE, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows[:SHOWN]:
        table.add_row(*map(printable, row))
    if rows:
        console.print(table)
    if rows[SHOWN:]:
        console.print(f"and {len(rows) - SHOWN} more\n")


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.4g}", f"{max(values):.4g}"
    return low if low == high else f"{low} to {high}"


def suggest_experiment(found: Inspection) -> str:
    """Return the text of an experiment that suits the clips: values that differ from params.yaml, with reasons."""
    facts = [clip.facts for clip in found.clips]
    seconds, aspect = median(each.seconds for each in facts), median(each.width / each.height for each in facts)
    frames = min(max(round(FRAMES_A_SECOND * seconds), FRAMES[0]), FRAMES[1])
    best, scenes = found.groupings[0], len(set(found.scenes))
    alone = f"names suggest none, and pictures {scenes} scenes; persons or places with several clips need names"
    given = "the manifest's column group; without one each file is a group"
    named = f"{len(set(best.groups))} groups, such as {printable(best.groups[0])}; correct it if they mean nothing"
    counts = [*Counter(clip.file.label for clip in found.clips).values()]
    rare = max(counts) > UNEVEN * min(counts)
    uneven = len({round(each.width / each.height, 1) for each in facts}) > 1
    learns, backbone = read_yaml(EXPERIMENTS / "folder.yaml"), any(BACKBONES.glob("[!.]*.keras"))
    pixels = PIXELS * 4 if backbone else PIXELS  # networks from pixels see means of 2x2
    colours = "rgb if they tell classes, or a backbone sees them" if found.colour else "most clips have none"
    folds = "each clip is tested, and no group is in two parts" if best.folds else "too few for folds"
    folds = "the manifest says train or test" if any(clip.file.split for clip in found.clips) else folds
    suggested: dict[str, dict[str, tuple[Any, str]]] = {
        "data": {
            "source": ("folder", ""),
            "frames": (frames, f"of clips of {seconds:.3g} s; more for fast movements"),
            "height": (_side((pixels / aspect) ** 0.5), "more for finer movements; time grows with the pixels"),
            "width": (_side((pixels * aspect) ** 0.5), f"proportions {aspect:.3g} : 1, as most files have"),
            "colour": ("rgb" if backbone and found.colour else "grey", colours),
        },
        "folder": {
            "path": (found.path, ""),
            "manifest": (found.manifest, ""),
            "group": (best.pattern, given if found.manifest else named if best.pattern else alone),
            "folds": (best.folds, folds),
            "resize": ("crop", "black bars would show the proportions") if uneven else ("pad", "all are alike"),
            "on_bad": ("skip", "what cannot be used is left out") if found.bad else ("refuse", "all can be used"),
            **{f"{change}_labels": (None, "") for change in ("reversed", "flipped", "mirrored")},
        },
        "training": {"class_weights": ("balanced" if rare else "none", f"classes have {_range(counts)} clips")},
    }
    lines = ["# Suggested by `make inspect` from the files; correct what you know better (docs/own-clips.md)."]
    for section, values in suggested.items():
        lines.append(f"{section}:")
        lines += [f"  {key}: {_yaml(value)}{f' # {why}' if why else ''}" for key, (value, why) in values.items()]
        if section == "training":
            lines += [f"  {key}: {_yaml(value)}" for key, value in learns.get(section, {}).items() if key not in values]
    known = read_yaml(PARAMS)
    suitable = {name: SUITABLE[name] for name in SUITABLE if not reads_features(name) or backbone}
    for model in (*CONTENDERS, *CONTROLS):
        settings = learns.get(model, {}) | ({"downsample": 2} if backbone and "downsample" in known[model] else {})
        if "enabled" in known[model]:
            settings["enabled"] = model in suitable
        if settings:
            lines.append(f"{model}:{f' # {suitable[model]}' if model in suitable else ''}")
            lines += [f"  {key}: {_yaml(value)}" for key, value in settings.items()]
    for section in ("tuning", "gate"):  # searches around the values above
        lines += [f"{section}:", *(f"  {key}: {_yaml(value)}" for key, value in learns.get(section, {}).items())]
    return "\n".join(lines) + "\n"


def _side(pixels: float) -> int:
    return 4 * round(min(max(pixels, SIDES[0]), SIDES[1]) / 4)


def _yaml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)  # JSON is YAML
