"""params.yaml as frozen, typed, checked objects."""

import reprlib
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    ValidationError,
    model_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from motionbench.errors import UserError

# Bounds far above what makes sense here and far below what takes a machine down.
Count = Annotated[int, Field(gt=0, le=1_000_000)]
Pixels = Annotated[int, Field(gt=0, le=10_000)]
Width = Annotated[int, Field(gt=0, le=4096)]  # of a layer
Threads = Annotated[int, Field(gt=0, le=1024)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]  # as keras and NumPy take them
CLIP_BYTES, SPLIT_BYTES = 10**9, 10**11

# strict=False only lets a YAML list become a tuple; the items stay strict.
Widths = Annotated[tuple[Width, ...], Field(strict=False, min_length=1, max_length=16)]
Seeds = Annotated[tuple[Seed, ...], Field(strict=False, min_length=1, max_length=100)]
Activation = Literal["tanh", "relu"]


class Section(BaseModel):
    """A section of params.yaml: no unknown key, no converted type, no later change."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DataParams(Section):
    """What the clips look like."""

    variant: Literal["corrected", "notebook", "motion"]
    seed: Seed
    clips_per_class: Count
    frames: Pixels
    height: Pixels
    width: Pixels
    point_size: Pixels
    jitter: Annotated[float, Field(ge=0, le=10_000)]

    @model_validator(mode="after")
    def _check_geometry(self) -> Self:
        if self.point_size % 2:
            _refuse("data.point_size", self.point_size, "an even number of pixels")
        if self.point_size + 2 > min(self.height, self.width):
            allowed = f"at most {min(self.height, self.width) - 2} in a frame of {self.height}x{self.width}"
            _refuse("data.point_size", self.point_size, allowed)
        if self.variant == "motion":
            # The smallest square is 2 pixels smaller; the largest, 2 larger, must leave a row and a column dark.
            if not 4 <= self.point_size <= min(self.height, self.width) - 3:
                allowed = f"at least 4 and 3 below the sides of the frame, {self.height}x{self.width}"
                _refuse("data.point_size", self.point_size, f"{allowed}, with data.variant: motion")
            if self.frames < 4:
                _refuse("data.frames", self.frames, "at least 4 with data.variant: motion, lest a sine look straight")
        clip = self.frames * self.height * self.width
        if clip > CLIP_BYTES:
            _refuse("data.frames", self.frames, f"at most {CLIP_BYTES // (self.height * self.width)} with such frames")
        if clip * self.clips_per_class > SPLIT_BYTES:
            _refuse("data.clips_per_class", self.clips_per_class, f"at most {SPLIT_BYTES // clip} with such clips")
        source = {"frames": 20, "height": 50, "width": 130, "point_size": 6, "jitter": 1.0}
        for key, value in source.items():
            if self.variant == "notebook" and getattr(self, key) != value:
                _refuse(f"data.{key}", getattr(self, key), f"{value}, the source's, with data.variant: notebook")
        return self


class TrainingParams(Section):
    """What the training of every model shares."""

    seeds: Seeds
    target_loss: Annotated[float, Field(ge=0)]
    patience: Count
    min_delta: Annotated[float, Field(ge=0)]
    threads: Threads

    @model_validator(mode="after")
    def _check_seeds(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            _refuse("training.seeds", list(self.seeds), "seeds that differ, one a replicate")
        return self


class ModelParams(Section):
    """What every model has: its stack of layers and its recipe."""

    filters: Widths
    kernel_sizes: Widths
    epochs: Count
    batch_size: Count
    learning_rate: PositiveFloat


class CnnLstmParams(ModelParams):
    """The CNN-LSTM."""

    wiring: Literal["layers", "cnn"]
    lstm_units: Width
    activation: Activation


class ConvLstmParams(ModelParams):
    """The ConvLSTM."""

    activation: Activation


Levels = Field(strict=False, max_length=20)
Share = Annotated[float, Field(ge=0, le=1)]
Once = Annotated[tuple[Literal[1], ...], Field(strict=False, max_length=1)]


class ConditionsParams(Section):
    """What test clips are put through, and at which levels (see `motionbench.data.conditions`)."""

    seed: Seed
    clips_per_class: Count
    pixel_noise: Annotated[tuple[Annotated[float, Field(ge=0, le=100)], ...], Levels]
    dropped_frames: Annotated[tuple[Share, ...], Levels]
    occluding_band: Annotated[tuple[Share, ...], Levels]
    shifted: Annotated[tuple[Annotated[int, Field(ge=-10_000, le=10_000)], ...], Levels]
    speed: Annotated[tuple[Annotated[float, Field(gt=0, le=100)], ...], Levels]
    distractors: Annotated[tuple[Annotated[int, Field(ge=0, le=1000)], ...], Levels]
    shuffled: Annotated[tuple[Share, ...], Levels]
    first_frames: Annotated[tuple[Pixels, ...], Levels]
    backwards: Once
    upside_down: Once


class GateParams(Section):
    """What a model must reach to become champion."""

    minimum_accuracy: Annotated[float, Field(ge=0, le=1)]
    maximum_latency: PositiveFloat


class Domain(Section):
    """The values among which a search chooses for one parameter: a list of them, or a range, both ends included."""

    choices: Annotated[tuple[int | float | str, ...], Field(strict=False, min_length=1, max_length=100)] | None = None
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

    epochs: Count
    space: Annotated[dict[str, Domain], Field(min_length=1)]
    """By key of the model's section. In a key that holds a list, each layer gets a value of its own."""


class TuningParams(Section):
    """The search that `make tune` runs."""

    study: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=100)]
    objective: Literal["loss", "pareto"]
    trials: Count
    workers: Threads
    replicates: Annotated[int, Field(gt=0, le=100)]
    seed: Seed
    startup_trials: Annotated[int, Field(ge=0, le=1_000_000)]
    warmup_epochs: Annotated[int, Field(ge=0, le=1_000_000)]
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
    single_frame: ModelParams
    bag_of_frames: ModelParams
    conditions: ConditionsParams
    gate: GateParams
    tuning: TuningParams

    @model_validator(mode="after")
    def _check_layers_fit_frames(self) -> Self:
        for name in (*MODEL_NAMES, *CONTROL_NAMES):
            _check_layers(name, self.model(name), self.data)
        return self

    def model(self, name: str) -> ModelParams:
        """Return the section of the model called `name`."""
        section = getattr(self, name)
        assert isinstance(section, ModelParams)
        return section

    def declared(self, name: str) -> dict[str, Any]:
        """Return the items of the section of the model called `name`."""
        section = self.model(name)
        return {key: getattr(section, key) for key in type(section).model_fields}


MODEL_NAMES = ("cnn_lstm", "convlstm")
CONTROL_NAMES = ("single_frame", "bag_of_frames")


def training_stage(model_name: str) -> str:
    """Return the name of the stage that trains a model."""
    return "train_controls" if model_name in CONTROL_NAMES else f"train_{model_name}"


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
                f"{path}: {location}: {_shown(value)} is not allowed: {error.errors()[0]['msg'].lower()}"
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
    leaves = flat(params)
    return {key: leaves[key] for key in declared}


def flat(params: Params) -> dict[str, Any]:
    """Return all parameters flat: {"data.seed": 0, ...}."""
    return dict(_flatten(params.model_dump()))


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
    except (YAMLError, ValueError, KeyError, RecursionError) as error:  # Some of YAML's tags raise what Python does.
        raise UserError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; run from the repository's root") from error


def _flatten(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _shown(value: object) -> str:
    try:
        text = reprlib.repr(value)
    except ValueError:
        text = "a number of thousands of digits"
    return text if len(text) <= 100 else f"{text[:100]}..."


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
        return f"{key}: {_shown(first['input'])}: unknown key; known here: {', '.join(section.model_fields)}{more}"
    return f"{key}: {_shown(first['input'])} is not allowed: {first['msg'].lower()}{more}"
