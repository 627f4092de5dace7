"""Replicates that were never trained."""

from motionbench.models.registry import CnnParams
from motionbench.training.results import Epoch, Replicate

SECTION = CnnParams(
    filters=(2,), kernel_sizes=(3,), batch_normalization=False, dropout=0.0, epochs=3, batch_size=8,
    learning_rate=0.01, learning_rate_schedule="constant", weight_decay=0.0,
)  # fmt: skip # not one a line


def replicate(
    seed: int, losses: list[float], seconds: list[float], megabytes: float = 400.0, fold: int | None = None
) -> Replicate:
    """A replicate with these validation losses per epoch, the lowest of which is the best."""
    history = [
        Epoch(seed=seed, epoch=epoch, loss=1.0, accuracy=0.5, validation_loss=loss, validation_accuracy=1 - loss)
        for epoch, loss in enumerate(losses, start=1)
    ]
    if fold is not None:
        for each in history:
            each["fold"] = fold
    return Replicate(
        history=history,
        best=min(history, key=lambda epoch: epoch["validation_loss"]),
        parameters=123,
        summary="layers\n",
        epoch_seconds=seconds,
        peak_megabytes=megabytes,
        machine=f"machine {seed}",
    )
