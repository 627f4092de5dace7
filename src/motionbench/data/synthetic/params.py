"""The synthetic section of params.yaml."""

from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from motionbench.core.schema import Count, Pixels, Seed, refusal
from motionbench.data.params import DataParams, DatasetParams

Variant = Literal["corrected", "notebook", "motion"]
SPLIT_BYTES = 10**11
NOTEBOOK = {"frames": 20, "height": 50, "width": 130, "point_size": 6, "jitter": 1.0}


class Drawing(NamedTuple):
    """What is drawn: the synthetic section, and the size of the clips."""

    variant: Variant
    seed: int
    clips_per_class: int
    frames: int
    height: int
    width: int
    point_size: int
    jitter: float


class SyntheticParams(DatasetParams):
    """Clips of a moving point, drawn."""

    variant: Variant
    seed: Seed
    clips_per_class: Count
    point_size: Pixels
    jitter: Annotated[float, Field(ge=0, le=10_000)]

    def drawing(self, data: DataParams) -> Drawing:
        """Return what is drawn with this section and the data section."""
        return Drawing(frames=data.frames, height=data.height, width=data.width, **self.model_dump())

    def check_data(self, data: DataParams) -> None:
        """Check that the point fits the frames, and that a split is not too large."""
        height, width, size = data.height, data.width, self.point_size
        side = min(height, width)
        _require(data.colour == "grey", "data.colour", data.colour, "grey with data.source: synthetic")
        _require(size % 2 == 0, "synthetic.point_size", size, "an even number of pixels")
        allowed = f"at most {side - 2} in a frame of {height}x{width}"
        _require(size + 2 <= side, "synthetic.point_size", size, allowed)
        if self.variant == "motion":
            # The smallest square is 2 pixels smaller; the largest, 2 larger, must leave a row and a column dark.
            allowed = f"at least 4 and 3 below the sides of the frame, {height}x{width}, with synthetic.variant: motion"
            _require(4 <= size <= side - 3, "synthetic.point_size", size, allowed)
            allowed = "at least 4 with synthetic.variant: motion, so that a sine is curved"
            _require(data.frames >= 4, "data.frames", data.frames, allowed)
        clip = data.frames * height * width
        allowed = f"at most {SPLIT_BYTES // clip} with such clips"
        _require(clip * self.clips_per_class <= SPLIT_BYTES, "synthetic.clips_per_class", self.clips_per_class, allowed)
        drawing = self.drawing(data)
        for key, value in NOTEBOOK.items() if self.variant == "notebook" else ():
            section = "synthetic" if key in SyntheticParams.model_fields else "data"
            allowed = f"{value}, the reference notebook's, with synthetic.variant: notebook"
            _require(getattr(drawing, key) == value, f"{section}.{key}", getattr(drawing, key), allowed)


def _require(accepted: bool, key: str, value: object, allowed: str) -> None:
    if not accepted:
        raise refusal(key, value, allowed)
