"""The models: their sections of params.yaml and their roles.

A new model is an entry here, its layers in `networks.py`, a section of params.yaml and a stage of dvc.yaml
(docs/adding-a-model.md). Nothing here imports TensorFlow, so that a wrong parameter is reported quickly.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, PositiveFloat

from motionbench.core.schema import Count, Section, Share, Width, Widths, refusal
from motionbench.data.params import DataParams

Activation = Literal["tanh", "relu"]


class ModelParams(Section):
    """The keys of every model: its stack of layers and its training settings."""

    enabled: bool = True  # false: only allowed for contenders, of which at least two stay
    filters: Widths
    kernel_sizes: Widths
    batch_normalization: bool
    dropout: Annotated[float, Field(ge=0, lt=1)]
    epochs: Count
    batch_size: Count
    learning_rate: PositiveFloat
    learning_rate_schedule: Literal["constant", "cosine"]
    weight_decay: Share

    def check_frames(self, section: str, data: DataParams) -> None:
        """Check that the stack of layers, each followed by a 2x2 pooling, fits the frames.

        Raises:
            PydanticCustomError: naming the key below `section`, its value and what is allowed.
        """
        if len(self.filters) != len(self.kernel_sizes):
            allowed = f"as long as {section}.filters {list(self.filters)}"
            raise refusal(f"{section}.kernel_sizes", list(self.kernel_sizes), allowed)
        height, width = data.height, data.width
        for number, kernel_size in enumerate(self.kernel_sizes, start=1):
            if min(height, width) < 2:
                allowed = f"at most {number - 1} layers long: pooling leaves {height}x{width} pixels to layer {number}"
                raise refusal(f"{section}.filters", list(self.filters), allowed)
            if kernel_size > min(height, width):
                allowed = f"at most {min(height, width)} at layer {number}, whose frames have {height}x{width} pixels"
                raise refusal(f"{section}.kernel_sizes", list(self.kernel_sizes), allowed)
            height, width = height // 2, width // 2


class CnnLstmParams(ModelParams):
    """The CNN-LSTM."""

    time_distributed: Literal["per_layer", "whole_cnn"]
    lstm_units: Width
    activation: Activation


class ConvLstmParams(ModelParams):
    """The ConvLSTM."""

    activation: Activation


class Cnn3dParams(ModelParams):
    """The 3D CNN."""

    kernel_frames: Width

    def check_frames(self, section: str, data: DataParams) -> None:
        """Check the kernels' size in time too."""
        super().check_frames(section, data)
        if self.kernel_frames > data.frames:
            raise refusal(f"{section}.kernel_frames", self.kernel_frames, f"at most {data.frames}: data.frames")


class Registration(NamedTuple):
    """An entry of the registry."""

    params: type[ModelParams]
    role: Literal["contender", "control"]
    """Contenders are compared with each other. Controls cannot see motion: their accuracy does not depend on it."""
    sees: str = "all frames in their order"


MODELS: Mapping[str, Registration] = {
    "cnn_lstm": Registration(CnnLstmParams, "contender"),
    "convlstm": Registration(ConvLstmParams, "contender"),
    "cnn3d": Registration(Cnn3dParams, "contender"),
    "single_frame": Registration(ModelParams, "control", "the first frame alone"),
    "bag_of_frames": Registration(ModelParams, "control", "all frames in no order"),
}
CONTENDERS = tuple(name for name, entry in MODELS.items() if entry.role == "contender")
CONTROLS = tuple(name for name, entry in MODELS.items() if entry.role == "control")
MODEL_NAMES = (*CONTENDERS, *CONTROLS)


def contenders_among(names: Iterable[str]) -> tuple[str, ...]:
    """Return the contenders among these models, in the registry's order."""
    given = set(names)
    return tuple(name for name in CONTENDERS if name in given)
