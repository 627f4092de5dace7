"""The contenders of stock Keras layers; the CNN-LSTM and the ConvLSTM are built as in the reference notebook.

Keras is imported late, so that a plain import of it can be part of what is measured.
"""

from collections.abc import Callable, Mapping
from typing import Any

from motionbench.data.params import ClipShape
from motionbench.models.registry import Cnn3dParams, CnnLstmParams, ConvLstmParams


def _cnn_lstm(params: CnnLstmParams) -> list[Any]:
    from keras.layers import LSTM, Conv2D, Flatten, MaxPooling2D, TimeDistributed

    stack: list[Any] = []
    for filters, kernel_size in zip(params.filters, params.kernel_sizes, strict=True):
        stack.append(TimeDistributed(Conv2D(filters, kernel_size, padding="same", activation="relu")))
        stack.append(TimeDistributed(MaxPooling2D(2)))
    return [*stack, TimeDistributed(Flatten()), LSTM(params.lstm_units, activation=params.activation)]


def _convlstm(params: ConvLstmParams) -> list[Any]:
    from keras.layers import ConvLSTM2D, Flatten, MaxPooling2D, TimeDistributed

    stack: list[Any] = []
    last = len(params.filters) - 1
    for depth, (filters, kernel_size) in enumerate(zip(params.filters, params.kernel_sizes, strict=True)):
        settings: dict[str, Any] = {"activation": params.activation, "return_sequences": depth < last}
        stack.append(ConvLSTM2D(filters, kernel_size, padding="same", **settings))
        stack.append(TimeDistributed(MaxPooling2D(2)) if depth < last else MaxPooling2D(2))
    return [*stack, Flatten()]


def _cnn3d(params: Cnn3dParams) -> list[Any]:
    from keras.layers import Conv3D, GlobalAveragePooling3D, MaxPooling3D

    stack: list[Any] = []
    for filters, side in zip(params.filters, params.kernel_sizes, strict=True):
        kernel = (params.kernel_frames, side, side)
        stack += [Conv3D(filters, kernel, padding="same", activation="relu"), MaxPooling3D(2)]
    return [*stack, GlobalAveragePooling3D()]


LAYERS: Mapping[str, Callable[[Any], list[Any]]] = {"cnn_lstm": _cnn_lstm, "convlstm": _convlstm, "cnn3d": _cnn3d}


def build(model_name: str, params: Any, clip_shape: ClipShape, classes: int) -> Any:
    """Build a network from uint8 clips, shape (batch, *clip_shape), to probabilities, shape (batch, classes)."""
    from keras import Input, Sequential
    from keras.layers import Dense, Rescaling

    head = Dense(classes, activation="softmax")
    inputs = [Input(clip_shape, dtype="uint8"), Rescaling(1 / 255)]
    return Sequential([*inputs, *LAYERS[model_name](params), head], name=model_name)
