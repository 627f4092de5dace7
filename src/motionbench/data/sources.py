"""Where clips come from. A new source is one entry here, one file, and its section of params.yaml."""

from collections.abc import Mapping
from pkgutil import resolve_name
from typing import NamedTuple

from motionbench.data.folder.params import FolderParams
from motionbench.data.params import DataParams, SourceParams
from motionbench.data.splits import Write
from motionbench.data.synthetic.params import SyntheticParams


class Source(NamedTuple):
    """An entry of the registry."""

    params: type[SourceParams]
    prepare: str
    """Module and function (data, section) -> Write, imported when clips are made: it raises what is wrong with them."""


SOURCES: Mapping[str, Source] = {
    "synthetic": Source(SyntheticParams, "motionbench.data.synthetic.frames:prepare"),
    "folder": Source(FolderParams, "motionbench.data.folder.source:prepare"),
}


def prepare_clips(data: DataParams, section: SourceParams) -> Write:
    """Return the function that writes the clips of `data.source` and returns what is known of them.

    Raises:
        UserError: if the parameters or the files cannot be used.
    """
    write: Write = resolve_name(SOURCES[data.source].prepare)(data, section)
    return write
