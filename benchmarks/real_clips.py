"""All models on public sets of real video files: does order add anything, and are networks worth their cost?

python -m benchmarks.real_clips FOLDER... runs experiments/real_clips.yaml on each folder of class folders, in a fresh
clone with the backbone that is here, and writes docs/results/real_clips.md. Groups are what names suggest first.
"""

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import chdir
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.common import DOCS, ROOT, machine, markdown_table, reproduce, temporary_clone, write_page
from motionbench.comparison.intervals import Groups, Right, accuracy_interval
from motionbench.comparison.pairs import Comparison, compare_pairs
from motionbench.comparison.sentences import describe_lead
from motionbench.core.files import read_yaml
from motionbench.core.paths import BACKBONES, COMPARISON_METRICS, PARAMS
from motionbench.core.processes import git
from motionbench.data.folder.listing import list_clips
from motionbench.evaluation.predictions import Predictions, read_predictions
from motionbench.models.registry import MODELS, contenders_among, reads_features
from motionbench.params.editing import update_yaml
from motionbench.reporting.inspection import find_groupings

SOURCES = {
    "colored_shape": "Shapes that move in a circle, horizontally or vertically; groups are shape and colour. From "
    "zygis009/colored-shape-action-dataset on GitHub (Apache-2.0).",
    "EgoGestAR": "Gestures that a finger draws in the air, seen by who makes them; groups are places, sorted by eye "
    "(the clips of one person in one office or one home are one). From varunj/EgoGestAR on GitHub, folder testvideo, "
    "without its class unclassified (offered as a public testing dataset; there is no licence file).",
    "fight": "Two seconds of surveillance video, of people who fight or do not; groups are the source videos, so "
    "that the people of a test clip were never seen. From seymanurakti/fight-detection-surv-dataset on GitHub (MIT).",
}
"""By the name of the folder."""
BASELINE, BLIND = "frame_differences", "pretrained_bag"
MARGIN = 0.02


class Verdicts(NamedTuple):
    """The three questions, each answered by comparisons whose p-values are adjusted together."""

    order: list[Comparison]  # of each pretrained model with their control, which knows no order
    worth: list[Comparison]  # of each contender with the baseline
    pretrained: list[Comparison]  # of the more accurate pretrained model with each network from pixels


class Measured(NamedTuple):
    """What one experiment found."""

    name: str
    predictions: Predictions
    audit: list[str]  # a sentence for each check that fires
    seconds: float


def main() -> None:
    """Run the experiments, and write the page."""
    measured = [measure(Path(folder).resolve()) for folder in sys.argv[1:]]
    write_page(DOCS / "real_clips.md", as_markdown(measured))


def measure(folder: Path) -> Measured:
    """Run all stages on a folder in a clone."""
    with temporary_clone() as clone:
        values = read_yaml(clone / "experiments/real_clips.yaml")
        values["folder"] |= {"path": str(folder), "group": find_groupings(list_clips(folder, None, None)[0])[0].pattern}
        params = clone / PARAMS
        params.write_text(update_yaml(params.read_text(encoding="utf-8"), values), encoding="utf-8")
        shutil.copytree(ROOT / BACKBONES, clone / BACKBONES, dirs_exist_ok=True)
        seconds = reproduce(clone)
        with chdir(clone):
            checks = json.loads((COMPARISON_METRICS / "audit.json").read_text(encoding="utf-8"))
            fires = [f"{each['check']}: {each['sentence']}" for each in checks if each["fires"]]
            return Measured(folder.name, read_predictions(), fires, seconds)


def judge(right: dict[str, Right], groups: Groups | None) -> Verdicts:
    """Answer the three questions from which predictions are right, shape (seeds, clips), by model."""
    contenders = contenders_among(right)
    pretrained = [name for name in contenders if reads_features(name)]
    best = max(pretrained, key=lambda name: float(right[name].mean()))
    pairs = (
        [(name, BLIND) for name in pretrained],
        [(name, BASELINE) for name in contenders],
        [(best, name) for name in contenders if name not in pretrained],
    )
    return Verdicts(*(compare_pairs(right, groups, MARGIN, each) for each in pairs))


def as_markdown(measured: Sequence[Measured]) -> list[str]:
    """Return the paragraphs of the page."""
    rows, sections = [], []
    for name, predictions, audit, seconds in measured:
        right = {model: predictions.unchanged.right(model) for model in predictions.models}
        verdicts, groups = judge(right, predictions.groups), predictions.groups
        counts = np.bincount(predictions.labels)
        rows.append(
            {
                "set": name,
                "clips, classes, groups": f"{counts.sum()}, {len(counts)}, {verdicts.order[0].units}",
                "chance": f"{counts.max() / counts.sum():.3f}",
                "order adds something": _shown(verdicts.order, any),
                "networks that beat the baseline": _leaders(verdicts.worth),
                "a pretrained model beats every network from pixels": _shown(verdicts.pretrained, all),
            }
        )
        sections += [
            f"## {name}",
            f"{SOURCES.get(name, '')} The run took {seconds / 60:.0f} minutes.".strip(),
            markdown_table(
                [
                    {
                        "model": model,
                        "role": MODELS[model].role,
                        "sees": MODELS[model].sees,
                        "accuracy": f"{each.mean():.3f}",
                        "95 % interval": "{:.3f} to {:.3f}".format(*accuracy_interval(each, groups)),
                    }
                    for model, each in right.items()
                ]
            ),
            f"**Order:** {_describe(verdicts.order)}",
            f"**The baseline:** {_describe(verdicts.worth)}",
            f"**Pretrained or from pixels:** {_describe(verdicts.pretrained)}",
            f"**Leak audit:** {'; '.join(audit) or 'nothing fires'}.",
        ]
    commit = git("rev-parse", "--short", "HEAD").strip()
    return [
        "# Real clips: three public sets",
        f"Written by `python -m benchmarks.real_clips` on {datetime.now(UTC):%Y-%m-%d} at commit `{commit}`, on "
        f"{machine()}: [experiments/real_clips.yaml](../../experiments/real_clips.yaml) on each set, five folds by "
        "group, two seeds. Intervals and tests are those of [the comparison](../own-clips.md#how-it-is-judged); the "
        "p-values of each question are adjusted for its comparisons, not for the choice of the more accurate of two "
        "pretrained models.",
        markdown_table(rows),
        *sections,
    ]


def _shown(pairs: Sequence[Comparison], enough: Callable[[Iterable[bool]], bool]) -> str:
    return "yes" if enough(pair.first_leads for pair in pairs) else "not shown"


def _leaders(pairs: Sequence[Comparison]) -> str:
    return ", ".join(pair.first for pair in pairs if pair.first_leads) or "none"


def _describe(pairs: Sequence[Comparison]) -> str:
    found = []
    for pair in pairs:
        low, high = (pair.recipes or pair.networks).interval
        sentence = f"{pair.first} {describe_lead(pair)} than {pair.second} ({pair.difference:+.3f}, 95 % interval "
        sentence += f"{low:+.3f} to {high:+.3f})"
        if not pair.leader and pair.findable:
            sentence += f", where a difference of {pair.findable:.3f} would be shown in about 80 of 100 repetitions"
        found.append(sentence)
    return f"{'; '.join(found)}."


if __name__ == "__main__":
    main()
