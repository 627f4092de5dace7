"""Experiments side by side, as DVC knows them from git: what each changed, and what came of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from motionbench.params import MODEL_NAMES

HEADER = ["experiment", "changed", *MODEL_NAMES, "difference", "better"]


def leaderboard_rows(experiments: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[list[str]]:
    """Return a row an experiment, in the order of `HEADER`, the one with the most accurate model first.

    Args:
        experiments: as `dvc.api.exp_show` returns them, the workspace first.
        keys: of the parameters, as in "data.seed".
    """
    workspace = experiments[0]
    # Where there is no result, DVC puts nothing or a mark.
    finished = [each for each in experiments if isinstance(each.get("difference.accuracy"), float)]
    ranked = sorted(finished, key=lambda each: -max(each[f"{name}.accuracy"] for name in MODEL_NAMES))
    return [
        [
            each["Experiment"] or each["rev"],
            "\n".join(_assigned(key, each[key]) for key in keys if each.get(key) != workspace.get(key)) or "-",
            *(f"{each[f'{name}.accuracy']:.4f}" for name in MODEL_NAMES),
            f"{each['difference.accuracy']:+.3f} ({each['difference.low']:+.3f} to {each['difference.high']:+.3f})",
            each["difference.better"] if each["difference.better"] in MODEL_NAMES else "-",
        ]
        for each in ranked
    ]


def _assigned(key: str, value: Any) -> str:
    return f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
