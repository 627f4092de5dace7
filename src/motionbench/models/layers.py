"""Faster versions of Keras layers. Weights, outputs and gradients are those of the stock layers."""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import KerasTensor, ops

Shape = tuple[int | None, ...]
Kernels = tuple[tf.Tensor, tf.Tensor]  # as `widen` returns them
COST_OF_A_PIXEL = 10  # of one more pixel convolved at once, in products per output; measured


def convolve(images: tf.Tensor, kernels: Kernels, bias: tf.Tensor) -> tf.Tensor:
    """Convolve with padding "same" and strides 1, several neighbouring pixels of a row at once.

    The CPU's convolutions put the filters of a pixel side by side into vector registers; five filters fill five of the
    sixteen lanes that AVX-512 has. One convolution with stride 3 fills fifteen with the filters of three pixels: its
    kernel has each filter three times, each one pixel further right, and so is two pixels wider.

    Args:
        images: shape (batch, height, width, channels).
        kernels: from `widen`.
        bias: shape (filters,).

    Returns:
        Shape (batch, height, width, filters).
    """
    folded = _convolve_folded(images, *kernels)
    pixels = folded.shape[-1] // bias.shape[0]
    return _unfold(tf.nn.bias_add(folded, tf.tile(bias, [pixels])), bias.shape[0], images.shape[2])


def widen(kernel: tf.Tensor, width: int) -> Kernels:
    """Make from a kernel, shape (height, width, channels, filters), what `convolve` needs for images of a `width`.

    Returns:
        The kernel for several pixels at once, and the one that turns gradients of outputs into those of images.
    """
    flipped = tf.transpose(tf.reverse(kernel, [0, 1]), (0, 1, 3, 2))
    return _widen(kernel, width), _widen(flipped, width)


def _widen(kernel: tf.Tensor, width: int) -> tf.Tensor:
    _, pixels = _cheapest(width, kernel.shape)
    shifted = [tf.pad(kernel, [(0, 0), (pixel, pixels - 1 - pixel), (0, 0), (0, 0)]) for pixel in range(pixels)]
    return tf.concat(shifted, axis=-1)


# TensorFlow's gradient for the images fills fewer lanes, and its gradient for the kernel is slow with this padding.
@tf.custom_gradient
def _convolve_folded(
    images: tf.Tensor, kernel: tf.Tensor, flipped_kernel: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], Any]]:
    """Convolve as `convolve` does, the pixels computed at once left side by side: (batch, height, steps, filters)."""
    channels, filters = images.shape[-1], flipped_kernel.shape[2]
    pixels = kernel.shape[-1] // filters
    side_y, side_x = kernel.shape[0], kernel.shape[1] - pixels + 1
    extra = -images.shape[2] % pixels
    padding = [(0, 0), ((side_y - 1) // 2, side_y // 2), ((side_x - 1) // 2, side_x // 2 + extra), (0, 0)]

    def gradients(gradient: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, None]:
        unfolded = _unfold(gradient, filters)
        flipped_pixels = flipped_kernel.shape[-1] // channels
        flipped_extra = -unfolded.shape[2] % flipped_pixels
        rows, columns = (side_y // 2, (side_y - 1) // 2), (side_x // 2, (side_x - 1) // 2 + flipped_extra)
        flipped_padding = [(0, 0), rows, columns, (0, 0)]
        for_images = tf.nn.conv2d(unfolded, flipped_kernel, (1, flipped_pixels), flipped_padding)
        zeros = tf.zeros_like(images[:, :, :extra])
        for_kernel = tf.raw_ops.Conv2DBackpropFilter(
            input=tf.concat([images, zeros], axis=2) if extra else images,
            filter_sizes=kernel.shape,
            out_backprop=gradient,
            strides=(1, 1, pixels, 1),
            padding="SAME",
        )
        return _unfold(for_images, channels, images.shape[2]), for_kernel, None

    return tf.nn.conv2d(images, kernel, (1, pixels), padding), gradients


def _cheapest(width: int, kernel_shape: Sequence[int]) -> tuple[float, int]:
    """Return the least products per pixel of a convolution, idle lanes included, and the pixels at once for that."""
    side_y, side_x, channels, filters = kernel_shape

    def cost(pixels: int) -> float:
        lanes = _vector_lanes() * math.ceil(pixels * filters / _vector_lanes())
        return side_y * (side_x + pixels - 1) * channels * lanes / pixels + COST_OF_A_PIXEL * pixels * filters

    # At least two steps per row: TensorFlow 2.21 computes a convolution with stride wrongly if there is only one.
    return min((cost(pixels), pixels) for pixels in range(1, max(2, min(5, width))))


@cache
def _vector_lanes() -> int:
    """Return how many 32-bit numbers fit into a vector register of this machine: 16 with AVX-512 (X86_V4), else 8."""
    return 16 if "X86_V4" in np.show_config(mode="dicts")["SIMD Extensions"]["found"] else 8


def _unfold(folded: tf.Tensor, filters: int, width: int | None = None) -> tf.Tensor:
    """Move pixels that are side by side in the channels into their row, and cut the row to `width`."""
    height, steps, channels = folded.shape[1:]
    row = tf.reshape(folded, (-1, height, steps * channels // filters, filters))
    # Split, not sliced: the gradient of a slice is slow.
    return row if width in (None, row.shape[2]) else tf.split(row, [width, row.shape[2] - width], axis=2)[0]


@keras.saving.register_keras_serializable(package="motionbench")
class FoldedTimeDistributed(keras.layers.TimeDistributed):
    """`keras.layers.TimeDistributed` that folds time into the batch and applies the inner layer once.

    The stock layer loops over the frames in Python; folding trains more than twice as fast (benchmarks/results).
    Like the stock layer it accepts a whole model as its inner layer. Unlike there, the statistics of a batch
    normalization are those of all steps at once, the number of steps must be known, and there are no masks.

    Input: (batch, time, ...). Output: (batch, time, ...) with the inner layer's trailing shape.

    >>> FoldedTimeDistributed(keras.layers.MaxPooling2D(2))(np.zeros((2, 5, 8, 6, 3))).shape
    TensorShape([2, 5, 4, 3, 3])
    """

    def call(self, inputs: KerasTensor) -> KerasTensor:
        """Apply the inner layer to all time steps of all samples at once."""
        outputs = self.layer(ops.reshape(inputs, (-1, *inputs.shape[2:])))
        return ops.reshape(outputs, (-1, inputs.shape[1], *outputs.shape[1:]))


@keras.saving.register_keras_serializable(package="motionbench")
class MultiPixelConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` by `convolve`. Padding must be "same", strides, dilation and groups 1, a bias used.

    Input: (batch, height, width, channels). Output: (batch, height, width, filters).

    >>> MultiPixelConv2D(5, 3, padding="same")(np.zeros((2, 8, 6, 3))).shape
    TensorShape([2, 8, 6, 5])
    """

    def build(self, input_shape: Shape) -> None:
        """Create the weights of the stock layer.

        Raises:
            ValueError: if the layer is not one that `convolve` computes.
        """
        received = (self.padding, self.strides, self.dilation_rate, self.groups, self.use_bias)
        if received != ("same", (1, 1), (1, 1), 1, True):
            raise ValueError(
                "Padding must be 'same', strides, dilation and groups 1, and a bias used. "
                f"Received (in this order): {received}"
            )
        super().build(input_shape)

    def call(self, inputs: KerasTensor) -> KerasTensor:
        """Convolve, add the bias, activate."""
        kernels = widen(tf.convert_to_tensor(self.kernel), inputs.shape[2])
        return self.activation(convolve(inputs, kernels, tf.convert_to_tensor(self.bias)))


@keras.saving.register_keras_serializable(package="motionbench")
class FusedConvLSTM2D(keras.layers.Layer):
    """`keras.layers.ConvLSTM2D` with one or two convolutions per time step instead of eight.

    The four gates' kernels are side by side in the stock layer's weights already, and a convolution of the input plus
    one of the hidden state is one convolution of both, stacked as channels:

        i, f, c, o = conv([x_t, h_{t-1}], [kernel; recurrent kernel]) + bias

    as in equation (3) of Shi et al., "Convolutional LSTM Network" (2015), without its peephole terms, which keras
    leaves out too. Gates are sigmoid, padding is "same", strides are 1, the forget gate's bias starts at 1.

    Where that leaves fewer lanes of vector registers idle, c is convolved by itself. Of five filters, i, f and o have
    fifteen together, and c has fifteen for three pixels at once.

    Input: (batch, time, height, width, channels). Output: (batch, height, width, filters), the last hidden state, or
    with `return_sequences` all of them, (batch, time, height, width, filters).

    Weights: kernel (k, k, channels, 4 * filters), recurrent kernel (k, k, filters, 4 * filters), bias (4 * filters,),
    gates in the order input, forget, cell, output.

    >>> FusedConvLSTM2D(5, 3, return_sequences=True)(np.zeros((2, 4, 8, 6, 1))).shape
    TensorShape([2, 4, 8, 6, 5])
    """

    def __init__(
        self, filters: int, kernel_size: int, activation: str = "tanh", *, return_sequences: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.activation = keras.activations.get(activation)
        self.return_sequences = return_sequences

    def build(self, input_shape: Shape) -> None:
        """Create the weights."""
        side, gates = self.kernel_size, 4 * self.filters
        self.kernel = self.add_weight(
            shape=(side, side, input_shape[-1], gates), initializer="glorot_uniform", name="kernel"
        )
        self.recurrent_kernel = self.add_weight(
            shape=(side, side, self.filters, gates), initializer="orthogonal", name="recurrent_kernel"
        )
        self.bias = self.add_weight(shape=(gates,), initializer=self._initial_bias, name="bias")
        # A separate function, so that a step and its gradient are traced once and not for each frame.
        self._traced_step = tf.function(self._step, reduce_retracing=True)
        self.built = True

    def _initial_bias(self, _shape: Shape, dtype: Any = None) -> KerasTensor:
        """Start with an open forget gate, as Keras does: Jozefowicz et al. (2015)."""
        return ops.repeat(ops.convert_to_tensor([0.0, 1.0, 0.0, 0.0], dtype=dtype), self.filters)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the last hidden state or of all of them."""
        batch, time, height, width, _ = input_shape
        return (batch, *([time] if self.return_sequences else []), height, width, self.filters)

    def call(self, inputs: KerasTensor) -> KerasTensor:
        """Run the recurrence, unrolled over time: a while loop has a cheaper first call but costlier steps."""
        frames = ops.unstack(inputs, axis=1)
        convolutions = self._widen_gates(inputs.shape[3])
        hidden = cell = ops.zeros((*ops.shape(frames[0])[:-1], self.filters), dtype=self.compute_dtype)
        hidden_states = []
        for frame in frames:
            hidden, cell = self._traced_step(frame, hidden, cell, convolutions)
            hidden_states.append(hidden)
        return ops.stack(hidden_states, axis=1) if self.return_sequences else hidden

    def _widen_gates(self, width: int) -> list[tuple[Kernels, tf.Tensor]]:
        """Return kernels and bias of each convolution of a step: the gates i, f, o and c together, or c by itself."""
        kernel = ops.concatenate([self.kernel, self.recurrent_kernel], axis=2)
        all_gates, three, one = (_cheapest(width, (*kernel.shape[:3], gates * self.filters))[0] for gates in (4, 3, 1))
        kernels, biases = ops.split(kernel, 4, axis=-1), ops.split(self.bias, 4)
        i, f, c, o = range(4)
        return [
            (
                widen(ops.concatenate([kernels[gate] for gate in group], axis=-1), width),
                ops.concatenate([biases[gate] for gate in group]),
            )
            for group in ([(i, f, o), (c,)] if three + one < all_gates else [(i, f, o, c)])
        ]

    def _step(
        self, frame: tf.Tensor, hidden: tf.Tensor, cell: tf.Tensor, convolutions: Sequence[tuple[Kernels, tf.Tensor]]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        images = ops.concatenate([frame, hidden], axis=-1)
        input_gate, forget_gate, output_gate, candidate = (
            gate for kernels, bias in convolutions for gate in self._separate(convolve(images, kernels, bias))
        )
        cell = ops.sigmoid(forget_gate) * cell + ops.sigmoid(input_gate) * self.activation(candidate)
        return ops.sigmoid(output_gate) * self.activation(cell), cell

    def _separate(self, gates: tf.Tensor) -> list[tf.Tensor]:
        """Return each of the gates that are side by side in the channels; a split would copy pixel by pixel."""
        pixels = ops.reshape(gates, (-1, *gates.shape[1:3], gates.shape[3] // self.filters, self.filters))
        separate: list[tf.Tensor] = ops.unstack(ops.transpose(pixels, (3, 0, 1, 2, 4)))
        return separate

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "activation": keras.activations.serialize(self.activation),
            "return_sequences": self.return_sequences,
        }
