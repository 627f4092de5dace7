"""Twenty fresh seeds through the whole pipeline with the default parameters: python -m benchmarks.fresh_seeds.

Writes docs/results/fresh_seeds.md with the result of every seed. Run it after the recipe is chosen: the choice must
not depend on these seeds.
"""

from typing import Any

import pandas as pd

from benchmarks.common import DOCS, markdown_table, reproduce, temporary_clone, write_page
from motionbench.core.files import read_json
from motionbench.core.paths import COMPARISON_METRICS, PARAMS, training_paths
from motionbench.models.registry import contenders_among
from motionbench.params.editing import update_yaml

SEEDS = list(range(3000, 3020))


def main() -> None:
    """Run `dvc repro` with these seeds in a clone, and write the result of each."""
    with temporary_clone() as clone:
        params = clone / PARAMS
        changed = update_yaml(params.read_text(encoding="utf-8"), {"training": {"seeds": SEEDS}})
        params.write_text(changed, encoding="utf-8")
        reproduce(clone)
        scores = read_json(clone / COMPARISON_METRICS / "scores.json")
        trained = {
            name: pd.read_csv(clone / training_paths(name)[1] / "replicates.csv") for name in contenders_among(scores)
        }
    write_page(DOCS / "fresh_seeds.md", as_markdown(scores, trained))


def as_markdown(scores: dict[str, list[dict[str, Any]]], trained: dict[str, pd.DataFrame]) -> list[str]:
    """Return the page: a row per seed, a column per contender.

    Args:
        scores: by model, the test scores of each seed.
        trained: by model, a row per seed with the epoch whose weights were kept.
    """
    rows = [
        {"seed": str(seed)} | {name: _cell(scores[name][i], trained[name].iloc[i]) for name in trained}
        for i, seed in enumerate(SEEDS)
    ]
    perfect = {name: sum(score["correct"] == score["clips"] for score in scores[name]) for name in trained}
    rows.append({"seed": "all right"} | {name: f"{count} of {len(SEEDS)}" for name, count in perfect.items()})
    return [
        "# Twenty fresh seeds",
        "Written by `python -m benchmarks.fresh_seeds`: `dvc repro` with the default parameters but these seeds. None "
        "of them was used to choose the recipe. An earlier choice, a learning rate of 0.01 for the CNN-LSTM, failed "
        "this test with seeds 1000 to 1019: seed 1013 stayed at chance, 19 of 20. The cells show the right answers on "
        "the test split; in brackets, the epoch whose weights were kept and its validation loss in nats. No seed is "
        "left out.",
        markdown_table(rows),
    ]


def _cell(score: dict[str, Any], kept: "pd.Series[Any]") -> str:
    return f"{score['correct']} of {score['clips']} ({kept['epoch']:.0f}, {kept['validation_loss']:.4f})"


if __name__ == "__main__":
    main()
