"""Keras layers, computed in fewer or fuller calls. Weights, outputs and gradients are those of the stock layers."""

from typing import Any

import keras
import tensorflow as tf
from keras import KerasTensor, ops

Shape = tuple[int | None, ...]
VECTOR_LANES = 16  # of 32-bit numbers in the widest vector registers of today's CPUs (AVX-512)


@keras.saving.register_keras_serializable(package="motionbench")
class FoldedTimeDistributed(keras.layers.Wrapper):
    """`keras.layers.TimeDistributed` that folds time into the batch and applies the inner layer once.

    The stock layer loops over the frames in Python; folding trains more than twice as fast (benchmarks/RESULTS.md).
    Like the stock layer it accepts a whole model as its inner layer.

    Input: (batch, time, ...). Output: (batch, time, ...) with the inner layer's trailing shape.
    """

    def build(self, input_shape: Shape) -> None:
        """Build the inner layer for one time step.

        Raises:
            ValueError: if the input has no known number of time steps.
        """
        if len(input_shape) < 3 or input_shape[1] is None:
            raise ValueError(f"Input must have shape (batch, time, ...), time known. Received: {input_shape}")
        if not self.layer.built:
            self.layer.build((input_shape[0], *input_shape[2:]))
        self.built = True

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return (batch, time, ...)."""
        step_shape = self.layer.compute_output_shape((input_shape[0], *input_shape[2:]))
        return (input_shape[0], input_shape[1], *step_shape[1:])

    def call(self, inputs: KerasTensor) -> KerasTensor:
        """Apply the inner layer to all time steps of all samples at once."""
        outputs = self.layer(ops.reshape(inputs, (-1, *inputs.shape[2:])))
        return ops.reshape(outputs, (-1, inputs.shape[1], *outputs.shape[1:]))


@keras.saving.register_keras_serializable(package="motionbench")
class SpaceToDepthConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` that computes two neighbouring pixels of a row at once, where filters are few.

    The CPU's convolutions put the filters of a pixel side by side into vector registers; five filters fill five of
    sixteen lanes. Two pixels folded into the channels (space to depth) fill ten, for a kernel larger by zeros, an 8x8
    one by a quarter, a 4x4 one by a half. Strides, dilation and groups must be 1, padding "same".

    Input: (batch, height, width, channels). Output: (batch, height, width, filters).
    """

    def build(self, input_shape: Shape) -> None:
        """Create the weights of the stock layer.

        Raises:
            ValueError: if the layer is not one that the folded form computes.
        """
        received = (self.padding, self.strides, self.dilation_rate, self.groups)
        if received != ("same", (1, 1), (1, 1), 1):
            raise ValueError(
                f"Padding must be 'same', strides, dilation and groups 1. Received (in this order): {received}"
            )
        super().build(input_shape)

    def convolution_op(self, inputs: KerasTensor, kernel: KerasTensor) -> KerasTensor:
        """Convolve pairs of pixels, or single ones if a pair's filters would not fit into a register."""
        if 2 * self.filters > VECTOR_LANES:
            return super().convolution_op(inputs, kernel)
        height, width, channels = inputs.shape[1:]
        side = self.kernel_size[1]
        # "Same" padding puts (side - 1) // 2 pixels before the first; the pairs on each side must cover what both need.
        before = (side - 1) // 2
        pairs_aside = max((before + 1) // 2, (side - before) // 2)
        pairs = 2 * pairs_aside + 1
        halves = []
        for pixel in (0, 1):
            start = 2 * pairs_aside - before + pixel
            padded = ops.pad(kernel, [(0, 0), (start, 2 * pairs - side - start), (0, 0), (0, 0)])
            halves.append(ops.reshape(padded, (self.kernel_size[0], pairs, 2 * channels, self.filters)))
        odd = width % 2
        if odd:  # Concatenated, not padded: TensorFlow merges a padding into the convolution, which is slower.
            inputs = ops.concatenate([inputs, ops.zeros_like(inputs[:, :, :1])], axis=2)
        folded = ops.reshape(inputs, (-1, height, (width + odd) // 2, 2 * channels))
        outputs = ops.conv(folded, ops.concatenate(halves, axis=-1), padding="same")
        outputs = ops.reshape(outputs, (-1, height, width + odd, self.filters))
        return ops.split(outputs, [width], axis=2)[0] if odd else outputs


@keras.saving.register_keras_serializable(package="motionbench")
class FusedConvLSTM2D(keras.layers.Layer):
    """`keras.layers.ConvLSTM2D` with one convolution a time step instead of eight.

    The four gates' kernels lie side by side in the stock layer's weights already, and a convolution of the input plus
    one of the hidden state is one convolution of both, stacked as channels:

        i, f, c, o = conv([x_t, h_{t-1}], [kernel; recurrent kernel]) + bias

    as in equation (3) of Shi et al., "Convolutional LSTM Network" (2015), without its peephole terms, which keras
    leaves out too. Gates are sigmoid, padding is "same", strides are 1, the forget gate's bias starts at 1.

    Input: (batch, time, height, width, channels). Output: (batch, height, width, filters), the last hidden state, or
    with `return_sequences` all of them, (batch, time, height, width, filters).

    Weights: kernel (k, k, channels, 4 * filters), recurrent kernel (k, k, filters, 4 * filters), bias (4 * filters,),
    gates in the order input, forget, cell, output.
    """

    def __init__(
        self, filters: int, kernel_size: int, activation: str = "tanh", *, return_sequences: bool = False, **kwargs: Any
    ) -> None:
        if filters < 1 or kernel_size < 1:
            raise ValueError(f"filters and kernel_size must be positive. Received: {filters=}, {kernel_size=}")
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.activation = keras.activations.get(activation)
        self.return_sequences = return_sequences

    def build(self, input_shape: Shape) -> None:
        """Create the weights.

        Raises:
            ValueError: if the input is not a sequence of images of known size.
        """
        if len(input_shape) != 5 or None in input_shape[1:]:
            raise ValueError(f"Input must have shape (batch, time, height, width, channels). Received: {input_shape}")
        side, gates = self.kernel_size, 4 * self.filters
        self.kernel = self.add_weight(
            shape=(side, side, input_shape[-1], gates), initializer="glorot_uniform", name="kernel"
        )
        self.recurrent_kernel = self.add_weight(
            shape=(side, side, self.filters, gates), initializer="orthogonal", name="recurrent_kernel"
        )
        self.bias = self.add_weight(shape=(gates,), initializer=self._initial_bias, name="bias")
        # A function of its own, so that a step and its gradient are traced once and not for each frame.
        self._traced_step = tf.function(self._step, reduce_retracing=True)
        self.built = True

    def _initial_bias(self, _shape: Shape, dtype: Any = None) -> KerasTensor:
        """Start with a forget gate that is open: Jozefowicz et al. (2015), as keras does."""
        return ops.repeat(ops.convert_to_tensor([0.0, 1.0, 0.0, 0.0], dtype=dtype), self.filters)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the last hidden state or of all of them."""
        batch, time, height, width, _ = input_shape
        return (
            (batch, time, height, width, self.filters)
            if self.return_sequences
            else (batch, height, width, self.filters)
        )

    def call(self, inputs: KerasTensor) -> KerasTensor:
        """Run the recurrence, unrolled over time: a while loop's first call is cheaper, its steps are dearer."""
        frames = ops.unstack(inputs, axis=1)
        kernel = ops.concatenate([self.kernel, self.recurrent_kernel], axis=2)
        bias = tf.convert_to_tensor(self.bias)  # not the variable itself, which no function takes
        hidden = cell = ops.zeros((*ops.shape(frames[0])[:-1], self.filters), dtype=self.compute_dtype)
        hidden_states = []
        for frame in frames:
            hidden, cell = self._traced_step(frame, hidden, cell, kernel, bias)
            hidden_states.append(hidden)
        return ops.stack(hidden_states, axis=1) if self.return_sequences else hidden

    def _step(
        self, frame: KerasTensor, hidden: KerasTensor, cell: KerasTensor, kernel: KerasTensor, bias: KerasTensor
    ) -> tuple[KerasTensor, KerasTensor]:
        gates = ops.conv(ops.concatenate([frame, hidden], axis=-1), kernel, padding="same") + bias
        input_gate, forget_gate, candidate, output_gate = ops.split(gates, 4, axis=-1)
        cell = ops.sigmoid(forget_gate) * cell + ops.sigmoid(input_gate) * self.activation(candidate)
        return ops.sigmoid(output_gate) * self.activation(cell), cell

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "activation": keras.activations.serialize(self.activation),
            "return_sequences": self.return_sequences,
        }
