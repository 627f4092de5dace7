"""What dvc.yaml declares of each stage, and what dvc.lock records of the last run of each."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from motionbench.core.errors import UserError
from motionbench.core.files import read_yaml
from motionbench.core.paths import CLIPS, DVC_LOCK, DVC_YAML, MODELS, PARAMS, STAGE_INPUTS, WALL_CLOCK


class Stage(NamedTuple):
    """A stage as dvc.yaml declares it."""

    name: str
    command: str
    deps: list[str]
    outs: list[str]
    params: list[str]  # whole sections of params.yaml, or keys as in "data.seed"
    description: str  # what it does

    def declares(self, key: str) -> bool:
        """Return whether a flat key of params.yaml, as "data.seed", is among the parameters of the stage."""
        return any(key == each or key.startswith(f"{each}.") for each in self.params)

    def model_names(self) -> list[str]:
        """Return the models that the stage trains."""
        return [Path(out).name for out in self.outs if Path(out).parent == MODELS]


class StageLock(NamedTuple):
    """What dvc.lock records of a stage that ran."""

    stage: str
    command: str
    deps: dict[str, str]  # by path, the md5 of what the stage read, and in `outs` of what it wrote
    outs: dict[str, str]
    params: dict[str, Any]  # flat: {"data.seed": 0, ...}

    def data(self) -> dict[str, str]:
        """Return the md5s of the clips that `generate` made among what the stage read."""
        return {path: md5 for path, md5 in self.deps.items() if Path(path) in CLIPS}


def read_stages(path: Path = DVC_YAML) -> dict[str, Stage]:
    """Return the stages of dvc.yaml with outputs by name, in their order, with values of params.yaml for ${...}.

    A path into the repository is relative, as in dvc.lock.

    Raises:
        UserError: if params.yaml lacks such a value.
    """
    values = flatten(read_yaml(path.with_name(PARAMS.name)))

    def filled(texts: list[str]) -> list[str]:
        try:
            return [re.sub(r"\$\{(.+?)\}", lambda match: str(values[match[1]]), text) for text in texts]
        except KeyError as error:
            raise UserError(f"{PARAMS}: {error.args[0]}: missing; add it") from error

    return {
        name: Stage(
            name=name,
            command=declared["cmd"],
            deps=[_relative(dep) for dep in filled(declared.get("deps", []))],
            outs=[out if isinstance(out, str) else next(iter(out)) for out in declared["outs"]],
            params=filled(declared.get("params", [])),
            description=declared.get("desc", name),
        )
        for name, declared in read_yaml(path)["stages"].items()
        if "outs" in declared
    }


def _relative(path: str) -> str:
    return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else path


def training_stage(model_name: str) -> str:
    """Return the name of the stage that trains a model, for messages."""
    names = (stage.name for stage in read_stages().values() if model_name in stage.model_names())
    return next(names, f"train_{model_name}")


def run_again(stage: str) -> str:
    """Return the command that runs a stage again, and none before it, for messages."""
    return f"dvc repro --single-item --force {stage}"


def is_wall_clock(out: str) -> bool:
    """Return whether an output holds measured times, and so is not deterministic."""
    return any(Path(out).is_relative_to(path) for path in WALL_CLOCK)


def is_result(out: str) -> bool:
    """Return whether an output is a result: neither measured times nor what a stage used, which may be other code."""
    return not is_wall_clock(out) and not Path(out).is_relative_to(STAGE_INPUTS)


def read_lock(path: Path = DVC_LOCK) -> dict[str, StageLock]:
    """Read a dvc.lock, by stage.

    Raises:
        UserError: if it is missing or damaged.
    """
    if not path.exists():
        raise UserError(f"{path}: missing; create it: dvc repro")
    return parse_lock(read_yaml(path), str(path))


def parse_lock(content: Any, place: str) -> dict[str, StageLock]:
    """Return the content of a dvc.lock by stage; `place` names it in messages.

    Raises:
        UserError: if it is damaged.
    """
    try:
        return {
            stage: StageLock(
                stage=stage,
                command=entry["cmd"],
                deps={dep["path"]: dep["md5"] for dep in entry.get("deps", [])},
                outs={out["path"]: out["md5"] for out in entry.get("outs", [])},
                params=flatten(entry.get("params", {}).get(str(PARAMS), {})),
            )
            for stage, entry in content["stages"].items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{place}: not readable ({error!r}); create it again: dvc repro") from error


def flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one: {"data": {"seed": 0}} becomes {"data.seed": 0}."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
