from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from motionbench.core.files import read_yaml
from motionbench.data.perturbations import PERTURBATIONS
from motionbench.models.registry import CONTENDERS, MODEL_NAMES
from motionbench.params.loading import load_params
from motionbench.params.schema import Domain, Params, ParamsSchema, PerturbationsSchema, SearchParams, TuningSchema
from tests.conftest import ROOT

Load = Callable[[dict[str, Any]], Params]


def test_params_cannot_change_later() -> None:
    params = load_params(ROOT / "params.yaml")
    with pytest.raises(ValidationError, match="frozen"):
        params.data.seed = 1  # type: ignore[misc] # the point of the test


def test_every_model_and_perturbation_has_its_key() -> None:
    assert set(ParamsSchema.model_fields) - set(Params.model_fields) == set(MODEL_NAMES)
    assert set(PerturbationsSchema.model_fields) == {"seed", "clips_per_class", *PERTURBATIONS}
    assert set(CONTENDERS) < set(TuningSchema.model_fields)


@pytest.mark.parametrize("name", CONTENDERS)
def test_tuning_default_is_for_contenders_without_a_section(name: str) -> None:
    content = read_yaml(ROOT / "params.yaml")["tuning"]
    own = content.pop(name)
    without = TuningSchema.model_validate(content)
    assert without.section(name) == "default"
    assert without.model(name) == without.default == SearchParams.model_validate(content["default"])
    with_its_own = TuningSchema.model_validate({**content, name: own})
    assert with_its_own.section(name) == name
    assert with_its_own.model(name) == SearchParams.model_validate(own)


def test_settings_are_in_the_order_of_the_registry(params_with: Load) -> None:
    names = [name for name, _ in params_with({}).perturbations.settings()]
    assert list(dict.fromkeys(names)) == list(PERTURBATIONS)
    assert params_with({"perturbations.speed": [3.0, 0.5]}).perturbations.settings().index(("speed", 0.5)) == (
        params_with({"perturbations.speed": [3.0]}).perturbations.settings().index(("speed", 3.0)) + 1
    )


@pytest.mark.parametrize(
    ("domain", "inside", "outside"),
    [
        ({"low": 2, "high": 8}, [2, 5, 8], [1, 9, 5.0]),
        ({"low": 0.1, "high": 1.0, "log": True}, [0.1, 0.5, 1.0], [0.05, 1.1, 1]),
        ({"choices": ["tanh", "relu"]}, ["tanh"], ["sigmoid", 1]),
    ],
)
def test_a_domain_contains_the_values_of_its_range(
    domain: dict[str, Any], inside: list[Any], outside: list[Any]
) -> None:
    found = Domain.model_validate(domain)
    assert all(value in found for value in inside)
    assert not any(value in found for value in outside)
