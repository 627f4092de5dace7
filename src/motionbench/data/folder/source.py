"""Video files as clips of the workflow: listed, decoded, dealt into parts, written."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
from scipy.stats import chi2_contingency

from motionbench.core.errors import UserError, printable
from motionbench.core.files import write_json
from motionbench.data.decoding import Preprocessing
from motionbench.data.folder.dealing import deal
from motionbench.data.folder.decode_cache import DecodedClip, decode_clips
from motionbench.data.folder.duplicates import refuse_copies, warn_of_equal_pixels
from motionbench.data.folder.listing import list_clips
from motionbench.data.folder.params import FolderParams
from motionbench.data.params import DataParams
from motionbench.data.splits import FolderOf, SourceRecord, Write, clips_file

NAMED = 5  # clips in a warning
LEVEL = 0.001  # of the test whether a property of files goes with the class


def prepare(data: DataParams, section: FolderParams) -> Write:
    """Decode all files, and return the function that writes the clips of each part to its folder.

    It writes clips.npy, labels.npy, class_names.json and clips.csv, which has a row per clip: its file, its group, and
    what the file says about itself. Clips are in the order of their files' names.

    Raises:
        UserError: if a file is bad and `folder.on_bad` is refuse, if the same content is under two labels or in two
            parts, if `folder` names a class that no clip has, or if a class or a group is too few for the parts.
    """
    folder = Path(section.path)
    files, bad = list_clips(folder, section.manifest, section.group)
    preprocessing = Preprocessing(data.frames, data.height, data.width, data.colour, section.resize)
    clips, damaged = decode_clips(files, preprocessing, section.max_pixels)
    bad = sorted([*bad, *damaged])
    for each in bad:
        print(UserError(f"bad clip: {each.name}: {each.reason}"), file=sys.stderr)
    if bad and section.on_bad == "refuse":
        raise UserError(
            f"{folder}: {len(bad)} of {len(clips) + len(bad)} clips cannot be used, as listed above; fix or remove "
            "them, or leave them out: folder.on_bad: skip"
        )
    refuse_copies(clips, "label", [clip.file.label for clip in clips], "delete those with the wrong label")
    class_names = sorted({clip.file.label for clip in clips})
    if len(class_names) < 2:
        raise UserError(f"{folder}: {len(class_names)} classes with clips that can be used; at least 2 are needed")
    for change, labels in section.label_maps().items():
        if unknown := sorted(labels.keys() - set(class_names)):
            raise UserError(
                f"params.yaml: folder.{change}_labels: {unknown[0]} is not a class of the clips in {folder}; their "
                f"classes are {', '.join(class_names)}"
            )
    parts = deal([clip.file for clip in clips], section.folds, section.seed)
    part_of = {number: part for part, numbers in parts.items() for number in numbers}
    part_names = [part_of[number] for number in range(len(clips))]
    one_group = "put them into one group: folder.group, or the manifest's column group"
    refuse_copies(clips, "part", part_names, f"delete all but one, or {one_group}")
    warnings, duplicates = _warnings(clips), warn_of_equal_pixels(clips, part_names)
    for warning in [*warnings, *([duplicates] if duplicates else [])]:
        print(f"warning: {warning}", file=sys.stderr)

    def write(folder_of: FolderOf) -> SourceRecord:
        for part, numbers in parts.items():
            _write_part(folder_of(part), [clips[number] for number in numbers], class_names, data.clip_shape())
        return SourceRecord(
            source="folder",
            folds=len(parts) if section.folds else 0,
            resize=section.resize,
            seconds=median(clip.facts.seconds for clip in clips),
            warnings=warnings,
            skipped={each.name: each.reason for each in bad},
            label_maps=section.label_maps(),
            duplicates=duplicates,
        )

    return write


def _write_part(folder: Path, clips: Sequence[DecodedClip], class_names: Sequence[str], shape: tuple[int, ...]) -> None:
    with clips_file(folder, (len(clips), *shape)) as file:
        for clip in clips:
            file.write(clip.read().data)
    np.save(folder / "labels.npy", np.array([class_names.index(clip.file.label) for clip in clips], np.int64))
    write_json(folder / "class_names.json", list(class_names))
    rows = [{"clip": clip.file.name, "group": clip.file.group, **clip.facts._asdict()} for clip in clips]
    pd.DataFrame(rows).to_csv(folder / "clips.csv", index=False)


def _warnings(clips: Sequence[DecodedClip]) -> list[str]:
    """Return what may mislead a model or a reader, a sentence each without its full stop."""
    single = [clip.file.name for clip in clips if clip.facts.frames == 1]
    variable = [clip.file.name for clip in clips if clip.facts.variable_rate]
    return [
        *([f"{_names(single)}: one frame only, so that nothing moves"] if single else []),
        *([f"{_names(variable)}: the frame rate varies; frames are taken by time"] if variable else []),
        *_going_with_class(clips, "frame rates", lambda clip: f"{clip.facts.rate:.4g} per second"),
        *_going_with_class(clips, "frame sizes", lambda clip: f"{clip.facts.width}x{clip.facts.height}"),
    ]


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return printable(f"{', '.join(names[:NAMED])}{more}")


def _going_with_class(clips: Sequence[DecodedClip], what: str, value_of: Callable[[DecodedClip], str]) -> list[str]:
    """Return a warning if a property of the files differs between the classes by more than chance (chi-squared)."""
    labels = pd.Series([clip.file.label for clip in clips], name="label")
    table = pd.crosstab(pd.Series([value_of(clip) for clip in clips], name="value"), labels)
    if len(table) < 2 or chi2_contingency(table).pvalue >= LEVEL:
        return []
    commonest = ", ".join(f"{label} mostly {table[label].idxmax()}" for label in table)
    return [f"{what} go with the class ({commonest}), so that a model may tell the class by what they leave in a clip"]
