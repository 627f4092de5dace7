"""The search that a model's parameters come from, and how its loss compares with the loss after training again."""

from statistics import mean
from typing import TypedDict

import numpy as np

from motionbench.core.errors import UserError
from motionbench.core.files import read_json
from motionbench.core.paths import APPLIED_SEARCHES
from motionbench.training.results import Training


class Search(TypedDict):
    """The search that a model's parameters come from."""

    study: str
    trials: int
    number: int
    """Of the best trial."""
    validation_loss: float
    """Of the best trial, at the end of its epochs, as the search ranked it."""
    search_loss: float
    """The best trial's validation loss at the epochs at which the retrained replicates ended, mean."""
    retrained_loss: float
    """The retrained replicates' validation loss at these epochs; the difference is the search's optimism."""


def read_applied_search(model_name: str, training: Training) -> Search | None:
    """Return what is known of the search that gave a model the parameters it was trained with; None if none did.

    Losses are compared at equal epochs, each the lowest so far: the search trains for a fixed number of them, the
    stages until a loss is good enough.

    Raises:
        UserError: if the file is damaged.
    """
    try:
        applied = read_json(APPLIED_SEARCHES).get(model_name)
        if applied is None or applied["section"] != training.section:
            return None
        lowest = training.history.sort_values("epoch").groupby("seed")["validation_loss"].agg(list)
        curve = np.minimum.accumulate(applied["curve"])
        ends = [min(len(losses), len(curve)) for losses in lowest]
        return Search(
            study=applied["study"],
            trials=applied["trials"],
            number=applied["number"],
            validation_loss=applied["validation_loss"],
            search_loss=mean(float(curve[end - 1]) for end in ends),
            retrained_loss=mean(min(losses[:end]) for losses, end in zip(lowest, ends, strict=True)),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"not readable ({type(error).__name__}); write it again: make tune-apply MODEL={model_name}"
        raise UserError(f"{APPLIED_SEARCHES}: {reason}") from error
