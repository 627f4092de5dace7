"""Other values for params.yaml: edits that keep its comments, order and style, and experiments."""

import json
import re
from collections.abc import Mapping
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.representer import RoundTripRepresenter

from motionbench.core.dvc_files import flatten
from motionbench.core.errors import UserError
from motionbench.core.files import read_yaml
from motionbench.core.paths import EXPERIMENTS, PARAMS
from motionbench.params.loading import check_params
from motionbench.params.schema import Params


class _NullRepresenter(RoundTripRepresenter):
    """Writes what is not set as null; by default its value would be left out."""


_NullRepresenter.add_representer(
    type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
)


def update_yaml(text: str, changes: Mapping[str, Any]) -> str:
    """Return the text of params.yaml with other values, by section: {"convlstm": {"filters": [4, 4]}}."""
    yaml = YAML()
    yaml.Representer = _NullRepresenter
    yaml.preserve_quotes = True
    yaml.width = 4096  # no line is broken
    content = yaml.load(text)
    _update(content, changes)
    stream = StringIO()
    yaml.dump(content, stream)
    return stream.getvalue()


def read_experiment(name: str) -> tuple[dict[str, Any], Params]:
    """Return the values that an experiment changes, flat: {"data.frames": 12, ...}; and all parameters with them.

    Raises:
        UserError: if there is no such experiment, or if params.yaml with its values would be refused.
    """
    path = EXPERIMENTS / f"{name}.yaml"
    known = sorted(each.stem for each in EXPERIMENTS.glob("*.yaml"))
    if name not in known:
        raise UserError(
            f"NAME: {name or 'missing'}; expected one of {', '.join(known)}; a new one is a new file in {EXPERIMENTS}/"
        )
    if re.search(r"[\s~^:?*\[\\]|@\{|^[-.]|\.\.|\.(lock)?$", name):
        raise UserError(f"{path}: DVC takes no experiment of this name; rename it with letters, digits, - and _ only")
    overlay = read_yaml(path)
    if not isinstance(overlay, Mapping) or not overlay:
        raise UserError(f"{path}: holds no sections; give values to change, as in params.yaml")
    content = read_yaml(PARAMS)
    if isinstance(content, Mapping):
        _update(content, overlay)
    return flatten(overlay), check_params(content, path)


def overrides(values: Mapping[str, Any]) -> list[str]:
    """Return flat values as arguments of `dvc exp run --set-param`: Hydra's overrides, also of keys that are new."""
    return [f"++{key}={_literal(value)}" for key, value in values.items()]


def _literal(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_literal, value))}]"
    if isinstance(value, str):  # Backslashes count as such, but for those before a quote or what would be a reference.
        escaped = re.sub(r'(\\*)(\$\{|"|$)', lambda found: 2 * found[1] + (found[2] and f"\\{found[2]}"), value)
        return f'"{escaped}"'
    return json.dumps(value)


def _update(section: Any, changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        current = section.get(key)
        if isinstance(value, Mapping) and isinstance(current, Mapping):
            _update(current, value)
        elif isinstance(value, list) and isinstance(current, list):
            current[:] = value  # In place, so that the list stays on its line.
        else:
            section[key] = value
