"""params.yaml as frozen, typed, checked objects. Registries give the sections of data sets, models, perturbations."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import Field, PositiveFloat, create_model, model_validator
from pydantic_core import PydanticCustomError

from motionbench.core.schema import Count, Section, Seed, Seeds, Share, Threads, refusal
from motionbench.data.augmentation import AugmentationParams
from motionbench.data.folder.params import FolderParams
from motionbench.data.label_maps import label_map
from motionbench.data.params import DataParams, DatasetParams
from motionbench.data.perturbations import PERTURBATIONS
from motionbench.data.splits import DatasetInfo
from motionbench.data.synthetic.params import SyntheticParams
from motionbench.models.registry import (
    CONTENDERS,
    MODEL_NAMES,
    MODELS,
    SEARCHABLE,
    BackboneParams,
    contenders_among,
    reads_features,
)

DATASETS: dict[str, type[DatasetParams]] = {"synthetic": SyntheticParams, "folder": FolderParams}
"""The kinds of data sets: by the value of `data.source`, the section of that name. `pipeline.generate` makes them."""


class TrainingParams(Section):
    """The settings of training that all models share."""

    seeds: Seeds
    target_loss: Annotated[float, Field(ge=0)]
    patience: Count
    min_delta: Annotated[float, Field(ge=0)]
    threads: Threads
    class_weights: Literal["none", "balanced"]
    augmentation: AugmentationParams

    @model_validator(mode="after")
    def _check_seeds(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise refusal("training.seeds", list(self.seeds), "seeds that differ, one per replicate")
        return self


class PerturbationsParams(Section):
    """How `evaluate` perturbs test clips, and at which levels: a key for each function in `data.perturbations`."""

    seed: Seed
    clips_per_class: Count

    def settings(self, dataset: DatasetInfo) -> list[tuple[str, float]]:
        """Return name and level of all perturbations for clips of a data set, in the order of the registry.

        Those are left out that may change the right answers in a way that is not known.
        """
        return [
            (name, float(level))
            for name, perturbation in PERTURBATIONS.items()
            for level in dict.fromkeys(getattr(self, name))
            if perturbation.change is None or label_map(dataset, perturbation.change) is not None
        ]


class GateParams(Section):
    """What a model must reach to become champion."""

    minimum_accuracy: Share
    maximum_latency: PositiveFloat
    margin: Annotated[float, Field(gt=0, lt=1)]


class Domain(Section):
    """The values among which a search chooses for one parameter: a list of them, or a range, both ends included."""

    choices: (
        Annotated[tuple[bool | int | float | str, ...], Field(strict=False, min_length=1, max_length=100)] | None
    ) = None
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
        """Return whether the search could choose `value`."""
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
    """The search that `make tune` runs. Each contender may have a section of its own; `default` is for the others."""

    study: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=100)]
    maximum_latency: Annotated[float, Field(gt=0)] | None
    trials: Count
    workers: Threads
    replicates: Annotated[int, Field(gt=0, le=100)]
    seed: Seed
    startup_trials: Annotated[int, Field(ge=0, le=1_000_000)]
    warmup_epochs: Annotated[int, Field(ge=0, le=1_000_000)]
    pruner_top_fraction: Annotated[float, Field(gt=0, le=1)]
    default: SearchParams

    def section(self, model_name: str) -> str:
        """Return the name of the section that describes the search for a model's parameters."""
        return model_name if getattr(self, model_name) else "default"

    def model(self, model_name: str) -> SearchParams:
        """Return the search for the parameters of the model called `model_name`."""
        return cast("SearchParams", getattr(self, self.section(model_name)))


class Params(Section):
    """The whole of params.yaml. `ParamsSchema` adds a section for each data set and each model of the registries."""

    data: DataParams
    backbone: BackboneParams
    training: TrainingParams
    perturbations: PerturbationsParams
    gate: GateParams
    tuning: TuningParams

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.data.source not in DATASETS:
            raise refusal("data.source", self.data.source[:100], f"one of {', '.join(DATASETS)}")
        if getattr(self, self.data.source) is None:
            raise PydanticCustomError("refused", "{section}: missing; add it", {"section": self.data.source})
        self.data.check_size()
        self.dataset().check_data(self.data)
        if (jitter := self.training.augmentation.time_jitter) >= self.data.frames:
            allowed = f"below data.frames: {self.data.frames}"
            raise refusal("training.augmentation.time_jitter", jitter, allowed)
        off = [name for name in MODEL_NAMES if name not in self.enabled_models()]
        read = {MODELS[name].reads for name in contenders_among(self.enabled_models())} | {"pixels"}
        for name in off:
            if MODELS[name].role != "contender" and MODELS[name].reads in read:
                raise refusal(f"{name}.enabled", False, "true: every comparison needs the baseline and the controls")
        if "features" in read and (settings := [(key, value) for key, value in self.training.augmentation if value]):
            allowed = "null or 0 while a pretrained model is on: features are made once, of the clips as they are"
            raise refusal(f"training.augmentation.{settings[0][0]}", settings[0][1], allowed)
        if len(contenders_among(self.enabled_models())) < 2:
            raise refusal(f"{off[0]}.enabled", False, f"true for at least two of {', '.join(CONTENDERS)}")
        for name in self.enabled_models():
            self.model(name).check_frames(name, self.data)
        return self

    def dataset(self) -> DatasetParams:
        """Return the section of the data set."""
        return cast("DatasetParams", getattr(self, self.data.source))

    def model(self, model_name: str) -> Any:
        """Return the section of the model called `model_name`, of the class that the registry names."""
        return getattr(self, model_name)

    def untracked_files(self) -> list[Path]:
        """Return the files and folders that stages read and that a clone of the repository lacks.

        Raises:
            UserError: if a backbone is needed, and missing.
        """
        backbones = [self.backbone.archive()] if self.reads_features() else []
        return [*self.dataset().untracked_clips(), *(path for path in backbones if not path.is_absolute())]

    def reads_features(self) -> bool:
        """Return whether a model is on that reads the features of a backbone."""
        return True in [self.model(name).enabled for name in MODEL_NAMES if reads_features(name)]

    def enabled_models(self) -> list[str]:
        """Return the models that are trained and compared."""
        return [name for name in MODEL_NAMES if self.model(name).enabled]


_levels: dict[str, Any] = {
    name: (Annotated[tuple[perturbation.level, ...], Field(strict=False, max_length=perturbation.most_levels)], ...)  # type: ignore[name-defined] # a type that the decorator was given
    for name, perturbation in PERTURBATIONS.items()
}
_searches: dict[str, Any] = dict.fromkeys(SEARCHABLE, (SearchParams | None, None))
# Each has the name of its variable, so that it can be pickled for other processes.
PerturbationsSchema = create_model("PerturbationsSchema", __base__=PerturbationsParams, __module__=__name__, **_levels)
TuningSchema = create_model("TuningSchema", __base__=TuningParams, __module__=__name__, **_searches)
_registered: dict[str, Any] = {"perturbations": (PerturbationsSchema, ...), "tuning": (TuningSchema, ...)}
_registered |= {name: (section | None, None) for name, section in DATASETS.items()}
_registered |= {name: (MODELS[name].params, ...) for name in MODEL_NAMES}
ParamsSchema = create_model("ParamsSchema", __base__=Params, __module__=__name__, **_registered)
