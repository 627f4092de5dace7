"""What makes training steady: a factorial over the recipe, judged on validation clips only.

python -m benchmarks.recipe writes docs/recipe.md and docs/recipe.csv; about an hour on four cores. The seeds are used
nowhere else, and neither the test split nor the default seeds had a part in the choice.
"""

from functools import partial
from itertools import product
from math import inf
from pathlib import Path
from statistics import median, median_high
from typing import Any, NamedTuple

import pandas as pd
from motionbench.execution.parallel import Report, run_side_by_side

import pipeline  # noqa: F401 # puts src/ on the path, as for the stages
from motionbench.data.splits import read_split
from motionbench.execution.runtime import importing_tensorflow
from motionbench.params.loading import load_params

SEEDS = range(100, 110)
EPOCHS = {"convlstm": 5, "cnn_lstm": 12}
CLIPS = 80
DOCS = Path(__file__).parents[1] / "docs"


class Cell(NamedTuple):
    """A combination of the factors' levels: the source's, or what is tried against it."""

    activation: str
    batch_size: int
    learning_rate: float
    clipping: str = "none"
    schedule: str = "constant"


# Activation, batch size and step size in all combinations; clipping and schedule at the two opposite corners.
CORNERS = (Cell("relu", 32, 0.001), Cell("tanh", 8, 0.003))
CELLS = (
    *(Cell(*levels) for levels in product(("relu", "tanh"), (32, 8), (0.001, 0.003))),
    *(corner._replace(clipping="norm 1") for corner in CORNERS),
    *(corner._replace(schedule="cosine") for corner in CORNERS),
)
# The CNN-LSTM's loss still creeps where the ConvLSTM's has settled: larger steps for it alone.
LARGER_STEPS = (Cell("tanh", 8, 0.005), Cell("tanh", 8, 0.01))


def main() -> None:
    """Train every cell from every seed, and write what each came to."""
    cells = [(model, cell) for model in EPOCHS for cell in CELLS]
    cells += [("cnn_lstm", cell) for cell in LARGER_STEPS]
    tasks = [partial(_fit, model, cell, seed) for model, cell in cells for seed in SEEDS]
    done: list[int] = []

    def count(finished: Any) -> None:
        done.append(1)
        print(f"{len(done)} of {len(tasks)}: {finished}", flush=True)

    rows = [row for rows in run_side_by_side(tasks, 1, count) for row in rows]
    epochs = pd.DataFrame(rows)
    epochs.to_csv(DOCS / "recipe.csv", index=False, float_format="%.4f", lineterminator="\n")
    (DOCS / "recipe.md").write_text(as_markdown(epochs), encoding="utf-8")


def _fit(model_name: str, cell: Cell, seed: int, report: Report) -> list[dict[str, Any]]:
    with importing_tensorflow():
        import keras

        from motionbench.execution.runtime import fix_threads
        from motionbench.models.registry import build_model
    params = load_params()
    train, validation = (read_split(Path("data", name), params.data) for name in ("train", "validation"))
    fix_threads(1)
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    section = params.model(model_name).model_copy(update={"activation": cell.activation})
    model = build_model(model_name, section, train.clips.shape[1:], len(train.class_names))
    epochs, rate = EPOCHS[model_name], cell.learning_rate
    if cell.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, epochs * -(-len(train.clips) // cell.batch_size))
    model.compile(
        optimizer=keras.optimizers.Adam(rate, global_clipnorm=1.0 if cell.clipping == "norm 1" else None),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    history = model.fit(
        train.clips,
        train.labels,
        batch_size=cell.batch_size,
        epochs=epochs,
        validation_data=(validation.clips, validation.labels),
        verbose=0,
    ).history
    report([model_name, *cell, seed, history["val_accuracy"]])
    about = {"model": model_name, **cell._asdict(), "seed": seed}
    return [
        {
            **about,
            "epoch": epoch,
            "validation_loss": history["val_loss"][epoch - 1],
            "wrong": round(len(validation.clips) * (1 - history["val_accuracy"][epoch - 1])),
        }
        for epoch in range(1, epochs + 1)
    ]


def as_markdown(epochs: pd.DataFrame) -> str:
    """Return a table a model: of each cell, how many seeds came to be perfect on the validation clips, and when."""
    lines = [
        "# What makes training steady",
        "",
        "Written by `python -m benchmarks.recipe`; every epoch of every seed is in [recipe.csv](recipe.csv). "
        f"{len(SEEDS)} seeds ({SEEDS[0]} to {SEEDS[-1]}) a row, judged on the {CLIPS} validation clips of the default "
        "data; neither the test split nor the default seeds had a part in it. *Perfect* means every validation clip "
        "right. *Perfect from* is the epoch from which a seed stays so to the end. *Lost again* counts seeds that "
        "were perfect and did not stay so. Clipping is of the gradient's global norm, the schedule a cosine to zero.",
    ]
    for model, cells in epochs.groupby("model", sort=False):
        lines += ["", f"## {model}, {EPOCHS[str(model)]} epochs", ""]
        lines.append(
            "| activation | batch | step size | clipping | schedule | perfect at the end | lost again | perfect "
        )
        lines[-1] += "from, median (worst) | loss at the end, median (worst) |"
        lines.append("|---" * 9 + "|")
        for levels, cell in cells.groupby(list(Cell._fields), sort=False):
            seeds = [seed for _, seed in cell.groupby("seed")]
            since = [_perfect_from(seed["wrong"].tolist()) for seed in seeds]
            lost = sum(0 in _before(seed, epoch) for seed, epoch in zip(seeds, since, strict=True))
            losses = [seed["validation_loss"].iloc[-1] for seed in seeds]
            row = [
                *map(str, levels),
                f"{sum(seed['wrong'].iloc[-1] == 0 for seed in seeds)} of {len(seeds)}",
                str(lost),
                f"{_epoch(median_high(since))} ({_epoch(max(since))})",
                f"{median(losses):.3f} ({max(losses):.3f})",
            ]
            lines.append(f"| {' | '.join(row)} |")
    return "\n".join([*lines, ""])


def _before(seed: pd.DataFrame, epoch: float) -> list[int]:
    return seed.loc[seed["epoch"] < epoch, "wrong"].tolist()


def _perfect_from(wrong: list[int]) -> float:
    """Return the epoch from which there are no wrong answers to the end, infinite if there is none."""
    imperfect = [epoch for epoch, count in enumerate(wrong, start=1) if count]
    last = max(imperfect, default=0)
    return inf if last == len(wrong) else last + 1


def _epoch(number: float) -> str:
    return "never" if number == inf else str(number)


if __name__ == "__main__":
    main()
