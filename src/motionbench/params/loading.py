"""Read and check params.yaml; each error is one line."""

import os
import reprlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from motionbench.core.dvc_files import flatten, read_stages
from motionbench.core.errors import UserError
from motionbench.core.files import read_yaml
from motionbench.core.paths import BACKBONES, PARAMS
from motionbench.core.processes import RAY_ADDRESS
from motionbench.params.schema import Params, ParamsSchema


def load_params(path: Path = PARAMS) -> Params:
    """Read and check the parameters.

    Raises:
        UserError: naming file, key, value and what is allowed.
    """
    params = check_params(read_yaml(path), path)
    if os.environ.get(RAY_ADDRESS) and params.reads_features() and Path(params.backbone.path).is_absolute():
        raise UserError(
            f"{path}: backbone.path: {params.backbone.path}: machines of a cluster get files of the repository alone; "
            f"copy it to {BACKBONES}, or unset {RAY_ADDRESS}"
        )
    return params


def check_params(content: Any, path: Path) -> Params:
    """Check the content of params.yaml; `path` names it in messages.

    Raises:
        UserError: naming file, key, value and what is allowed.
    """
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: holds no sections; expected {', '.join(ParamsSchema.model_fields)}")
    try:
        return ParamsSchema.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path}: {_first_line(error)}") from error


def shown(value: object) -> str:
    """Return a value as text for messages, at most 100 characters."""
    try:
        text = reprlib.repr(value)
    except ValueError:
        text = "a number of thousands of digits"
    return text if len(text) <= 100 else f"{text[:100]}..."


def _first_line(error: ValidationError) -> str:
    # An unknown key may be a known one that is misspelled, and is missing for that.
    first, *others = sorted(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    more = f" (and {len(others)} more)" if others else ""
    key = ".".join(str(part) for part in first["loc"])
    match first["type"]:
        case "refused":
            return f"{first['msg']}{more}"
        case "missing":
            return f"{key}: missing; add it{more}"
        case "extra_forbidden":
            known = ", ".join(_known_keys(first["loc"][:-1]))
            return f"{key}: {shown(first['input'])}: unknown key; known here: {known}{more}"
    return f"{key}: {shown(first['input'])} is not allowed: {first['msg'][0].lower()}{first['msg'][1:]}{more}"


@cache
def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the section at `location`, as the JSON schema has them."""
    schema = ParamsSchema.model_json_schema()
    section: Any = schema
    for part in location:
        section = section["properties"][part] if "properties" in section else section["additionalProperties"]
        section = next((each for each in section.get("anyOf", []) if "$ref" in each), section)
        if "$ref" in section:
            section = schema["$defs"][section["$ref"].rpartition("/")[2]]
    return list(section["properties"])


def stage_params(params: Params, stage: str) -> dict[str, Any]:
    """Return the parameters that dvc.yaml declares for `stage` and params.yaml has, flat: {"data.seed": 0, ...}."""
    declared = read_stages()[stage]
    values = flatten(params.model_dump(exclude_unset=True))
    return {key: value for key, value in values.items() if declared.declares(key)}
