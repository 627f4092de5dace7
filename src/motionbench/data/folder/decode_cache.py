"""Video files decoded in parallel, each once: clips are kept by the content of their file, outside DVC's outputs."""

import json
import os
import time
import zipfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from motionbench.core.errors import UserError
from motionbench.core.files import file_md5
from motionbench.core.inputs import code_md5s, inputs_digest, written
from motionbench.core.paths import DECODED, repository_root
from motionbench.data.decoding import Facts, Preprocessing, decode_clip
from motionbench.data.folder.listing import BadClip, ClipFile
from motionbench.execution.engine import EventCallback, local_engine, run_tasks
from motionbench.execution.progress import clip_progress

MOST_AT_ONCE = 8  # clips of a task
DAY = 24 * 3600
KEPT = 30 * DAY  # after the last use, in seconds


class DecodedClip(NamedTuple):
    """A clip that is kept in a file of its own."""

    file: ClipFile
    kept: Path  # the same for all copies: it follows from the content, the piece, and how it is decoded
    facts: Facts

    def read(self) -> NDArray[np.uint8]:
        """Return the clip, shape (frames, height, width, channels)."""
        with np.load(self.kept, allow_pickle=False) as archive:
            clip: NDArray[np.uint8] = archive["clip"]
        return clip


def decode_clips(
    files: Sequence[ClipFile], preprocessing: Preprocessing, max_pixels: int
) -> tuple[list[DecodedClip], list[BadClip]]:
    """Decode all files, as many at once as there are cores, and return the clips and what could not be decoded.

    Raises:
        UserError: if a process that decodes is killed.
    """
    folder = repository_root() / DECODED
    folder.mkdir(exist_ok=True)
    code = code_md5s("core", "data")
    started: list[str] = []  # names
    with local_engine() as engine, clip_progress(len(files)) as show:
        slots = engine.slots(1)
        size = max(1, min(MOST_AT_ONCE, len(files) // (4 * slots)))
        tasks = [
            partial(_decode_some, files[first : first + size], preprocessing, max_pixels, code, folder)
            for first in range(0, len(files), size)
        ]

        def on_start(name: str) -> None:
            started.append(name)
            show()

        try:
            results = [each for some in run_tasks(engine, tasks, 1, on_start) for each in some]
        except UserError as error:
            raise UserError(f"the last files to be read were {', '.join(started[-slots:])}: {error}") from error
    _remove_unused(folder)
    clips = [each for each in results if isinstance(each, DecodedClip)]
    return clips, [each for each in results if isinstance(each, BadClip)]


def _decode_some(
    files: Sequence[ClipFile], preprocessing: Preprocessing, max_pixels: int, code: Mapping[str, str], folder: Path,
    on_event: EventCallback,
) -> list[DecodedClip | BadClip]:  # fmt: skip
    results: list[DecodedClip | BadClip] = []
    for file in files:
        on_event(file.name)
        try:
            results.append(_decode(file, preprocessing, max_pixels, code, folder))
        except UserError as error:
            results.append(BadClip(file.name, str(error)))
    return results


def _decode(
    file: ClipFile, preprocessing: Preprocessing, max_pixels: int, code: Mapping[str, str], folder: Path
) -> DecodedClip:
    """Return the clip that is kept of the same content, decoded in the same way by the same code, or decode it.

    Raises:
        UserError: with the reason why it cannot be decoded.
    """
    try:
        before = written([file.path])
        content = file_md5(file.path)
    except OSError as error:
        raise UserError(f"not readable ({error.strerror})") from error
    piece = {"start": file.start or 0, "end": file.end, "max_pixels": max_pixels, "ffmpeg": av.library_versions}
    kept = folder / f"{inputs_digest({**piece, **preprocessing._asdict()}, {**code, 'clip': content})}.npz"
    try:
        with kept.open("rb") as kept_file, np.load(kept_file, allow_pickle=False) as archive:
            archive["clip"]  # compares its checksum
            if kept.stat().st_mtime < time.time() - DAY:
                os.utime(kept)  # It was used.
            return DecodedClip(file, kept, Facts(*json.loads(archive["facts"].item())))
    except (OSError, EOFError, KeyError, RuntimeError, TypeError, ValueError, zipfile.BadZipFile):
        pass  # new or damaged
    clip, facts = decode_clip(file.path, preprocessing, start=file.start, end=file.end, max_pixels=max_pixels)
    if written([file.path]) != before:
        raise UserError("changed while it was decoded; run the command again")
    new = kept.with_suffix(f".{os.getpid()}.partial")  # Another process may be decoding a copy of the file.
    try:
        with new.open("wb") as stream:
            np.savez(stream, clip=clip, facts=np.array(json.dumps(facts)))
        new.replace(kept)
    finally:
        new.unlink(missing_ok=True)
    return DecodedClip(file, kept, facts)


def _remove_unused(folder: Path) -> None:
    """Remove the clips that no run has used for a month: of other files, other sizes or other code."""
    for kept in folder.iterdir():
        if kept.stat().st_mtime < time.time() - KEPT:
            kept.unlink(missing_ok=True)
