"""Twenty fresh seeds through the whole pipeline with the default parameters: python -m benchmarks.fresh_seeds.

Writes docs/fresh_seeds.md, every seed in it. Run once the recipe is chosen: these seeds had no part in that.
"""

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from ruamel.yaml import YAML

import pipeline  # noqa: F401 # puts src/ on the path, as for the stages
from motionbench.core.files import read_json
from motionbench.models.registry import CONTENDERS

ROOT = Path(__file__).parents[1]
SEEDS = list(range(3000, 3020))


def main() -> None:
    """Run `dvc repro` with these seeds in a clone, and write what became of each."""
    with TemporaryDirectory() as folder:
        clone = Path(folder, "clone")
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        yaml = YAML()
        params = yaml.load(clone / "params.yaml")
        params["training"]["seeds"] = SEEDS
        yaml.dump(params, clone / "params.yaml")
        subprocess.run(["dvc", "repro"], cwd=clone, check=True)
        scores = read_json(clone / "metrics/comparison/scores.json")
        trained = {name: pd.read_csv(clone / "metrics" / name / "replicates.csv") for name in CONTENDERS}
    lines = [
        "# Twenty fresh seeds",
        "",
        "Written by `python -m benchmarks.fresh_seeds`: `dvc repro` with the default parameters but these seeds, none "
        "of which had a part in the choice of the recipe. An earlier choice, a step of 0.01 for the CNN-LSTM, failed "
        "this test with seeds 1000 to 1019: seed 1013 stayed at chance, 19 of 20. Right answers on the test split; in "
        "brackets the epoch whose weights were kept and its validation loss in nats. No seed is left out.",
        "",
        f"| seed |{''.join(f' {name} |' for name in CONTENDERS)}",
        "|---" * (len(CONTENDERS) + 1) + "|",
    ]
    for number, seed in enumerate(SEEDS):
        cells = []
        for name in CONTENDERS:
            score, kept = scores[name][number], trained[name].iloc[number]
            loss = f"{kept['validation_loss']:.4f}"
            cells.append(f"{score['correct']} of {score['clips']} ({kept['epoch']:.0f}, {loss})")
        lines.append(f"| {seed} | {' | '.join(cells)} |")
    perfect = (sum(score["correct"] == score["clips"] for score in scores[name]) for name in CONTENDERS)
    lines.append(f"| all right | {' | '.join(f'{count} of {len(SEEDS)}' for count in perfect)} |")
    (ROOT / "docs" / "fresh_seeds.md").write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
