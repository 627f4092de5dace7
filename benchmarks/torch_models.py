"""The contenders in PyTorch, as its users write them. Needs the dependency group `bench`.

Time is folded into the batch, and one convolution computes all four gates.
"""

import torch
from torch import Tensor, nn

from motionbench.data.params import ClipShape
from motionbench.models.registry import Cnn3dParams, CnnLstmParams, ConvLstmParams


class ConvLSTM(nn.Module):
    """Hidden states, shape (batch, time, filters, height, width), of a sequence of images."""

    def __init__(self, channels: int, filters: int, kernel_size: int) -> None:
        super().__init__()
        self.filters = filters
        self.gates = nn.Conv2d(channels + filters, 4 * filters, kernel_size, padding="same")

    def forward(self, frames: Tensor) -> Tensor:
        """Run the recurrence."""
        hidden = cell = frames.new_zeros(frames.shape[0], self.filters, *frames.shape[-2:])
        states = []
        for frame in frames.unbind(1):
            gates = self.gates(torch.cat([frame, hidden], 1))
            input_gate, forget_gate, candidate, output_gate = gates.chunk(4, 1)
            cell = forget_gate.sigmoid() * cell + input_gate.sigmoid() * candidate.tanh()
            hidden = output_gate.sigmoid() * cell.tanh()
            states.append(hidden)
        return torch.stack(states, 1)


class ConvLSTMClassifier(nn.Module):
    """From uint8 clips, shape (batch, time, channels, height, width), to logits."""

    def __init__(self, params: ConvLstmParams, clip_shape: ClipShape, classes: int) -> None:
        super().__init__()
        _, height, width, channels = clip_shape
        self.layers = nn.ModuleList(map(ConvLSTM, (channels, *params.filters), params.filters, params.kernel_sizes))
        depth = len(params.filters)
        self.logits = nn.Linear((height >> depth) * (width >> depth) * params.filters[-1], classes)

    def forward(self, clips: Tensor) -> Tensor:
        """Classify."""
        frames = clips.float() / 255
        for layer in self.layers:
            frames = layer(frames)
            frames = nn.functional.max_pool2d(frames.flatten(0, 1), 2).unflatten(0, frames.shape[:2])
        logits: Tensor = self.logits(frames[:, -1].flatten(1))
        return logits


class CnnLstmClassifier(nn.Module):
    """From uint8 clips, shape (batch, time, channels, height, width), to logits."""

    def __init__(self, params: CnnLstmParams, clip_shape: ClipShape, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        _, height, width, channels = clip_shape
        for filters, kernel_size in zip(params.filters, params.kernel_sizes, strict=True):
            layers += [nn.Conv2d(channels, filters, kernel_size, padding="same"), nn.ReLU(), nn.MaxPool2d(2)]
            channels, height, width = filters, height // 2, width // 2
        self.cnn = nn.Sequential(*layers, nn.Flatten())
        self.lstm = nn.LSTM(channels * height * width, params.lstm_units, batch_first=True)
        self.logits = nn.Linear(params.lstm_units, classes)

    def forward(self, clips: Tensor) -> Tensor:
        """Classify."""
        features = self.cnn((clips.float() / 255).flatten(0, 1)).unflatten(0, clips.shape[:2])
        _, (hidden, _) = self.lstm(features)
        logits: Tensor = self.logits(hidden[-1])
        return logits


class Cnn3dClassifier(nn.Module):
    """From uint8 clips, shape (batch, time, channels, height, width), to logits."""

    def __init__(self, params: Cnn3dParams, clip_shape: ClipShape, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = clip_shape[-1]
        for filters, side in zip(params.filters, params.kernel_sizes, strict=True):
            kernel = (params.kernel_frames, side, side)
            layers += [nn.Conv3d(channels, filters, kernel, padding="same"), nn.ReLU(), nn.MaxPool3d(2)]
            channels = filters
        self.cnn = nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten())
        self.logits = nn.Linear(channels, classes)

    def forward(self, clips: Tensor) -> Tensor:
        """Classify."""
        logits: Tensor = self.logits(self.cnn((clips.float() / 255).transpose(1, 2)))
        return logits


MODELS = {"cnn_lstm": CnnLstmClassifier, "convlstm": ConvLSTMClassifier, "cnn3d": Cnn3dClassifier}
