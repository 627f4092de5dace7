"""What else a reader must know: where parameters come from, how clips were dealt and grouped, what was left out."""

from collections import Counter
from collections.abc import Mapping
from statistics import mean
from typing import TypedDict

import numpy as np

from motionbench.comparison.intervals import effective_groups
from motionbench.comparison.pairs import units_needed
from motionbench.core.errors import UserError
from motionbench.core.files import read_json
from motionbench.core.paths import APPLIED_SEARCHES
from motionbench.data.splits import DatasetInfo
from motionbench.evaluation.predictions import Predictions
from motionbench.training.results import Training

SEEN_BY_SEARCH = (
    "A search trains and validates on fold 0 alone. It has not seen the clips on which fold 0 is tested, but those of "
    "the other {} folds, so that the accuracy over all folds may be too high."
)
FEW_GROUPS = units_needed(1)


class Search(TypedDict):
    """The search that a model's parameters come from."""

    study: str
    trials: int
    number: int  # of the best trial
    validation_loss: float  # of the best trial, at the end of its epochs, as the search ranked it
    search_loss: float  # the best trial's validation loss at the epochs at which the retrained replicates ended, mean
    retrained_loss: float
    """The retrained replicates' validation loss at these epochs; the difference is the search's optimism."""


def read_applied_search(model_name: str, training: Training) -> Search | None:
    """Return the search that a model's parameters come from; None if they come from none.

    Losses are compared at equal epochs, each the lowest so far: a search trains for a fixed number of epochs, a stage
    until the loss is good enough.

    Raises:
        UserError: if the file is damaged.
    """
    try:
        applied = read_json(APPLIED_SEARCHES).get(model_name)
        if applied is None or applied["section"] != training.section:
            return None
        lowest = [list(curve.sort_values("epoch")["validation_loss"]) for curve in training.curves().values()]
        curve = np.minimum.accumulate(applied["curve"])
        ends = [min(len(losses), len(curve)) for losses in lowest]
        return Search(
            study=applied["study"], trials=applied["trials"], number=applied["number"],
            validation_loss=applied["validation_loss"],
            search_loss=mean(float(curve[end - 1]) for end in ends),
            retrained_loss=mean(min(losses[:end]) for losses, end in zip(lowest, ends, strict=True)),
        )  # fmt: skip # what belongs together on one line
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"not readable ({type(error).__name__}); write it again: make tune-apply MODEL={model_name}"
        raise UserError(f"{APPLIED_SEARCHES}: {reason}") from error


def search_notes(searches: Mapping[str, Search | None], folds: int) -> list[str]:
    """Say how many trials each contender had, and how the loss of each search compares with the retrained loss.

    With folds, also say which of their test clips the searches have seen.
    """
    trials = {name: search["trials"] if search else 0 for name, search in searches.items()}
    if not any(trials.values()):
        each, neither = ("Both", "neither") if len(searches) == 2 else (f"All {len(searches)}", "none")
        return [f"{each} models had the same effort of tuning: the parameters of {neither} come from a search."]
    same = "the same" if len(set(trials.values())) == 1 else "not the same"
    efforts = " and ".join(f"{name} {number} trials" for name, number in trials.items())
    return [
        f"The models had {same} effort of tuning: {efforts}.",
        *(
            f"The parameters of {name} are those of trial {search['number']} of study {search['study']}, the best of "
            f"{search['trials']}, with a validation loss of {search['validation_loss']:.3g}. At the epochs at which "
            f"the retrained replicates ended, the trial had {search['search_loss']:.3g} and they have "
            f"{search['retrained_loss']:.3g}: an optimism gap of "
            f"{search['retrained_loss'] - search['search_loss']:+.4f} nats."
            for name, search in searches.items()
            if search
        ),
        *([SEEN_BY_SEARCH.format(folds - 1)] if folds else []),
    ]


def clip_notes(dataset: DatasetInfo, predictions: Predictions) -> list[str]:
    """Say how clips were dealt into folds and are grouped, what was left out, and what may mislead a reader."""
    folds = (
        f"Cross-validation over {dataset.folds} folds: each clip is tested once per seed, by a replicate that has seen "
        "neither the clip nor another one of its group."
    )
    skipped = "; ".join(f"{name} ({reason})" for name, reason in dataset.skipped.items())
    return [
        *([folds] if dataset.folds else []),
        *_describe_design(predictions),
        *([f"Left out, since folder.on_bad is skip: {skipped}."] if skipped else []),
        *(f"Warning: {warning}." for warning in dataset.warnings),
    ]


def _describe_design(predictions: Predictions) -> list[str]:
    """Say what intervals and tests count, and what of it they do not cover."""
    notes = []
    if predictions.groups is not None:
        sizes = Counter(predictions.groups).values()
        size = f"{min(sizes)}" if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"
        effective = effective_groups(np.array([*sizes], float))
        few = ""
        if len(sizes) < FEW_GROUPS:
            few = f" With fewer than {FEW_GROUPS} groups no difference can be shown."
        elif effective < FEW_GROUPS:
            few = (
                f" Their sizes are so unequal that they count as {effective:.1f} groups of one size: intervals of "
                "differences are wide, and those of accuracies may hold the truth less often than 95 of 100 times."
            )
        notes.append(
            f"The {len(predictions.labels)} test clips are in {len(sizes)} group{'' if len(sizes) == 1 else 's'} of "
            f"{size}, and clips of a group are alike: intervals and tests count whole groups.{few} "
            "If one model errs on whole groups, and another one on single clips anywhere, a difference may be shown "
            "where there is none."
        )
    if len(predictions.seeds) == 1:
        notes.append(
            "One seed shows nothing of how much seeds differ: differences are those of these networks, and the "
            "intervals of accuracies assume that seeds differ by 3 points."
        )
    return notes
