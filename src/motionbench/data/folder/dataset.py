"""Video files as a data set: listed, decoded, checked, dealt into splits or parts."""

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

from motionbench.core.errors import UserError
from motionbench.data.folder.cache import DecodedClip, decode_clips
from motionbench.data.folder.checks import misleading, refuse_copies, refuse_overlaps, warn_of_equal_pixels
from motionbench.data.folder.dealing import class_table, deal
from motionbench.data.folder.listing import list_clips
from motionbench.data.folder.params import FolderParams
from motionbench.data.params import DataParams, Preprocessing
from motionbench.data.splits import ClipRecord, DatasetInfo, NewDataset, NewSplit

TABLE_CLASSES = 20  # of which a table of classes and groups is printed


def read_folder(data: DataParams, section: FolderParams) -> NewDataset:
    """Decode all files, and return the data set, to be written: clips are in the order of their files' names.

    Raises:
        UserError: if a file is bad and `folder.on_bad` is refuse, if the same content is under two labels or in two
            parts, if all clips of a class are bad, if `folder` names a class that no clip has, or if a class or a group
            is too few for the parts.
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
    labels = [clip.file.label for clip in clips]
    if lost := {each.label for each in bad if each.label} - set(labels):
        raise UserError(
            f"{folder}: none of the clips of class {min(lost)} can be used, as listed above; fix one, or take the "
            "class out of the folder or the manifest"
        )
    refuse_copies(clips, "label", labels, "delete the files, or the rows of the manifest, with the wrong label")
    class_names = sorted(set(labels))
    if len(class_names) < 2:
        raise UserError(f"{folder}: {len(class_names)} classes with clips that can be used; at least 2 are needed")
    for change, swapped in section.label_maps().items():
        if unknown := sorted(swapped.keys() - set(class_names)):
            raise UserError(
                f"params.yaml: folder.{change}_labels: {unknown[0]} is not a class of the clips in {folder}; their "
                f"classes are {', '.join(class_names)}"
            )
    parts = deal([clip.file for clip in clips], section.folds, section.seed)
    one_group = "put them into one group: folder.group, or the manifest's column group"
    refuse_copies(clips, "part", parts, f"delete all but one, or {one_group}")
    refuse_overlaps(clips, parts, one_group)
    if len(class_names) <= TABLE_CLASSES and (section.group or len({clip.file.group for clip in clips}) < len(clips)):
        print(class_table([clip.file for clip in clips]))
    warnings, duplicates = misleading(clips, section.group), warn_of_equal_pixels(clips, parts)
    for warning in [*warnings, *([duplicates] if duplicates else [])]:
        print(f"warning: {warning}", file=sys.stderr)
    info = DatasetInfo(
        source="folder",
        folds=len(set(parts)) if section.folds else 0,
        resize=section.resize,
        seconds=median(clip.facts.seconds for clip in clips),
        warnings=warnings,
        skipped={each.name: each.reason for each in bad},
        label_maps=section.label_maps(),
        duplicates=duplicates,
    )
    of_part = {
        part: [clip for clip, its_part in zip(clips, parts, strict=True) if its_part == part] for part in set(parts)
    }
    return NewDataset(info, {part: _new_split(some, class_names) for part, some in of_part.items()})


def _new_split(clips: Sequence[DecodedClip], class_names: list[str]) -> NewSplit:
    return NewSplit(
        class_names,
        labels=np.array([class_names.index(clip.file.label) for clip in clips], np.int64),
        batches=(clip.read()[np.newaxis] for clip in clips),
        records=[ClipRecord(clip=clip.file.name, group=clip.file.group, **clip.facts._asdict()) for clip in clips],
    )
