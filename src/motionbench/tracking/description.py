"""What MLflow's pages show of a run beside its figures: who ran it, from where, what it is, its colour."""

import getpass
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from motionbench.core.dvc_files import Stage, run_again
from motionbench.core.errors import UserError
from motionbench.core.paths import COMPARISON_REPORT, ReplicateKey
from motionbench.core.processes import describe_environment, git, this_process
from motionbench.models.registry import MODEL_NAMES, MODELS

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999", "#f0e442")
"""Of models, also for colour-blind readers: Okabe and Ito (2008), and a grey."""


def source_tags(stage: str) -> dict[str, str]:
    """Return the tags that say where a run comes from: person, code, commit, experiment, environment, process."""
    changes, commit = "", "unknown"
    try:
        # Without what DVC itself writes: it changes neither code nor parameters.
        changes = git("status", "--porcelain", "--", ".", ":!dvc.lock", ":!metrics")
        with suppress(UserError):  # before the first commit
            commit = git("rev-parse", "HEAD").strip()
    except UserError as error:
        if Path(".git").exists():
            print(f"warning: the run in MLflow names no commit: {error}", file=sys.stderr)
    return {
        **restored_tags(stage, commit),
        "git.dirty": str(bool(changes)).lower(),
        "dvc.experiment": os.environ.get("DVC_EXP_NAME", ""),
        "environment": ", ".join(describe_environment()),
        **{f"process.{key}": value for key, value in this_process().items()},
    }


def restored_tags(stage: str, commit: str) -> dict[str, str]:
    """Return those that a run which is logged from files has too: who logs it, code, branch, commit."""
    user, branch = "unknown", ""
    with suppress(OSError, KeyError):  # a container whose user has no name
        user = getpass.getuser()
    with suppress(UserError):
        branch = git("branch", "--show-current").strip()
    return {
        "mlflow.user": user,
        "mlflow.source.name": f"pipeline/{'train' if stage.startswith('train_') else stage}.py",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.branch": branch,
        "mlflow.source.git.commit": commit,
        "dvc.stage": stage,
    }


def describe_run(stage: Stage, found: Sequence[str] = ()) -> str:
    """Return a stage's run as Markdown: what it is, what it found, its pictures, the command that repeats it.

    Markdown can load pictures from elsewhere, so that it must not hold names of the user's.
    """
    folders = ", ".join(f"`{out}`" for out in stage.outs if out.startswith("reports/"))
    drawn = ", ".join(sorted(picture.name for picture in COMPARISON_REPORT.glob("*.png")))
    pictures = f"Pictures, among the artifacts: {folders}{f' ({drawn})' if found else ''}" if folders else ""
    what = [f"{stage.description}.", *found, pictures, f"To repeat it: `{run_again(stage.name)}`"]
    return "\n\n".join(filter(None, what))[:5000]


def replicate_tags(model_name: str, key: ReplicateKey, stage: str) -> dict[str, str]:
    """Return the description and the colour of a replicate's run."""
    entry = MODELS[model_name]
    what = f"{model_name}, {key}: one network of this {entry.role}, which sees {entry.sees}."
    return {
        "mlflow.note.content": f"{what}\n\nTo repeat it, with those of the other seeds: `{run_again(stage)}`",
        "mlflow.runColor": COLOURS[MODEL_NAMES.index(model_name) % len(COLOURS)],
    }
