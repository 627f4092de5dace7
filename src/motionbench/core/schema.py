"""What all sections of params.yaml share: their base class and the types of their values."""

from pathlib import PurePath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

# Bounds far above any useful value and far below what a machine cannot handle.
Count = Annotated[int, Field(gt=0, le=1_000_000)]
Pixels = Annotated[int, Field(gt=0, le=10_000)]
Width = Annotated[int, Field(gt=0, le=4096)]  # of a layer
Threads = Annotated[int, Field(gt=0, le=1024)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]  # as Keras and NumPy take them
Share = Annotated[float, Field(ge=0, le=1)]
# strict=False only lets a YAML list become a tuple; the items stay strict.
Widths = Annotated[tuple[Width, ...], Field(strict=False, min_length=1, max_length=16)]
Seeds = Annotated[tuple[Seed, ...], Field(strict=False, min_length=1, max_length=100)]
Text = Annotated[str, Field(min_length=1, max_length=1000)]


def _check_path(path: str) -> str:
    if ".." in PurePath(path).parts:  # A copy of the repository would have it elsewhere.
        raise PydanticCustomError("path", "must be a path in the repository, or an absolute one")
    return path


InputPath = Annotated[Text, AfterValidator(_check_path)]


class Section(BaseModel):
    """A section of params.yaml: unknown keys and converted types are refused, values cannot be changed later."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def refusal(key: str, value: object, allowed: str) -> PydanticCustomError:
    """Return the error of a check across keys; the message names key, value and what is allowed."""
    context = {"key": key, "value": str(value), "allowed": allowed}
    return PydanticCustomError("refused", "{key}: {value} is not allowed: must be {allowed}", context)
