"""params.yaml as frozen, typed, checked objects."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from motionbench.errors import UserError

# strict=False only lets a YAML list become a tuple; the items stay strict.
PositiveInts = Annotated[tuple[PositiveInt, ...], Field(strict=False, min_length=1)]
Seeds = Annotated[tuple[NonNegativeInt, ...], Field(strict=False, min_length=1)]
Activation = Literal["tanh", "relu"]


class Section(BaseModel):
    """A section of params.yaml: no unknown key, no converted type, no later change."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DataParams(Section):
    """What the clips look like."""

    variant: Literal["corrected", "notebook"]
    seed: NonNegativeInt
    clips_per_class: PositiveInt
    frames: PositiveInt
    height: PositiveInt
    width: PositiveInt
    point_size: PositiveInt
    jitter: Annotated[float, Field(ge=0)]

    @model_validator(mode="after")
    def _check_geometry(self) -> Self:
        if self.point_size % 2:
            _refuse("data.point_size", self.point_size, "an even number of pixels")
        if self.point_size + 2 > min(self.height, self.width):
            allowed = f"at most {min(self.height, self.width) - 2} in a frame of {self.height}x{self.width}"
            _refuse("data.point_size", self.point_size, allowed)
        source = {"frames": 20, "height": 50, "width": 130, "point_size": 6, "jitter": 1.0}
        for key, value in source.items():
            if self.variant == "notebook" and getattr(self, key) != value:
                _refuse(f"data.{key}", getattr(self, key), f"{value}, the source's, with data.variant: notebook")
        return self


class TrainingParams(Section):
    """What the training of every model shares."""

    seeds: Seeds
    target_loss: Annotated[float, Field(ge=0)]
    patience: PositiveInt
    min_delta: Annotated[float, Field(ge=0)]
    threads: PositiveInt

    @model_validator(mode="after")
    def _check_seeds(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            _refuse("training.seeds", list(self.seeds), "seeds that differ, one a replicate")
        return self


class ModelParams(Section):
    """What every model has: its stack of layers and its recipe."""

    filters: PositiveInts
    kernel_sizes: PositiveInts
    activation: Activation
    epochs: PositiveInt
    batch_size: PositiveInt
    learning_rate: PositiveFloat


class CnnLstmParams(ModelParams):
    """The CNN-LSTM."""

    wiring: Literal["layers", "cnn"]
    lstm_units: PositiveInt


class ConvLstmParams(ModelParams):
    """The ConvLSTM."""


class Params(Section):
    """The whole of params.yaml."""

    data: DataParams
    training: TrainingParams
    cnn_lstm: CnnLstmParams
    convlstm: ConvLstmParams

    @model_validator(mode="after")
    def _check_layers_fit_frames(self) -> Self:
        for name in MODEL_NAMES:
            _check_layers(name, self.model(name), self.data)
        return self

    def model(self, name: str) -> ModelParams:
        """Return the section of the model called `name`."""
        section = getattr(self, name)
        assert isinstance(section, ModelParams)
        return section


MODEL_NAMES = ("cnn_lstm", "convlstm")


class _RefusedError(ValueError):
    """A value that the checks across keys refuse; the message names key, value and what is allowed."""


def _refuse(key: str, value: object, allowed: str) -> None:
    raise _RefusedError(f"{key}: {value} is not allowed: must be {allowed}")


def _check_layers(section: str, model: ModelParams, data: DataParams) -> None:
    if len(model.filters) != len(model.kernel_sizes):
        allowed = f"as long as {section}.filters {list(model.filters)}"
        _refuse(f"{section}.kernel_sizes", list(model.kernel_sizes), allowed)
    height, width = data.height, data.width
    for number, kernel_size in enumerate(model.kernel_sizes, start=1):
        if min(height, width) < 2:
            allowed = f"at most {number - 1} layers long: pooling leaves {height}x{width} pixels to layer {number}"
            _refuse(f"{section}.filters", list(model.filters), allowed)
        if kernel_size > min(height, width):
            allowed = f"at most {min(height, width)} at layer {number}, whose frames have {height}x{width} pixels"
            _refuse(f"{section}.kernel_sizes", list(model.kernel_sizes), allowed)
        height, width = height // 2, width // 2


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check the parameters.

    Raises:
        UserError: naming file, key, value and what is allowed.
    """
    content = _read_yaml(path)
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: holds no sections; expected {', '.join(Params.model_fields)}")
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path}: {_first_line(error)}") from error


def stage_params(params: Params, stage: str, path: Path = Path("dvc.yaml")) -> dict[str, Any]:
    """Return the parameters that dvc.yaml declares for `stage`, flat: {"data.seed": 0, ...}."""
    declared = _read_yaml(path)["stages"][stage]["params"]
    leaves = dict(_flatten(params.model_dump()))
    return {key: leaves[key] for key in declared}


def _read_yaml(path: Path) -> Any:
    try:
        return YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}: not readable as YAML: {error.problem}") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; run from the repository's root") from error


def _flatten(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _first_line(error: ValidationError) -> str:
    first, *others = error.errors()
    more = f" (and {len(others)} more)" if others else ""
    if isinstance(cause := first.get("ctx", {}).get("error"), _RefusedError):
        return f"{cause}{more}"
    location = [str(part) for part in first["loc"]]
    key = ".".join(location)
    if first["type"] == "missing":
        return f"{key}: missing; add it{more}"
    if first["type"] == "extra_forbidden":
        section: Any = Params
        for part in location[:-1]:
            section = section.model_fields[part].annotation
        return f"{key}: {first['input']!r}: unknown key; known here: {', '.join(section.model_fields)}{more}"
    return f"{key}: {first['input']!r} is not allowed: {first['msg'].lower()}{more}"
