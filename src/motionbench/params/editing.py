"""Changes to params.yaml that keep its comments, order and style."""

from collections.abc import Mapping
from io import StringIO
from typing import Any

from ruamel.yaml import YAML


def update_yaml(text: str, changes: Mapping[str, Any]) -> str:
    """Return the text of params.yaml with other values, by section: {"convlstm": {"filters": [4, 4]}}."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096  # no line is broken
    content = yaml.load(text)
    _update(content, changes)
    stream = StringIO()
    yaml.dump(content, stream)
    return stream.getvalue()


def _update(section: Any, changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        current = section.get(key)
        if isinstance(value, Mapping) and isinstance(current, Mapping):
            _update(current, value)
        elif isinstance(value, list) and isinstance(current, list):
            current[:] = value  # In place, so that the list stays on its line.
        else:
            section[key] = value
