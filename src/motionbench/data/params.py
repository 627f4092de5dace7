"""The data section of params.yaml, and what the sections of all kinds of data sets have in common."""

import math
from pathlib import Path
from typing import Literal, NamedTuple

from motionbench.core.schema import Pixels, Section, refusal

CLIP_BYTES = 10**9
Colour = Literal["grey", "rgb"]
Resize = Literal["pad", "crop", "stretch"]
"""Whether the whole picture is fitted in between black bars, or fills the clip and is cut off, or its shape changes."""
ClipShape = tuple[int, int, int, int]  # frames, height, width and channels of a clip


class Preprocessing(NamedTuple):
    """How a video becomes a clip."""

    frames: int
    height: int
    width: int
    colour: Colour
    resize: Resize


class DataParams(Section):
    """What the clips look like, whatever the data set."""

    source: str
    frames: Pixels
    height: Pixels
    width: Pixels
    colour: Colour

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


class DatasetParams(Section):
    """The section of a data set, which is checked wherever it stands, and needed if `data.source` names it."""

    def untracked_clips(self) -> list[Path]:
        """Return the files and folders that clips are made from and that a clone of the repository lacks."""
        return []

    def check_data(self, data: DataParams) -> None:
        """Check what the section and the data section say together.

        Raises:
            PydanticCustomError: naming the key, its value and what is allowed.
        """
