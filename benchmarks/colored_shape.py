"""What the comparison says about a public data set of real video files, beside floors of simple classifiers.

MOTIONBENCH_CLIPS=... python -m benchmarks.colored_shape writes docs/results/colored_shape.md, in half an hour. The
variable names the folder with colored_shape/, the class folders of github.com/zygis009/colored-shape-action-dataset.
"""

import os
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import chdir
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.common import DOCS, ROOT, machine, markdown_table, reproduce, temporary_clone, write_page
from motionbench.core.files import read_yaml
from motionbench.core.paths import COMPARISON_METRICS, COMPARISON_REPORT, PARAMS
from motionbench.data.splits import Clips, read_source, read_test, read_training
from motionbench.evaluation.statistics import compare
from motionbench.params.editing import update_yaml

CLIPS = Path(os.environ.get("MOTIONBENCH_CLIPS", ROOT.parent / "shared/clips")) / "colored_shape"
SECTIONS = ("On the test split", "Leak audit", "Groups, mean over the replicates")
FLOORS: dict[str, Callable[[Clips], Clips]] = {
    "first frame, which single_frame sees": lambda clips: clips[:, 0],
    "middle frame": lambda clips: clips[:, clips.shape[1] // 2],
    "mean of all frames": lambda clips: clips.mean(axis=1),
}


def main() -> None:
    """Run the experiment in a clone, fit the floors on its folds, and write the page."""
    with temporary_clone() as clone:
        for folder in CLIPS.iterdir():
            shutil.copytree(folder, clone / "data/clips" / folder.name)
        params = clone / PARAMS
        overlay = read_yaml(clone / "experiments/colored_shape.yaml")
        params.write_text(update_yaml(params.read_text(encoding="utf-8"), overlay), encoding="utf-8")
        seconds = reproduce(clone)
        report = (clone / COMPARISON_REPORT / "report.md").read_text(encoding="utf-8")
        with chdir(clone):
            floors = measure_floors()
    write_page(DOCS / "colored_shape.md", as_markdown(report, floors, seconds))


def measure_floors() -> list[dict[str, str]]:
    """Compare logistic regression with single_frame over all folds; return a row for each view of a clip."""
    answers = pd.read_csv(COMPARISON_METRICS / "predictions.csv")
    single = answers["label"].to_numpy() == answers.filter(regex="^single_frame ").to_numpy().T
    rows = []
    for name, view in FLOORS.items():
        right = np.concatenate([_right_answers(fold, view) for fold in read_source().fold_numbers()])
        found = compare(single, right[np.newaxis], groups=answers["group"].to_numpy())
        low, high = found.interval
        row = {"logistic regression on the": name, "accuracy": f"{right.mean():.3f}"}
        row["single_frame less it"] = f"{found.difference:+.3f} ({low:+.3f} to {high:+.3f})"
        rows.append({**row, "p": f"{found.p_value:.2g}"})
    return rows


def _right_answers(fold: int | None, view: Callable[[Clips], Clips]) -> NDArray[np.bool_]:
    """Fit to the training clips of a fold, and return which answers to its test clips are right."""
    train, test = read_training(fold)[0], read_test(fold)
    features = [view(np.asarray(each.clips[:])).reshape(len(each.labels), -1) / 255 for each in (train, test)]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5_000)).fit(features[0], train.labels)
    right: NDArray[np.bool_] = model.predict(features[1]) == test.labels
    return right


def as_markdown(report: str, floors: Sequence[dict[str, str]], seconds: float) -> list[str]:
    """Return the page: what the report says, without its pictures, and the floors."""
    start = report.index("\n", report.index("# ")) + 1
    sentences = report[start : report.index("\n## ")].strip()
    sections = [section(report, heading) for heading in SECTIONS]
    return [
        "# Real clips: colored_shape",
        "Written by `python -m benchmarks.colored_shape`, which runs "
        "[experiments/colored_shape.yaml](../../experiments/colored_shape.yaml) in a fresh clone: 135 videos of a "
        "coloured shape that moves in a circle, horizontally or vertically, from zygis009/colored-shape-action-dataset "
        f"on GitHub (Apache-2.0). The run took {seconds / 60:.0f} minutes on {machine()}.",
        sentences,
        *sections,
        "## Floors",
        "Logistic regression on pixels, standardised, of the same clips and folds. Differences have 95 % intervals and "
        "the p-values of paired tests over groups:",
        markdown_table(floors),
    ]


def section(report: str, heading: str) -> str:
    """Return a section of the report without its pictures."""
    found = re.search(rf"^## {heading}\n.*?(?=^## |\Z)", report, re.MULTILINE | re.DOTALL)
    assert found, heading
    return re.sub(r"\n*^!\[.*?\]\(.*?\)\n\n\*.*?\*\n", "", found[0], flags=re.MULTILINE).strip()


if __name__ == "__main__":
    main()
