"""The data section of params.yaml."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from motionbench.core.schema import Count, Pixels, Section, Seed, refusal

CLIP_BYTES, SPLIT_BYTES = 10**9, 10**11


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
        if self.point_size % 2:
            raise refusal("data.point_size", self.point_size, "an even number of pixels")
        if self.point_size + 2 > min(self.height, self.width):
            allowed = f"at most {min(self.height, self.width) - 2} in a frame of {self.height}x{self.width}"
            raise refusal("data.point_size", self.point_size, allowed)
        if self.variant == "motion":
            # The smallest square is 2 pixels smaller; the largest, 2 larger, must leave a row and a column dark.
            if not 4 <= self.point_size <= min(self.height, self.width) - 3:
                allowed = f"at least 4 and 3 below the sides of the frame, {self.height}x{self.width}"
                raise refusal("data.point_size", self.point_size, f"{allowed}, with data.variant: motion")
            if self.frames < 4:
                raise refusal(
                    "data.frames", self.frames, "at least 4 with data.variant: motion, so that a sine is curved"
                )
        clip = self.frames * self.height * self.width
        if clip > CLIP_BYTES:
            raise refusal(
                "data.frames", self.frames, f"at most {CLIP_BYTES // (self.height * self.width)} with such frames"
            )
        if clip * self.clips_per_class > SPLIT_BYTES:
            raise refusal(
                "data.clips_per_class", self.clips_per_class, f"at most {SPLIT_BYTES // clip} with such clips"
            )
        notebook = {"frames": 20, "height": 50, "width": 130, "point_size": 6, "jitter": 1.0}
        for key, value in notebook.items():
            if self.variant == "notebook" and getattr(self, key) != value:
                raise refusal(
                    f"data.{key}", getattr(self, key), f"{value}, the reference notebook's, with data.variant: notebook"
                )
        return self
