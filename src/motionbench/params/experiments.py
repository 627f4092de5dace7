"""Experiments: files that overlay params.yaml with other values."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from motionbench.core.dvc_files import flatten
from motionbench.core.errors import UserError
from motionbench.core.files import read_yaml
from motionbench.core.paths import EXPERIMENTS, PARAMS
from motionbench.params.loading import check_params


def read_experiment(name: str, folder: Path = EXPERIMENTS) -> dict[str, Any]:
    """Return the values that an experiment changes, flat: {"data.variant": "motion", ...}.

    Raises:
        UserError: if there is no such experiment, or if params.yaml with its values would be refused.
    """
    path = folder / f"{name}.yaml"
    known = sorted(each.stem for each in folder.glob("*.yaml"))
    if name not in known:
        raise UserError(f"NAME: {name or 'nothing'} is not one of {', '.join(known)}; a new experiment is a new {path}")
    overlay = read_yaml(path)
    if not isinstance(overlay, Mapping) or not overlay:
        raise UserError(f"{path}: holds no sections; give values to change, as in params.yaml")
    check_params(_merge(read_yaml(PARAMS), overlay), path)
    return flatten(overlay)


def _merge(base: Any, overlay: Any) -> Any:
    if isinstance(base, Mapping) and isinstance(overlay, Mapping):
        return {**base, **{key: _merge(base.get(key), value) for key, value in overlay.items()}}
    return overlay
