"""All models on public sets of real video files: does order add anything, and are networks worth their cost?

python -m benchmarks.real_clips FOLDER... runs experiments/real_clips.yaml on each folder of class folders, in a fresh
clone with the backbone that is here, and writes docs/results/real_clips.md. Groups are what names suggest first.
"""

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import chdir
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.common import DOCS, ROOT, machine, markdown_table, reproduce, temporary_clone, write_page
from motionbench.comparison.intervals import Groups, Right, accuracy_interval
from motionbench.comparison.pairs import Comparison, compare_pairs
from motionbench.comparison.sentences import describe_lead, format_p
from motionbench.core.files import read_yaml
from motionbench.core.paths import BACKBONES, COMPARISON_METRICS, PARAMS
from motionbench.core.processes import git
from motionbench.data.folder.listing import list_clips
from motionbench.evaluation.predictions import Predictions, read_predictions
from motionbench.models.registry import MODELS, contenders_among, reads_features
from motionbench.params.editing import update_yaml
from motionbench.reporting.inspection import find_groupings

SOURCES = {  # by the name of the folder
    "colored_shape": "Shapes that move in a circle, horizontally or vertically; groups are shape and colour. From "
    "zygis009/colored-shape-action-dataset on GitHub, commit 1b9fdc2 (Apache-2.0).",
    "EgoGestAR": "Gestures that a finger draws in the air, seen by who makes them; groups are places, sorted by eye "
    "(the clips of one person in one office or one home are one). From varunj/EgoGestAR on GitHub, commit 90188de, "
    "folder testvideo, without its class unclassified (offered as a public testing dataset; there is no licence file).",
    "fight": "Two seconds of surveillance video, of people who fight or do not; groups are the source videos, so that "
    "the people of a test clip were never seen. From seymanurakti/fight-detection-surv-dataset on GitHub, commit "
    "ff83b7c (MIT).",
}
BASELINE, BLIND = "frame_differences", "pretrained_bag"


class Measured(NamedTuple):
    """What one experiment found."""

    name: str
    predictions: Predictions
    fires: list[str]  # a sentence for each check of the leak audit that does
    seconds: float


def main() -> None:
    """Run the experiments, and write the page after each."""
    measured: list[Measured] = []
    for folder in sys.argv[1:]:
        measured.append(measure(Path(folder).absolute()))
        write_page(DOCS / "real_clips.md", as_markdown(measured))


def measure(folder: Path) -> Measured:
    """Run all stages on a folder, in a clone."""
    with temporary_clone() as clone:
        values = read_yaml(clone / "experiments/real_clips.yaml")
        values["folder"] |= {"path": str(folder), "group": find_groupings(list_clips(folder, None, None)[0])[0].pattern}
        params = clone / PARAMS
        params.write_text(update_yaml(params.read_text(encoding="utf-8"), values), encoding="utf-8")
        shutil.copytree(ROOT / BACKBONES, clone / BACKBONES, dirs_exist_ok=True)
        seconds = reproduce(clone)
        with chdir(clone):
            checks = json.loads((COMPARISON_METRICS / "audit.json").read_text(encoding="utf-8"))
            fires = [f"{each['check']} fires: {each['sentence']}" for each in checks if each["fires"]]
            return Measured(folder.name, read_predictions(), fires, seconds)


def judge(right: Mapping[str, Right], groups: Groups | None) -> list[list[Comparison]]:
    """Return the comparisons that answer three questions; p-values are adjusted for those of each."""
    contenders = contenders_among(right)
    pretrained = [name for name in contenders if reads_features(name)]
    best = max(pretrained, key=lambda name: float(right[name].mean()))
    pairs = (
        [(name, BLIND) for name in pretrained],  # the order of the frames
        [(name, BASELINE) for name in contenders],  # are networks worth their cost?
        [(best, name) for name in contenders if name not in pretrained],
    )
    return [compare_pairs(right, groups, margin=0.02, pairs=each) for each in pairs]


def as_markdown(measured: Sequence[Measured]) -> list[str]:
    """Return the paragraphs of the page."""
    summary, sections = [], []
    for name, predictions, fires, seconds in measured:
        right, groups = {each: predictions.unchanged.right(each) for each in predictions.models}, predictions.groups
        questions = judge(right, groups)
        order, worth, pixels = map(_answer, questions, (any, any, all))
        said = [
            "; ".join(f"{each.first} {_lead(each)} than {each.second}" for each in pairs) + "." for pairs in questions
        ]
        counts = np.bincount(predictions.labels)
        summary.append(
            {
                "set": name,
                "clips, classes, groups": f"{counts.sum()}, {len(counts)}, {questions[0][0].units}",
                "chance": f"{counts.max() / counts.sum():.3f}",
                "is a pretrained model that sees order better than one that does not?": order,
                "is a network better than the baseline?": worth,
                "does a pretrained model beat every network from pixels?": pixels,
            }
        )
        sections += [
            f"## {name}",
            f"{SOURCES.get(name, '')} The run took {seconds / 60:.0f} minutes.".strip(),
            markdown_table([_describe_model(model, predictions) for model in right]),
            *said,
            markdown_table([_describe_pair(pair) for pairs in questions for pair in pairs]),
            f"Leak audit: {'; '.join(fires) or 'nothing fires'}.",
        ]
    return [
        "# Real clips: public sets",
        f"Written by `python -m benchmarks.real_clips` on {datetime.now(UTC):%Y-%m-%d} at commit "
        f"`{git('rev-parse', '--short', 'HEAD').strip()}`, on {machine()}: "
        "[experiments/real_clips.yaml](../../experiments/real_clips.yaml) on each set, five folds by group. Clips lie "
        "in class folders, with the group and a number as names. Intervals and tests are those of "
        "[the comparison](../own-clips.md#how-it-is-judged); the p-values of each "
        "question are adjusted for its comparisons, not for the choice of the more accurate of two pretrained models.",
        markdown_table(summary),
        *sections,
    ]


def _answer(pairs: Sequence[Comparison], enough: Callable[[Iterable[bool]], bool]) -> str:
    if enough(pair.better == pair.first for pair in pairs):
        return "yes"
    return "these trained networks" if enough(pair.better_network == pair.first for pair in pairs) else "not shown"


def _lead(pair: Comparison) -> str:
    if pair.better or not pair.better_network:
        return describe_lead(pair)
    return f"has {'better' if pair.better_network == pair.first else 'worse'} trained networks"


def _describe_model(model: str, predictions: Predictions) -> dict[str, str]:
    right, [shuffled] = predictions.unchanged.right(model), predictions.perturbed
    low, high = accuracy_interval(right, predictions.groups)
    return {
        "model": f"{model}, {MODELS[model].role}",
        "sees": MODELS[model].sees,
        "accuracy": f"{right.mean():.3f}",
        "95 % interval": f"{low:.3f} to {high:.3f}",
        "10 clips of each class, frames in random order": f"{shuffled.right(model).mean():.3f}",
    }


def _describe_pair(pair: Comparison) -> dict[str, str]:
    low, high = (pair.recipes or pair.networks).interval
    return {
        "accuracy": f"{pair.first} less {pair.second}",
        "difference": f"{pair.difference:+.3f}",
        "95 % interval": f"{low:+.3f} to {high:+.3f}",
        "these networks": format_p(pair.networks.p_value),
        "trained again": format_p(pair.recipes.p_value) if pair.recipes else "one seed cannot tell",
    }


if __name__ == "__main__":
    main()
