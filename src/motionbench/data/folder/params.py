"""The folder section of params.yaml."""

import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from motionbench.core.processes import untracked
from motionbench.core.schema import InputPath, Seed, Text, refusal
from motionbench.data.params import DatasetParams, Resize

LEAVE_ONE_GROUP_OUT = "leave_one_group_out"


def _check_folds(folds: Any) -> Any:
    if folds in (None, LEAVE_ONE_GROUP_OUT) or (type(folds) is int and 3 <= folds <= 100):
        return folds
    raise refusal("folder.folds", str(folds)[:100], f"a number from 3 to 100, {LEAVE_ONE_GROUP_OUT} or null")


def _check_swaps(value: Any, check: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    with suppress(ValidationError):
        pairs = check(value)
        names = [name for pair in pairs or [] for name in pair]
        if len(set(names)) == len(names):
            return pairs
    allowed = "pairs of classes that swap, each class in one pair, as in [[opening, closing]], or [] or null"
    raise refusal(f"folder.{info.field_name}", str(value)[:100], allowed)


def plain_name(name: str) -> str:
    """Return the name of a class or a group in one Unicode form, each run of blanks as one, none at its ends."""
    return " ".join(unicodedata.normalize("NFC", name).split())


Pair = Annotated[list[Text], Field(min_length=2, max_length=2)]
Swaps = Annotated[list[Pair] | None, WrapValidator(_check_swaps)]


class FolderParams(DatasetParams):
    """Video files of the user's own."""

    path: InputPath
    manifest: Text | None
    group: Text | None
    folds: Annotated[int | str | None, BeforeValidator(_check_folds)]
    seed: Seed
    resize: Resize
    max_pixels: Annotated[int, Field(gt=0, le=10**9)]
    on_bad: Literal["refuse", "skip"]
    reversed_labels: Swaps
    flipped_labels: Swaps
    mirrored_labels: Swaps

    def label_maps(self) -> dict[str, dict[str, str]]:
        """Return, by each change of which it is known, what labels become: a map that undoes itself."""
        known = {"reversed": self.reversed_labels, "flipped": self.flipped_labels, "mirrored": self.mirrored_labels}
        return {
            change: {plain_name(name): plain_name(other) for pair in pairs for name, other in (pair, reversed(pair))}
            for change, pairs in known.items()
            if pairs is not None
        }

    def untracked_clips(self) -> list[Path]:
        """Return the clips in the repository that git does not have, so that a clone lacks them."""
        folder = Path(self.path)
        return [] if folder.is_absolute() or not folder.exists() else untracked(folder)
