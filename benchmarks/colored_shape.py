"""What the comparison says about a public data set of real video files, beside floors of simple classifiers.

MOTIONBENCH_CLIPS=... python -m benchmarks.colored_shape writes docs/results/colored_shape.md, in half an hour. The
variable names the folder with colored_shape/, the class folders of github.com/zygis009/colored-shape-action-dataset.
"""

import os
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import chdir
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.common import DOCS, ROOT, machine, markdown_table, reproduce, temporary_clone, write_page
from motionbench.comparison.pairs import compare
from motionbench.core.files import read_yaml
from motionbench.core.paths import ANSWERS, COMPARISON_REPORT, PARAMS
from motionbench.data.splits import AnySplit, Clips, Split, read_source, read_test, read_training
from motionbench.evaluation.predictions import UNCHANGED
from motionbench.params.editing import update_yaml

CLIPS = Path(os.environ.get("MOTIONBENCH_CLIPS", ROOT.parent / "shared/clips")) / "colored_shape"
SECTIONS = ("On the test split", "Leak audit", "Groups, mean over the seeds")
View = Callable[[Clips], NDArray[Any]]
FIRST, MIDDLE, MEAN = "first frame", "middle frame", "mean of all frames"
VIEWS: dict[str, View] = {
    FIRST: lambda clips: clips[:, 0],
    MIDDLE: lambda clips: clips[:, clips.shape[1] // 2],
    MEAN: lambda clips: clips.mean(axis=1),
}
REGRESSION, NEIGHBOUR = "logistic regression", "nearest neighbour"
CLASSIFIERS = {
    REGRESSION: lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=5_000)),
    NEIGHBOUR: lambda: KNeighborsClassifier(1),
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
            single_frame = compare_single_frame(floors[REGRESSION, FIRST])
    write_page(DOCS / "colored_shape.md", as_markdown(report, floors, single_frame, seconds))


def measure_floors() -> dict[tuple[str, str], NDArray[np.bool_]]:
    """Return which answers are right over all folds, shape (clips,), by classifier and view of a clip."""
    folds = [(read_training(fold)[0], read_test(fold)) for fold in read_source().fold_numbers()]
    return {
        (name, view): np.concatenate([_right_answers(name, view, *fold) for fold in folds])
        for name, view in product(CLASSIFIERS, VIEWS)
    }


def _right_answers(name: str, view: str, train: AnySplit, test: Split) -> NDArray[np.bool_]:
    features = [VIEWS[view](np.asarray(each.clips[:])).reshape(len(each.labels), -1) / 255 for each in (train, test)]
    model = CLASSIFIERS[name]().fit(features[0], train.labels)
    right: NDArray[np.bool_] = model.predict(features[1]) == test.labels
    return right


def compare_single_frame(floor: NDArray[np.bool_]) -> str:
    """Compare single_frame with a floor on the frame that it sees."""
    answers = pd.read_parquet(ANSWERS, filters=[("model", "==", "single_frame"), ("condition", "==", UNCHANGED)])
    single = (answers["label"] == answers["predicted"]).to_numpy().reshape(-1, len(floor))
    found = compare(single, floor[np.newaxis], answers["group"].to_numpy()[: len(floor)]).networks
    difference, (low, high) = single.mean() - floor.mean(), found.interval
    return (
        f"single_frame less {REGRESSION} on the {FIRST}, which is what single_frame sees: {difference:+.3f} "
        f"(95 % interval {low:+.3f} to {high:+.3f}, exact paired test over groups p = {found.p_value:.2g})."
    )


def as_markdown(
    report: str, floors: Mapping[tuple[str, str], NDArray[np.bool_]], single_frame: str, seconds: float
) -> list[str]:
    """Return the page: what the report says, without its pictures, and the floors."""
    rows = [
        {"classifier": name, **{view: f"{floors[name, view].mean():.3f}" for view in VIEWS}} for name in CLASSIFIERS
    ]
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
        "The accuracy of simple classifiers of pixels on the same clips and folds:",
        markdown_table(rows),
        single_frame,
        "One frame does not tell the class. The mean frame gives it away, without any order: it shows the path of the "
        "shape. The control bag_of_frames finds it too.",
    ]


def section(report: str, heading: str) -> str:
    """Return a section of the report without its pictures."""
    found = re.search(rf"^## {heading}\n.*?(?=^## |\Z)", report, re.MULTILINE | re.DOTALL)
    assert found, heading
    return re.sub(r"\n*^!\[.*?\]\(.*?\)\n\n\*.*?\*\n", "", found[0], flags=re.MULTILINE).strip()


if __name__ == "__main__":
    main()
