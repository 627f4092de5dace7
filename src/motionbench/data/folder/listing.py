"""Finds the clips of a folder: in class folders, or by a manifest."""

import csv
import math
import re
import sys
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

from motionbench.core.errors import UserError, one_line, printable
from motionbench.data.folder.contents import OTHER_VIDEOS, PICTURES, SUFFIXES, counted, spellings, to_use, visible_below
from motionbench.data.folder.params import plain_name
from motionbench.data.splits import SPLITS

REQUIRED_COLUMNS = ("path", "label")
OPTIONAL_COLUMNS = ("group", "split", "start", "end")
SPLIT_FOLDERS = ("train|training", "dev|eval|test|testing|val|valid|validation")  # as in train_set or Testing1
IN_MANIFEST = "list the clips in a CSV file with the columns path,label,split, and name it in folder.manifest"
Rows = dict[str, dict[str, str]]
"""By where a clip is named, for messages: what the folder or the manifest says of it, not checked yet."""


class ClipFile(NamedTuple):
    """A video file, or a piece of one, that is a clip.

    Attributes:
        path: the file.
        name: its path relative to the folder, followed by the times of a piece. A manifest may give it two labels,
            which `checks.refuse_copies` refuses.
        label: its class, as `plain_name` returns it.
        group: what must stay in one part, such as a person or a recording. By default the file itself.
        split: "train", "validation" or "test" where the manifest says so.
        start: where the piece begins, seconds.
        end: where the piece ends, seconds.
    """

    path: Path
    name: str
    label: str
    group: str
    split: str | None = None
    start: float | None = None
    end: float | None = None


class BadClip(NamedTuple):
    """What cannot be used as a clip: a file, a class folder or a row of the manifest, why, and its class if known."""

    name: str
    reason: str
    label: str = ""


def list_clips(folder: Path, manifest: str | None, group: str | None) -> tuple[list[ClipFile], list[BadClip]]:
    """Find the clips of a folder, and what cannot be used as one. Both lists are sorted by name.

    Without a manifest, each file in `folder/class-name`, at any depth, with one of `SUFFIXES` is a clip, unless
    `visible_below` leaves it out. How many other files there are, and which folders have only such and are no classes,
    goes to stderr.

    Args:
        manifest: the name of a CSV file in `folder` with the columns path, label and, optionally, group, split, start
            and end (seconds). Paths are relative to `folder`.
        group: a regular expression. What its one pair of parentheses matches in a clip's path is the clip's group.

    Raises:
        UserError: if there is no clip, if a class folder is empty or has pictures or `OTHER_VIDEOS` only, if class
            folders have the names of splits, or if the manifest as a whole or `group` is not valid.
    """
    pattern = None if group is None else _compile(group)
    expected = f"expected {folder / 'class-name' / 'clip.mp4'} (`make example-clips` draws some)"
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; {expected}")
    rows, bad = _read_class_folders(folder, expected) if manifest is None else _read_manifest(folder, manifest)
    if pattern and any("group" in row for row in rows.values()):
        raise UserError(
            f"folder.group: {folder / str(manifest)} has a column group already; set it to null, or delete the column"
        )

    clips: dict[str, ClipFile] = {}  # by origin
    split_given = any(row.get("split") for row in rows.values())
    origins: dict[tuple[Path, float, float | None, str], str] = {}
    for origin, row in rows.items():
        try:
            clip = _check(row, folder, pattern, split_given)
            first = origins.setdefault((clip.path.resolve(), clip.start or 0, clip.end, clip.label), origin)
            if first != origin:
                raise UserError(f"the same clip as {first}")
            clips[origin] = clip
        except UserError as error:
            bad.append(BadClip(origin, str(error), plain_name(row["label"])))

    splits = defaultdict(set)
    for clip in clips.values():
        splits[clip.group].add(clip.split or "")
    for origin, clip in list(clips.items()):
        if len(splits[clip.group]) > 1:
            names = " and ".join(sorted(splits[clip.group]))
            bad.append(BadClip(origin, f"group {clip.group} is in the splits {names}; it must be in one", clip.label))
            del clips[origin]
    # Names that are not UTF-8 could not be printed.
    bad = [each._replace(name=each.name.encode("utf-8", "backslashreplace").decode()) for each in bad]
    return sorted(clips.values(), key=lambda clip: clip.name), sorted(bad)


def _compile(group: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(normalize("NFC", group))
    except (re.error, RecursionError, OverflowError) as error:
        raise UserError(f"folder.group: {group} is not a regular expression ({one_line(error)}); correct it") from error
    if pattern.groups != 1:
        raise UserError(
            f"folder.group: {group} has {pattern.groups} groups; put one pair of parentheses around what names the "
            "group, such as (person[0-9]+), and write others as (?:...)"
        )
    return pattern


def _read_class_folders(folder: Path, expected: str) -> tuple[Rows, list[BadClip]]:
    """Return a row for each file in a class folder, and for each link to a folder, which DVC does not follow."""
    visible = visible_below(folder)
    folders = {path for path in visible if (folder / path).is_dir() and not (folder / path).is_symlink()}
    classes = {path.name for path in folders if len(path.parts) == 1}
    if {_split_of(name) for name in classes} >= {*SPLIT_FOLDERS}:
        raise UserError(
            f"{folder}: its folders {', '.join(sorted(classes))} would be the classes; for given splits {IN_MANIFEST}; "
            "for classes without split"
        )
    rows, bad, others = {}, [], defaultdict[str, Counter[str]](Counter)  # other files: endings by class folder
    for path in visible:
        name, ending = path.as_posix(), path.suffix.lower()
        if path in folders:
            continue
        if ending not in SUFFIXES and not (folder / path).is_dir():
            others[path.parts[0]][ending or "without an ending"] += 1
        elif len(path.parts) > 1 or (folder / path).is_dir():
            rows[name] = {"path": name, "label": path.parts[0]}
        else:
            bad.append(BadClip(name, f"lies in no class folder; {expected}"))
    found = sum(others.values(), Counter[str]())
    without = sorted(classes - {row["label"] for row in rows.values()})
    if not rows:
        listed = [f"{len(bad)} clips in no class folder"] * bool(bad) + [counted(found)] * bool(found)
        raise UserError(f"{folder}: no clips{', but ' * bool(listed)}{', '.join(listed)}; {expected}{to_use(found)}")
    for name in without:
        if not others[name].keys() - PICTURES - OTHER_VIDEOS:
            raise UserError(
                f"{folder / name}: an empty class: {counted(others[name]) or 'no files'}; put clips there, or "
                f"take it out of {folder}{to_use(others[name])}"
            )
    if found:
        none = f"; no classes, since they have no clips: {', '.join(without)}" if without else ""
        text = f"{folder}: files that are no clips: {counted(found)}{none}{to_use(found.keys() & OTHER_VIDEOS)}"
        print(printable(f"warning: {text}"), file=sys.stderr)
    below = sorted(path for path in folders if len(path.parts) == 2 and _split_of(path.name))
    if len({_split_of(path.name) for path in below}) > 1:
        text = f"the splits that folders below the classes name, such as {below[0].as_posix()}, are not used"
        print(printable(f"warning: {folder}: {text}; to use them, {IN_MANIFEST}"), file=sys.stderr)
    return rows, bad


def _split_of(name: str) -> str | None:
    """Return which of `SPLIT_FOLDERS` the name of a folder is, if any."""
    end = r"[\W_]*(set|data|split)?[\W_]*\d*"
    return next((names for names in SPLIT_FOLDERS if re.fullmatch(f"({names}){end}", name.casefold())), None)


def _read_manifest(folder: Path, manifest: str) -> tuple[Rows, list[BadClip]]:
    path = folder / manifest
    if path.name != manifest:
        raise UserError(f"folder.manifest: {manifest} must be the name of a file in {folder}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            numbered = [(reader.line_num, [cell.strip() for cell in line]) for line in reader]
    except PermissionError:
        raise
    except (csv.Error, OSError, ValueError) as error:
        why = one_line(getattr(error, "strerror", error))
        raise UserError(
            f"folder.manifest: {path}: not readable as CSV in UTF-8 ({why}); write or correct it, or set it to null"
        ) from error
    (_, header), *lines = [(number, line) for number, line in numbered if any(line)] or [(0, [])]
    columns, known = [*filter(None, header)], (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS)
    if not set(REQUIRED_COLUMNS) <= set(columns) <= set(known) or len(set(columns)) < len(columns):
        raise UserError(
            f"{path}: the first line names the columns {one_line(','.join(columns)) or '(none)'}; it must name path "
            "and label, may name group, split, start and end, each once, separated by commas"
        )
    if not lines:
        raise UserError(f"{path}: no rows; add a row for each clip")
    rows, bad = {}, []
    for number, line in lines:
        origin = f"{manifest} line {number}"
        if len(line) == len(header):
            row = {column: cell for column, cell in zip(header, line, strict=True) if column}
            rows[f"{origin} ({row['path']})"] = row
        else:
            bad.append(BadClip(origin, f"{len(line)} fields, but the first line has {len(header)}"))
    return rows, bad


def _check(row: dict[str, str], folder: Path, pattern: re.Pattern[str] | None, split_given: bool) -> ClipFile:
    """Return the clip of a row.

    Raises:
        UserError: saying why there is none, but not where.
    """
    relative = Path(row["path"])
    if relative.is_absolute() or ".." in relative.parts:
        raise UserError("leads out of the folder; give a path relative to it, without ..")
    with suppress(OSError):
        relative = next((each for each in spellings(relative) if (folder / each).is_file()), relative)
    path, root = folder / relative, folder.resolve()
    real = _real_file(path, root)
    name = relative.as_posix()
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise UserError("its name is not UTF-8; rename it") from error

    label, split, group = plain_name(row["label"]), row.get("split", "").casefold(), row.get("group")
    if not label:
        raise UserError("no label")
    if len(label) > 100 or not label.isprintable():
        raise UserError("the class's name must have 1 to 100 printable characters")
    if split_given and split not in SPLITS:
        raise UserError(f"split {split or '(none)'}; expected {', '.join(SPLITS)} in each row, or in none")
    if group is None and pattern is not None:
        match = pattern.search(normalize("NFC", name))
        group = plain_name(match[1] or "") if match else None
        if not group:
            raise UserError(f"folder.group: {pattern.pattern} does not match its path")
    elif group is None:
        group = real.relative_to(root).as_posix()  # A file under two names is one group.
    elif not (group := plain_name(group)):
        raise UserError("no group; other rows have one")

    start, end = _seconds("start", row), _seconds("end", row)
    if end is not None:
        start = start or 0.0
        if start >= end:
            raise UserError(f"start {start:.10g} is not before end {end:.10g}")
        name += f" {start:.10g}-{end:.10g} s"
    elif start is not None:
        name += f" {start:.10g} s to the end"
    return ClipFile(path, name, label, group, split or None, start, end)


def _real_file(path: Path, root: Path) -> Path:
    try:
        real = path.resolve(strict=True)
        is_file = real.is_file()
    except FileNotFoundError as error:
        windows = "; write / for each \\" if "\\" in str(path) else ""
        raise UserError("a link to what is missing" if path.is_symlink() else f"no such file{windows}") from error
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a link to itself, in Python 3.11 and 3.12.
        raise UserError(f"not readable ({one_line(error)})") from error
    if not real.is_relative_to(root):
        raise UserError("a link out of the folder; copy the file")
    if not is_file:
        raise UserError("not a file, or a link to a folder, which DVC does not follow; move the folder itself there")
    return real


def _seconds(column: str, row: dict[str, str]) -> float | None:
    text = row.get(column, "")
    try:
        seconds = float(text) if text else None
    except ValueError:
        seconds = math.nan
    if seconds is not None and not 0 <= seconds < math.inf:
        raise UserError(f"{column} {text} is not a time in seconds")
    return seconds
