"""The search space of a model: checked before any work, without Optuna; and what a trial draws from it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from motionbench.core.errors import UserError
from motionbench.core.paths import PARAMS
from motionbench.core.schema import refusal
from motionbench.params.loading import shown
from motionbench.params.schema import Params

NOT_SEARCHED = ("enabled", "epochs")  # keys of a model's section


def check_search_space(params: Params, model_name: str, path: Path = PARAMS) -> None:
    """Check that every value in a model's search space can work, and that its current values are in it.

    Raises:
        UserError: naming file, key, value and what is allowed.
    """
    model = params.model(model_name)
    for key, domain in params.tuning.model(model_name).space.items():
        location = f"tuning.{params.tuning.section(model_name)}.space.{key}"
        known = [field for field in type(model).model_fields if field not in NOT_SEARCHED]
        if key not in known:
            raise UserError(f"{path}: {location}: unknown key; known here: {', '.join(known)}")
        current = getattr(model, key)
        try:
            for value in domain.choices or (domain.low, domain.high):
                changed = {key: (value,) * len(current) if isinstance(current, tuple) else value}
                type(model).model_validate(model.model_dump() | changed).check_frames(model_name, params.data)
            for value in current if isinstance(current, tuple) else (current,):
                if value not in domain:
                    raise refusal("", "", f"wide enough to hold today's {model_name}.{key}: {value}")
        except ValidationError as error:
            raise UserError(
                f"{path}: {location}: {shown(value)} is not allowed: {error.errors()[0]['msg'].lower()}"
            ) from error
        except PydanticCustomError as error:
            allowed = (error.context or {})["allowed"]
            given = str(domain.model_dump(exclude_defaults=True)).replace("'", "")
            raise UserError(f"{path}: {location}: {given} is not allowed: must be {allowed}") from error


def model_values(drawn: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a trial drew as values of the model's section: {"filters": [3, 5, 4], "learning_rate": 0.00312}.

    Numbers that are not whole are rounded to four digits, which is how trials use them and params.yaml gets them.
    """
    values: dict[str, Any] = {}
    for name, exact in drawn.items():
        value = float(f"{exact:.4g}") if isinstance(exact, float) else exact
        key, _, layer = name.partition(".")
        if layer:
            values.setdefault(key, []).append(value)
        else:
            values[key] = value
    return values
