"""The models: their sections of params.yaml and their roles.

A new model is an entry here, its layers in `networks.py`, a section of params.yaml and a stage of dvc.yaml
(docs/adding-a-model.md). Nothing here imports TensorFlow, so that a wrong parameter is reported quickly.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, PositiveFloat

from motionbench.core.errors import UserError
from motionbench.core.schema import Count, InputPath, Pixels, Section, Share, Width, Widths, refusal
from motionbench.data.params import DataParams

Activation = Literal["tanh", "relu"]


class ModelParams(Section):
    """The keys of every model."""

    enabled: bool = True  # false: only allowed for contenders, of which at least two stay
    epochs: Count

    def check_frames(self, section: str, data: DataParams) -> None:
        """Check what depends on the clips' shape.

        Raises:
            PydanticCustomError: naming the key below `section`, its value and what is allowed.
        """


class LogisticParams(ModelParams):
    """A model whose last layer is a logistic regression; an epoch is a strength of its regularization."""


class GradientParams(ModelParams):
    """The training settings of a network that learns by gradient descent."""

    dropout: Annotated[float, Field(ge=0, lt=1)]
    batch_size: Count
    learning_rate: PositiveFloat
    learning_rate_schedule: Literal["constant", "cosine"]
    weight_decay: Share


class CnnParams(GradientParams):
    """A stack of convolutions, each followed by a 2x2 pooling."""

    downsample: Pixels = 1  # side of the squares of pixels whose mean the network sees
    standardize: bool = False  # each clip less its mean over time, divided by its deviation
    filters: Widths
    kernel_sizes: Widths
    batch_normalization: bool

    def check_frames(self, section: str, data: DataParams) -> None:
        """Check that the stack of layers fits the frames."""
        if len(self.filters) != len(self.kernel_sizes):
            allowed = f"as long as {section}.filters {list(self.filters)}"
            raise refusal(f"{section}.kernel_sizes", list(self.kernel_sizes), allowed)
        height, width = data.height // self.downsample, data.width // self.downsample
        for number, kernel_size in enumerate(self.kernel_sizes, start=1):
            if min(height, width) < 2:
                allowed = f"at most {number - 1} layers long: pooling leaves {height}x{width} pixels to layer {number}"
                raise refusal(f"{section}.filters", list(self.filters), allowed)
            if kernel_size > min(height, width):
                allowed = f"at most {min(height, width)} at layer {number}, whose frames have {height}x{width} pixels"
                raise refusal(f"{section}.kernel_sizes", list(self.kernel_sizes), allowed)
            height, width = height // 2, width // 2


class CnnLstmParams(CnnParams):
    """The CNN-LSTM."""

    time_distributed: Literal["per_layer", "whole_cnn"]
    lstm_units: Width
    activation: Activation


class ConvLstmParams(CnnParams):
    """The ConvLSTM."""

    activation: Activation


class Cnn3dParams(CnnParams):
    """The 3D CNN."""

    kernel_frames: Width

    def check_frames(self, section: str, data: DataParams) -> None:
        """Check the kernels' size in time too."""
        super().check_frames(section, data)
        if self.kernel_frames > data.frames:
            raise refusal(f"{section}.kernel_frames", self.kernel_frames, f"at most {data.frames}: data.frames")


class LstmParams(GradientParams):
    """An LSTM on the features of a backbone."""

    lstm_units: Width


class BackboneParams(Section):
    """The frozen network that turns frames into features."""

    path: InputPath
    side: Pixels
    grid: Pixels

    def archive(self) -> Path:
        """Return the archive that `path` names: itself, or the only one in that folder.

        Raises:
            UserError: if there is none.
        """
        found = sorted(path.glob("[!.]*.keras")) if (path := Path(self.path)).is_dir() else [path]
        if len(found) != 1 or not found[0].is_file():
            what = f"{len(found)} archives" if path.is_dir() else "no such file"
            raise UserError(f"params.yaml: backbone.path: {self.path}: {what}; make one: make backbone, or name yours")
        return found[0]


class Registration(NamedTuple):
    """An entry of the registry."""

    params: type[ModelParams]
    role: Literal["contender", "baseline", "control"]
    """Contenders are compared with each other, and with baselines, which see motion by the simplest means. Controls
    cannot see motion: their accuracy does not depend on it."""
    sees: str = "all frames in their order"
    reads: Literal["pixels", "features"] = "pixels"
    """Features are those of a backbone, which the stage `embed` writes."""


MODELS: Mapping[str, Registration] = {
    "cnn_lstm": Registration(CnnLstmParams, "contender"),
    "convlstm": Registration(ConvLstmParams, "contender"),
    "cnn3d": Registration(Cnn3dParams, "contender"),
    "pretrained_lstm": Registration(LstmParams, "contender", "what changes in the features, in order", "features"),
    "pretrained_linear": Registration(
        LogisticParams, "contender", "the features' mean, their changes and four successive parts, in order", "features"
    ),
    "frame_differences": Registration(LogisticParams, "baseline", "grey differences of frames on a grid, in order"),
    "single_frame": Registration(CnnParams, "control", "the first frame alone"),
    "bag_of_frames": Registration(CnnParams, "control", "all frames in no order"),
    "pretrained_bag": Registration(LogisticParams, "control", "the features of all frames in no order", "features"),
}
CONTENDERS = tuple(name for name, entry in MODELS.items() if entry.role == "contender")
SEARCHABLE = tuple(name for name in CONTENDERS if MODELS[name].reads == "pixels")
BASELINES = tuple(name for name, entry in MODELS.items() if entry.role == "baseline")
CONTROLS = tuple(name for name, entry in MODELS.items() if entry.role == "control")
MODEL_NAMES = (*CONTENDERS, *BASELINES, *CONTROLS)


def reads_features(model_name: str) -> bool:
    """Return whether a model reads the features of a backbone, and not pixels."""
    return MODELS[model_name].reads == "features"


def contenders_among(names: Iterable[str]) -> tuple[str, ...]:
    """Return the contenders among these models, in the registry's order."""
    given = set(names)
    return tuple(name for name in CONTENDERS if name in given)
