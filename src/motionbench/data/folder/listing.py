"""Finds the clips of a folder: in class folders, or by a manifest."""

import csv
import math
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from motionbench.core.errors import UserError, one_line

SPLITS = ("train", "validation", "test")
REQUIRED_COLUMNS = ("path", "label")
OPTIONAL_COLUMNS = ("group", "split", "start", "end")


class ClipFile(NamedTuple):
    """A video file, or a piece of one, that is a clip.

    Attributes:
        path: the file.
        name: its path relative to the folder, followed by the times of a piece; unique.
        label: its class.
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
    """What cannot be used as a clip: a file, a class folder or a row of the manifest, and why."""

    name: str
    reason: str


class _Entry(NamedTuple):
    """A clip as the folder or the manifest names it, not checked yet. Empty strings are what is not given."""

    origin: str  # for messages
    path: str
    label: str
    group: str | None = None  # None: there is no column group
    split: str = ""
    start: str = ""
    end: str = ""


def list_clips(folder: Path, manifest: str | None, group: str | None) -> tuple[list[ClipFile], list[BadClip]]:
    """Find the clips of a folder, and what cannot be used as one. Both lists are sorted by name.

    Without a manifest, each file in `folder/class-name`, at any depth, is a clip. Names that begin with a dot are
    ignored.

    Args:
        manifest: the name of a CSV file in `folder` with the columns path, label and, optionally, group, split, start
            and end (seconds). Paths are relative to `folder`.
        group: a regular expression. What its one pair of parentheses matches in a clip's path is the clip's group.

    Raises:
        UserError: if there is no clip, if the manifest as a whole is not valid, or if `group` is not valid.
    """
    pattern = None if group is None else _compile(group)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; {_expected(folder)}")
    listed = _read_class_folders(folder) if manifest is None else _read_manifest(folder, manifest, pattern)
    found = list(listed)
    if not found:
        raise UserError(f"{folder}: no clips; {_expected(folder)}")

    clips: dict[str, ClipFile] = {}  # by origin
    bad = [entry for entry in found if isinstance(entry, BadClip)]
    entries = [entry for entry in found if isinstance(entry, _Entry)]
    split_given = any(entry.split for entry in entries)
    root = folder.resolve()
    origins: dict[tuple[Path, float, float | None, str], str] = {}
    for entry in entries:
        try:
            clip = _check(entry, folder, root, pattern, split_given)
            first = origins.setdefault((clip.path.resolve(), clip.start or 0, clip.end, clip.label), entry.origin)
            if first != entry.origin:
                raise UserError(f"the same clip as {first}")
            clips[entry.origin] = clip
        except UserError as error:
            bad.append(BadClip(entry.origin, str(error)))

    splits = defaultdict(set)
    for clip in clips.values():
        splits[clip.group].add(clip.split or "")
    for origin, clip in list(clips.items()):
        if len(splits[clip.group]) > 1:
            names = " and ".join(sorted(splits[clip.group]))
            bad.append(BadClip(origin, f"group {clip.group} is in the splits {names}; it must be in one"))
            del clips[origin]
    # Names that are not UTF-8 could not be printed.
    bad = [BadClip(name.encode("utf-8", "backslashreplace").decode(), reason) for name, reason in bad]
    return sorted(clips.values(), key=lambda clip: clip.name), sorted(bad)


def _expected(folder: Path) -> str:
    return f"expected {folder / 'class-name' / 'clip.mp4'} (`make example-clips` draws some)"


def _compile(group: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(group)
    except (re.error, RecursionError, OverflowError) as error:
        raise UserError(f"folder.group: {group} is not a regular expression ({one_line(error)}); correct it") from error
    if pattern.groups != 1:
        raise UserError(
            f"folder.group: {group} has {pattern.groups} groups; put one pair of parentheses around what names the "
            "group, such as (person[0-9]+), and write others as (?:...)"
        )
    return pattern


def _read_class_folders(folder: Path) -> Iterator[_Entry | BadClip]:
    for class_folder in _visible(folder):
        if not class_folder.is_dir():
            yield BadClip(class_folder.name, f"lies in no class folder; {_expected(folder)}")
            continue
        paths = [path.relative_to(folder).as_posix() for path in _walk(class_folder)]
        if not paths:
            yield BadClip(class_folder.name, "an empty class; put clips into it, or delete it")
        for path in paths:
            yield _Entry(path, path, class_folder.name)


def _walk(folder: Path) -> Iterator[Path]:
    """Yield what lies in a folder at any depth, and links to folders as they are, since DVC does not follow them."""
    if folder.is_symlink():
        yield folder
        return
    for path in _visible(folder):
        if path.is_dir():
            yield from _walk(path)
        else:
            yield path


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _read_manifest(folder: Path, manifest: str, pattern: re.Pattern[str] | None) -> Iterator[_Entry | BadClip]:
    path = folder / manifest
    if Path(manifest).name != manifest:
        raise UserError(f"folder.manifest: {manifest} must be the name of a file in {folder}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            rows = [(reader.line_num, row) for row in reader if row]
    except FileNotFoundError as error:
        raise UserError(f"folder.manifest: {path}: no such file; write it, or set folder.manifest to null") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8; save it as CSV in UTF-8") from error
    except (csv.Error, OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as CSV ({one_line(error)}); correct it") from error

    columns = rows[0][1] if rows else []
    known = (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS)
    if not set(REQUIRED_COLUMNS) <= set(columns) <= set(known) or len(set(columns)) < len(columns):
        raise UserError(
            f"{path}: the first line names the columns {one_line(','.join(columns)) or '(none)'}; it must name path "
            "and label, may name group, split, start and end, each once, separated by commas"
        )
    if len(rows) == 1:
        raise UserError(f"{path}: no rows; add a row for each clip")
    if pattern is not None and "group" in columns:
        raise UserError(f"folder.group: {path} has a column group already; set it to null, or delete the column")

    for line, row in rows[1:]:
        origin = f"{manifest} line {line}"
        if len(row) == len(columns):
            values = dict(zip(columns, row, strict=True))
            yield _Entry(f"{origin} ({values['path']})", **values)
        else:
            yield BadClip(origin, f"{len(row)} fields, but the first line names {len(columns)} columns")


def _check(entry: _Entry, folder: Path, root: Path, pattern: re.Pattern[str] | None, split_given: bool) -> ClipFile:
    """Return the clip of an entry.

    Raises:
        UserError: saying why there is none, but not where.
    """
    relative = PurePosixPath(entry.path)
    if relative.is_absolute() or ".." in relative.parts:
        raise UserError("leads out of the folder; give a path relative to it, without ..")
    path = folder / relative
    real = _real_file(path, root)
    name = relative.as_posix()
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise UserError("its name is not UTF-8; rename it") from error

    if not entry.label.strip():
        raise UserError("no label")
    if len(entry.label) > 100 or not entry.label.isprintable():
        raise UserError("the class's name must have 1 to 100 printable characters")
    if split_given and entry.split not in SPLITS:
        raise UserError(f"split {entry.split or '(none)'}; expected {', '.join(SPLITS)} in each row, or in none")

    group = entry.group
    if group is None and pattern is not None:
        match = pattern.search(name)
        group = match[1] if match else None
        if not group:
            raise UserError(f"folder.group: {pattern.pattern} does not match its path")
    elif group is None:
        group = real.relative_to(root).as_posix()  # A file under two names is one group.
    elif not group:
        raise UserError("no group; other rows have one")

    start, end = _seconds("start", entry.start), _seconds("end", entry.end)
    if end is not None:
        start = start or 0.0
        if start >= end:
            raise UserError(f"start {start:.10g} is not before end {end:.10g}")
        name += f" {start:.10g}-{end:.10g} s"
    elif start is not None:
        name += f" {start:.10g} s to the end"
    return ClipFile(path, name, entry.label, group, entry.split or None, start, end)


def _real_file(path: Path, root: Path) -> Path:
    try:
        real = path.resolve(strict=True)
        is_file = real.is_file()
    except FileNotFoundError as error:
        raise UserError("a link to what is missing" if path.is_symlink() else "no such file") from error
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a link to itself, in Python 3.11 and 3.12.
        raise UserError(f"not readable ({one_line(error)})") from error
    if not real.is_relative_to(root):
        raise UserError("a link out of the folder; copy the file")
    if not is_file:
        raise UserError("not a file, or a link to a folder, which DVC does not follow; move the folder itself there")
    return real


def _seconds(column: str, text: str) -> float | None:
    try:
        seconds = float(text) if text else None
    except ValueError:
        seconds = math.nan
    if seconds is not None and not 0 <= seconds < math.inf:
        raise UserError(f"{column} {text} is not a time in seconds")
    return seconds
