"""Outputs: replaced whole or left as they were; YAML and JSON files; and the md5 that names a content."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from motionbench.core.errors import UserError


@contextmanager
def atomic_outputs(*outputs: Path) -> Iterator[list[Path]]:
    """Yield a place beside each of `outputs` to write it to; once the block succeeds, put all in their place.

    A path without a suffix means a folder, which is there and empty. If the block raises, `outputs` stay as they were
    and what was written is removed. A kill leaves each output whole, old or new, or for the moment between two
    renames of a folder absent; what it leaves beside them is removed the next time.
    """
    partial = [output.with_name(f".partial.{output.name}") for output in outputs]
    aside = [output.with_name(f".partial.old.{output.name}") for output in outputs]
    try:
        for new, old, output in zip(partial, aside, outputs, strict=True):
            _remove(new)
            _remove(old)
            (new.parent if output.suffix else new).mkdir(parents=True, exist_ok=True)
        yield partial
        for new, old, output in zip(partial, aside, outputs, strict=True):
            if output.is_dir():
                output.rename(old)  # A folder cannot be renamed onto another, and to empty it takes a while.
            new.replace(output)
    finally:
        for path in (*partial, *aside):
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, keys in the order given."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def file_md5(file: Path) -> str:
    """Return the md5 of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def file_md5s(path: Path) -> dict[str, str]:
    """Return the md5s of a file, or of all files of a folder in DVC's order, by their paths."""
    files = sorted(path.rglob("*"), key=lambda file: file.relative_to(path).as_posix()) if path.is_dir() else [path]
    return {file.as_posix(): file_md5(file) for file in files if file.is_file() and "__pycache__" not in file.parts}


def folder_md5(folder: Path) -> str:
    """Return the md5 under which DVC knows the content of `folder` (as in dvc.lock, ending in .dir)."""
    entries = [
        {"md5": md5, "relpath": Path(file).relative_to(folder).as_posix()} for file, md5 in file_md5s(folder).items()
    ]
    listing = json.dumps(entries, sort_keys=True).encode()
    return f"{hashlib.md5(listing, usedforsecurity=False).hexdigest()}.dir"


def path_md5(path: Path) -> str:
    """Return the md5 under which DVC knows a file or a folder."""
    return folder_md5(path) if path.is_dir() else file_md5(path)


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        UserError: if the file is missing or not readable.
    """
    try:
        return YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}: not readable as YAML: {error.problem}") from error
    except (YAMLError, ValueError, KeyError, RecursionError) as error:  # Some of YAML's tags raise what Python does.
        raise UserError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; run from the repository's root") from error
