"""The data section of params.yaml, and what the section of each source has in common."""

import math
from pathlib import Path
from typing import Literal

from motionbench.core.schema import Pixels, Section, refusal

CLIP_BYTES = 10**9
ClipShape = tuple[int, int, int, int]  # frames, height, width and channels of a clip


class DataParams(Section):
    """What the clips look like, whatever their source."""

    source: str
    frames: Pixels
    height: Pixels
    width: Pixels
    colour: Literal["grey", "rgb"]

    def clip_shape(self) -> ClipShape:
        """Return the shape of a clip."""
        return self.frames, self.height, self.width, 3 if self.colour == "rgb" else 1

    def check_size(self) -> None:
        """Check that a clip is not too large.

        Raises:
            PydanticCustomError: naming the key, its value and what is allowed.
        """
        frame = math.prod(self.clip_shape()[1:])
        if self.frames * frame > CLIP_BYTES:
            raise refusal("data.frames", self.frames, f"at most {CLIP_BYTES // frame} with such frames")


class SourceParams(Section):
    """The section of a source, which is checked wherever it stands, and needed if `data.source` names it."""

    def untracked_clips(self) -> list[Path]:
        """Return the files and folders that clips are made from and that a clone of the repository lacks."""
        return []

    def check_data(self, data: DataParams) -> None:
        """Check what the section and the data section say together.

        Raises:
            PydanticCustomError: naming the key, its value and what is allowed.
        """
