"""The data section of params.yaml."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from motionbench.core.schema import Count, Pixels, Section, Seed, refusal

CLIP_BYTES, SPLIT_BYTES = 10**9, 10**11
NOTEBOOK = {"frames": 20, "height": 50, "width": 130, "point_size": 6, "jitter": 1.0}


class DataParams(Section):
    """What the clips look like."""

    variant: Literal["corrected", "notebook", "motion"]
    seed: Seed
    clips_per_class: Count
    frames: Pixels
    height: Pixels
    width: Pixels
    point_size: Pixels
    jitter: Annotated[float, Field(ge=0, le=10_000)]

    @model_validator(mode="after")
    def _check_geometry(self) -> Self:
        height, width, size = self.height, self.width, self.point_size
        side = min(height, width)
        self._require(size % 2 == 0, "point_size", "an even number of pixels")
        self._require(size + 2 <= side, "point_size", f"at most {side - 2} in a frame of {height}x{width}")
        if self.variant == "motion":
            # The smallest square is 2 pixels smaller; the largest, 2 larger, must leave a row and a column dark.
            allowed = f"at least 4 and 3 below the sides of the frame, {height}x{width}, with data.variant: motion"
            self._require(4 <= size <= side - 3, "point_size", allowed)
            allowed = "at least 4 with data.variant: motion, so that a sine is curved"
            self._require(self.frames >= 4, "frames", allowed)
        clip = self.frames * height * width
        self._require(clip <= CLIP_BYTES, "frames", f"at most {CLIP_BYTES // (height * width)} with such frames")
        allowed = f"at most {SPLIT_BYTES // clip} with such clips"
        self._require(clip * self.clips_per_class <= SPLIT_BYTES, "clips_per_class", allowed)
        for key, value in NOTEBOOK.items() if self.variant == "notebook" else ():
            allowed = f"{value}, the reference notebook's, with data.variant: notebook"
            self._require(getattr(self, key) == value, key, allowed)
        return self

    def _require(self, accepted: bool, key: str, allowed: str) -> None:
        if not accepted:
            raise refusal(f"data.{key}", getattr(self, key), allowed)
