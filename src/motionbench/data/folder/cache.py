"""Video files decoded in parallel, each once: clips are kept by the content of their file, outside DVC's outputs."""

import hashlib
import json
import os
import time
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from motionbench.core.errors import UserError, is_of_the_system
from motionbench.core.files import file_md5
from motionbench.core.inputs import code_md5s, file_stamps, inputs_digest
from motionbench.core.paths import DECODED, repository_root
from motionbench.data.decoding import Facts, decode_clip
from motionbench.data.folder.listing import BadClip, ClipFile
from motionbench.data.params import Preprocessing
from motionbench.execution.engine import EventCallback, local_engine, run_tasks
from motionbench.execution.progress import clip_progress

KEPT = 30 * 24 * 3600  # after the last use, in seconds
DAMAGES = (OSError, EOFError, KeyError, RuntimeError, TypeError, ValueError, zipfile.BadZipFile)


class DecodedClip(NamedTuple):
    """A clip that is kept in a file of its own."""

    file: ClipFile
    kept: Path  # the same for all copies: it follows from the content, the piece, and how it is decoded
    facts: Facts
    pixels: str  # their digest
    content: str  # md5 of the file

    def read(self) -> NDArray[np.uint8]:
        """Return the clip, shape (frames, height, width, channels).

        Raises:
            UserError: if its file is damaged.
        """
        try:
            with np.load(self.kept, allow_pickle=False) as archive:
                clip: NDArray[np.uint8] = archive["clip"]
        except DAMAGES as error:
            self.kept.unlink(missing_ok=True)
            raise UserError(f"{self.kept}: damaged, and deleted; run the command again") from error
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
    now = time.time()
    tasks = [partial(_decode, file, preprocessing, max_pixels, code, folder, now) for file in files]
    started: list[str] = []  # names
    with local_engine() as engine, clip_progress("generate", len(files), "clips decoded") as show:

        def on_start(name: str) -> None:
            started.append(name)
            show()

        try:
            results = run_tasks(engine, tasks, 1, on_start)
        except UserError as error:
            last = ", ".join(started[-engine.slots(1) :])
            raise UserError(f"the last files to be read were {last}: {error}") from error
    for kept in folder.iterdir():  # of other files, other sizes or other code
        with suppress(FileNotFoundError):  # Another process may rename or remove it meanwhile.
            if kept.stat().st_mtime < now - KEPT:
                kept.unlink()
    clips = [each for each in results if isinstance(each, DecodedClip)]
    return clips, [each for each in results if isinstance(each, BadClip)]


@cache
def _content(path: Path, _now: float, *_stamps: tuple[int, int]) -> str:
    """Return a file's md5. It is read once for all its pieces that a process decodes."""
    return file_md5(path)


def _decode(
    file: ClipFile,
    preprocessing: Preprocessing,
    max_pixels: int,
    code: Mapping[str, str],
    folder: Path,
    now: float,
    on_event: EventCallback,
) -> DecodedClip | BadClip:
    """Return the clip that is kept of the same content, decoded in the same way by the same code, or decode it."""
    on_event(file.name)
    try:
        before = file_stamps([file.path])
        content = _content(file.path, now, *before.values())
        piece = {"start": file.start or 0, "end": file.end, "max_pixels": max_pixels, "ffmpeg": av.library_versions}
        kept = folder / f"{inputs_digest({**piece, **preprocessing._asdict()}, {**code, 'clip': content})}.npz"
        try:
            with kept.open("rb") as file_kept, np.load(file_kept, allow_pickle=False) as archive:
                known, pixels = json.loads(archive["facts"].item())
            kept.touch()  # It was used.
            return DecodedClip(file, kept, Facts(*known), pixels, content)
        except DAMAGES:
            pass  # new or damaged
        clip, facts = decode_clip(file.path, preprocessing, start=file.start, end=file.end, max_pixels=max_pixels)
        if file_stamps([file.path]) != before:
            raise UserError("changed while it was decoded; run the command again")
    except UserError as error:
        return BadClip(file.name, str(error), file.label)
    except OSError as error:
        if is_of_the_system(error) and not isinstance(error, PermissionError):
            raise  # It says nothing of this file.
        return BadClip(file.name, f"not readable ({error.strerror})", file.label)
    pixels = hashlib.sha256(clip.tobytes()).hexdigest()
    new = kept.with_suffix(f".{os.getpid()}.partial")  # Another process may be decoding a copy of the file.
    try:
        with new.open("wb") as stream:
            np.savez(stream, clip=clip, facts=np.array(json.dumps([facts, pixels])))
        new.replace(kept)
    finally:
        new.unlink(missing_ok=True)
    return DecodedClip(file, kept, facts, pixels, content)
