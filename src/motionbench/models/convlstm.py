"""The ConvLSTM: an LSTM whose state is an image and whose products are convolutions."""

import keras

from motionbench.models.blocks import classifier, normalization
from motionbench.models.layers import FoldedTimeDistributed, FusedConvLSTM2D
from motionbench.models.registry import ConvLstmParams


def build(params: ConvLstmParams, clip_shape: tuple[int, int, int, int], classes: int) -> keras.Model:
    """Build the network of the reference notebook's second table, from clips to class probabilities.

    Arguments and result as for the CNN-LSTM. All layers but the last return a sequence.
    """
    layers: list[keras.Layer] = []
    last = len(params.filters) - 1
    for depth, (filters, kernel_size) in enumerate(zip(params.filters, params.kernel_sizes, strict=True)):
        layers.append(FusedConvLSTM2D(filters, kernel_size, params.activation, return_sequences=depth < last))
        after = [*normalization(params), keras.layers.MaxPooling2D(2)]
        layers += [FoldedTimeDistributed(layer) for layer in after] if depth < last else after
    return keras.Sequential(
        [
            keras.Input(clip_shape, dtype="uint8"),
            keras.layers.Rescaling(1 / 255),
            *layers,
            keras.layers.Flatten(),
            *classifier(params, classes),
        ],
        name="convlstm",
    )
