"""Outputs that are replaced whole or left as they were, and the md5 that names their content."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replaced_whole(*folders: Path) -> Iterator[list[Path]]:
    """Yield an empty folder beside each of `folders`; once the block succeeds, put them in their place.

    If the block raises, `folders` stay as they were and the new ones are removed.
    """
    partial = [folder.with_name(f".{folder.name}.partial") for folder in folders]
    try:
        for folder in partial:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        yield partial
        for new, folder in zip(partial, folders, strict=True):
            shutil.rmtree(folder, ignore_errors=True)
            new.rename(folder)
    finally:
        for folder in partial:
            shutil.rmtree(folder, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, keys in the order given."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def folder_md5(folder: Path) -> str:
    """Return the md5 under which DVC knows the content of `folder` (as in dvc.lock, ending in .dir)."""
    entries = []
    for file in sorted(folder.rglob("*"), key=lambda file: file.relative_to(folder).parts):
        if file.is_file():
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False))
            entries.append({"md5": digest.hexdigest(), "relpath": file.relative_to(folder).as_posix()})
    listing = json.dumps(entries, sort_keys=True).encode()
    return f"{hashlib.md5(listing, usedforsecurity=False).hexdigest()}.dir"
