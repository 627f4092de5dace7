"""Copies among the clips: files of the same content, and others that decode to the same pixels."""

import hashlib
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from motionbench.core.errors import UserError, printable
from motionbench.data.folder.decode_cache import DecodedClip

NAMED = 5  # pairs in the warning


def refuse_copies(clips: Sequence[DecodedClip], what: str, values: Sequence[str], remedy: str) -> None:
    """Refuse clips that are the same piece of the same content, but differ in `what`.

    Args:
        what: "label" or "part", for the message.
        values: the label or the part of each clip.
        remedy: how to fix it, for the message.

    Raises:
        UserError: if there are any. Each content's clips go to stderr before, a line each.
    """
    copies: dict[Path, list[int]] = defaultdict(list)
    for number, clip in enumerate(clips):
        copies[clip.kept].append(number)
    refused = [numbers for numbers in copies.values() if len({values[number] for number in numbers}) > 1]
    for numbers in refused:
        listed = ", ".join(f"{clips[number].file.name} ({what} {values[number]})" for number in numbers)
        print(UserError(f"the same content: {listed}"), file=sys.stderr)
    if refused:
        raise UserError(f"folder.path: files of the same content differ in {what}, as listed above; {remedy}")


def warn_of_equal_pixels(clips: Sequence[DecodedClip], parts: Sequence[str]) -> str | None:
    """Return a warning, without its full stop, of clips that have the same pixels and are not copies; None without any.

    Args:
        parts: the part of each clip.
    """
    firsts: dict[bytes, int] = {}
    pairs: list[tuple[str, list[str]]] = []  # names of two clips, and what differs
    for number, clip in enumerate(clips):  # one by one: they may not fit into memory
        first = firsts.setdefault(hashlib.sha256(clip.read().data).digest(), number)
        if clips[first].kept != clip.kept:
            differs = {"labels": clips[first].file.label != clip.file.label, "parts": parts[first] != parts[number]}
            pairs.append(
                (f"{clips[first].file.name} and {clip.file.name}", [what for what in differs if differs[what]])
            )
    if not pairs:
        return None
    pairs.sort(key=lambda pair: len(pair[1]), reverse=True)
    named = [
        f"{names} ({' and '.join(what) + ' differ' if what else 'same label and part'})"
        for names, what in pairs[:NAMED]
    ]
    more = f" and {len(pairs) - NAMED} more pairs" if len(pairs) > NAMED else ""
    return printable(f"equal pixels from different files: {', '.join(named)}{more}")
