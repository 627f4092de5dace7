"""Atomic outputs, YAML and JSON files, and md5s as DVC computes them."""

import hashlib
import json
import os
import re
import shutil
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

from pathspec import GitIgnoreSpec
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from motionbench.core.errors import UserError, is_of_the_system, one_line
from motionbench.core.paths import DVC_IGNORE

IGNORED_BY_DVC = (".git", ".hg/", ".dvc/")  # whatever .dvcignore says


@contextmanager
def atomic_outputs(*outputs: Path) -> Iterator[list[Path]]:
    """Yield a temporary path beside each of `outputs`; once the block succeeds, move all to their final paths.

    A path without a suffix means a folder, which exists and is empty. If the block raises, `outputs` stay as they were
    and the temporary files are removed. A kill leaves each output complete, old or new; only between the two renames
    of a folder is it missing. Temporary files that a kill leaves are removed the next time.
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
                output.rename(old)  # A folder cannot be renamed onto another, and deleting it takes time.
            new.replace(output)
    finally:
        for path in (*partial, *aside):
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def file_stem(name: str, number: int) -> str:
    """Return a name that people gave as that of a file, the same where it can be, else changed, and `number` after it.

    File systems take 255 bytes. In the addresses of an MLflow server # ? % and others have a meaning, and a blank at
    the beginning is lost.
    """
    plain = re.sub(r"[^\w .-]", "_", unicodedata.normalize("NFC", name)).strip()
    plain = plain.encode()[:200].decode(errors="ignore")
    return name if plain == name else f"{plain}~{number}"  # No plain name has a tilde: each stays another.


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


def files_below(path: Path) -> list[Path]:
    """Return a file, or all files of a folder in DVC's order, without those that DVC or .dvcignore ignores."""
    files = sorted(path.rglob("*"), key=lambda file: file.relative_to(path).as_posix()) if path.is_dir() else [path]
    ours = DVC_IGNORE.read_text(encoding="utf-8").splitlines() if DVC_IGNORE.exists() else []
    ignored = GitIgnoreSpec.from_lines([*IGNORED_BY_DVC, *ours])
    files = [file for file in files if file.is_file()]
    if path.is_absolute() and not path.is_relative_to(Path.cwd()):
        return files  # DVC ignores nothing outside the repository.
    # Only names below it count: it may lie in another's .dvc/tmp.
    return [file for file in files if not ignored.match_file(os.path.relpath(file))]


def file_md5s(path: Path) -> dict[str, str]:
    """Return the md5s of a file, or of all files of a folder in DVC's order, by their paths."""
    return {file.as_posix(): file_md5(file) for file in files_below(path)}


def path_md5(path: Path) -> str:
    """Return the md5 of a file or a folder as in dvc.lock; that of a folder ends in .dir."""
    if not path.is_dir():
        return file_md5(path)
    md5s = file_md5s(path).items()
    entries = [{"md5": md5, "relpath": Path(file).relative_to(path).as_posix()} for file, md5 in md5s]
    listing = json.dumps(entries, sort_keys=True).encode()
    return f"{hashlib.md5(listing, usedforsecurity=False).hexdigest()}.dir"


@lru_cache(maxsize=8)
def _parsed_yaml(text: str) -> Any:
    """Return what a text of YAML says; a stage reads dvc.yaml and params.yaml up to nine times, and parsing is slow."""
    return YAML(typ="safe").load(text)


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        UserError: if the file is missing or not readable.
    """
    text = ""
    try:
        text = path.read_text(encoding="utf-8")
        return deepcopy(_parsed_yaml(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        # What is missing at the end of a file is missed on the line after it.
        line = f", line {min(mark.line + 1, len(text.splitlines()))}" if mark else ""
        raise UserError(f"{path}{line}: not readable as YAML: {error.problem}") from error
    except (YAMLError, ValueError, KeyError, RecursionError) as error:  # raised by some of YAML's tags
        raise UserError(f"{path}: not readable as YAML: {one_line(error)}") from error
    except OSError as error:
        if is_of_the_system(error):
            raise
        raise UserError(f"{path}: {error.strerror}; run from the repository's root") from error
