"""params.yaml as frozen, typed, checked objects."""

from collections.abc import Iterator, Mapping
from io import StringIO
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


class Domain(Section):
    """The values among which a search chooses for one parameter: a list of them, or a range, both ends included."""

    choices: Annotated[tuple[int | float | str, ...], Field(strict=False, min_length=1)] | None = None
    low: int | float | None = None
    high: int | float | None = None
    log: bool = False

    @model_validator(mode="after")
    def _check_one_kind(self) -> Self:
        if (self.choices is None) == (self.low is None) or (self.low is None) != (self.high is None):
            raise ValueError("either choices, or low and high, are needed")
        if self.low is not None and self.high is not None:
            if type(self.low) is not type(self.high):
                raise ValueError("low and high must both be whole numbers or both not")
            if self.low > self.high or (self.log and self.low <= 0):
                raise ValueError("low must not exceed high, and must be above 0 with log")
        elif self.log or len(set(self.choices or ())) < len(self.choices or ()):
            raise ValueError("choices must differ, and log is for a range")
        return self

    def __contains__(self, value: object) -> bool:
        """Tell whether the search could choose `value`."""
        if self.choices is not None:
            return value in self.choices
        assert self.low is not None
        assert self.high is not None
        return isinstance(value, type(self.low)) and self.low <= value <= self.high


class SearchParams(Section):
    """The search for one model's parameters."""

    epochs: PositiveInt
    space: Annotated[dict[str, Domain], Field(min_length=1)]
    """By key of the model's section. In a key that holds a list, each layer gets a value of its own."""


class TuningParams(Section):
    """The search that `make tune` runs."""

    study: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
    objective: Literal["loss", "pareto"]
    trials: PositiveInt
    workers: PositiveInt
    replicates: PositiveInt
    seed: NonNegativeInt
    startup_trials: NonNegativeInt
    warmup_epochs: NonNegativeInt
    keep: Annotated[float, Field(gt=0, le=1)]
    cnn_lstm: SearchParams
    convlstm: SearchParams

    def model(self, name: str) -> SearchParams:
        """Return the search for the model called `name`."""
        section = getattr(self, name)
        assert isinstance(section, SearchParams)
        return section


class Params(Section):
    """The whole of params.yaml."""

    data: DataParams
    training: TrainingParams
    cnn_lstm: CnnLstmParams
    convlstm: ConvLstmParams
    tuning: TuningParams

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
    content = read_yaml(path)
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: holds no sections; expected {', '.join(Params.model_fields)}")
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path}: {_first_line(error)}") from error


def check_search_space(params: Params, model_name: str, path: Path = Path("params.yaml")) -> None:
    """Check that every value in a model's search space can work, and that today's values are in it.

    Raises:
        UserError: naming file, key, value and what is allowed.
    """
    model = params.model(model_name)
    for key, domain in params.tuning.model(model_name).space.items():
        location = f"tuning.{model_name}.space.{key}"
        known = [field for field in type(model).model_fields if field != "epochs"]
        if key not in known:
            raise UserError(f"{path}: {location}: unknown key; known here: {', '.join(known)}")
        current = getattr(model, key)
        try:
            for value in domain.choices or (domain.low, domain.high):
                changed = {key: (value,) * len(current) if isinstance(current, tuple) else value}
                _check_layers("", type(model).model_validate(model.model_dump() | changed), params.data)
            for value in current if isinstance(current, tuple) else (current,):
                if value not in domain:
                    _refuse("", model_name, f"wide enough to hold today's {model_name}.{key}: {value}")
        except ValidationError as error:
            raise UserError(
                f"{path}: {location}: {value!r} is not allowed: {error.errors()[0]['msg'].lower()}"
            ) from error
        except _RefusedError as error:
            allowed = str(error).rpartition(" must be ")[2]
            raise UserError(f"{path}: {location}: {_describe(domain)} is not allowed: must be {allowed}") from error


def _describe(domain: Domain) -> str:
    return str(domain.model_dump(exclude_defaults=True)).replace("'", "")


def with_values(text: str, model_name: str, values: Mapping[str, Any]) -> str:
    """Return params.yaml's text with other values in a model's section; comments, order and style stay."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096  # no line is broken
    content = yaml.load(text)
    for key, value in values.items():
        section = content[model_name]
        if isinstance(value, list):
            section[key][:] = value  # In place, so that the list stays on its line.
        else:
            section[key] = value
    stream = StringIO()
    yaml.dump(content, stream)
    return stream.getvalue()


def stage_params(params: Params, stage: str, path: Path = Path("dvc.yaml")) -> dict[str, Any]:
    """Return the parameters that dvc.yaml declares for `stage`, flat: {"data.seed": 0, ...}."""
    declared = read_yaml(path)["stages"][stage]["params"]
    leaves = dict(_flatten(params.model_dump()))
    return {key: leaves[key] for key in declared}


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        UserError: if the file is missing or not readable.
    """
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
            # Below a space, which is a dict by key, stand domains.
            section = section.model_fields[part].annotation if hasattr(section, "model_fields") else Domain
        return f"{key}: {first['input']!r}: unknown key; known here: {', '.join(section.model_fields)}{more}"
    return f"{key}: {first['input']!r} is not allowed: {first['msg'].lower()}{more}"
