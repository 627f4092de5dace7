"""The ConvLSTM: an LSTM whose state is an image and whose products are convolutions."""

import keras

from motionbench.data.params import ClipShape
from motionbench.models.blocks import normalization
from motionbench.models.layers import FoldedTimeDistributed, FusedConvLSTM2D
from motionbench.models.registry import ConvLstmParams


def layers(params: ConvLstmParams, _clip_shape: ClipShape) -> list[keras.Layer]:
    """Return the layers from clips to features, as in the reference notebook's second table.

    All recurrent layers but the last return a sequence.
    """
    stack: list[keras.Layer] = [keras.layers.Rescaling(1 / 255)]
    last = len(params.filters) - 1
    for depth, (filters, kernel_size) in enumerate(zip(params.filters, params.kernel_sizes, strict=True)):
        stack.append(FusedConvLSTM2D(filters, kernel_size, params.activation, return_sequences=depth < last))
        after = [*normalization(params), keras.layers.MaxPooling2D(2)]
        stack += [FoldedTimeDistributed(layer) for layer in after] if depth < last else after
    return [*stack, keras.layers.Flatten()]
