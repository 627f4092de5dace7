"""What lies in a folder: clips, told by the endings of their names, and other files."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import product, starmap
from pathlib import Path
from typing import NoReturn
from unicodedata import normalize

SUFFIXES = (
    *(".3g2", ".3gp", ".asf", ".avi", ".divx", ".f4v", ".flv", ".gif", ".m2t", ".m2ts", ".m4v", ".mkv", ".mod", ".mov"),
    *(".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".npz", ".ogg", ".ogm", ".ogv", ".qt", ".tod", ".ts", ".vob"),
    *(".webm", ".wmv"),
)
"""Of clips in class folders. Cameras and programs put other files beside them, such as small copies (.lrv)."""
OTHER_VIDEOS = {".264", ".dv", ".h264", ".h265", ".hevc", ".m1v", ".m2v", ".mjpeg", ".mxf", ".rm", ".rmvb", ".y4m"}
PICTURES = {".bmp", ".heic", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
OF_SYSTEMS = {
    *("$recycle.bin", "@eadir", "__macosx", "lost+found", "system volume information", "thmbnl", "thumbnails"),
}
"""Folders that disks, archives and cameras add, as for what was deleted. `.dvcignore` has them, too."""
ENDINGS = 5  # in a message


def visible_below(folder: Path) -> list[Path]:
    """Return the files, folders and links below a folder, relative to it, sorted. Links are not followed.

    Names that begin with a dot, folders `OF_SYSTEMS`, and what is in such folders, are left out.

    Raises:
        OSError: if a folder cannot be read.
    """
    visible = list[Path]()
    for place, below, files in os.walk(folder, onerror=_raise):
        below[:] = [name for name in below if name.casefold() not in OF_SYSTEMS and not name.startswith(".")]
        here = Path(place).relative_to(folder)
        visible += [here / name for name in (*below, *files) if not name.startswith(".")]
    return sorted(visible)


def _raise(error: OSError) -> NoReturn:
    raise error  # A folder that cannot be read would be left out.


def spellings(path: Path) -> Iterator[Path]:
    """Yield a path, then it with parts in other Unicode forms, which keyboards, manifests and disks do not share."""
    forms = [dict.fromkeys((part, normalize("NFC", part), normalize("NFD", part))) for part in path.parts]
    return starmap(Path, product(*forms))


def counted(endings: Counter[str]) -> str:
    """Return how many files have each ending, the commonest first."""
    listed = [f"{count} {ending}" for ending, count in endings.most_common(ENDINGS)]
    return ", ".join(listed + [f"{endings.total()} in all"] * (len(endings) > ENDINGS))


def to_use(endings: Iterable[str]) -> str:
    """Return how files with these endings could become clips."""
    video = min(OTHER_VIDEOS.intersection(endings), default="")
    convert = f"; such videos must be converted: ffmpeg -i a{video} a.mp4" if video else ""
    pictures = not PICTURES.isdisjoint(endings)
    return convert + "; each clip is one file: frames as pictures must become a video" * pictures
