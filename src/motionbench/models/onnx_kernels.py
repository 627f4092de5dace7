"""What convolutions, poolings and recurrences are in ONNX."""

from dataclasses import replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from motionbench.core.errors import UserError
from motionbench.models.layers import FusedConvLSTM2D
from motionbench.models.onnx_graph import Graph, Tensor, padding

FEW_FILTERS = 7  # at most, so that convolving four pixels at once is faster; measured
OPERATORS = {  # of activations, by Keras's names
    "linear": "Identity",
    "relu": "Relu",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "softmax": "Softmax",
    "hard_silu": "HardSwish",
}
LSTM_ACTIVATIONS = {"relu", "tanh", "sigmoid"}  # of those, what ONNX Runtime has inside of an LSTM


def add_activate(graph: Graph, inputs: Tensor, activation: Any) -> Tensor:
    """Add an activation function of Keras.

    Raises:
        UserError: if there is no rule for it.
    """
    name = keras.activations.serialize(activation)
    if name not in OPERATORS:
        raise UserError(f"activation {name}: models/onnx_kernels.py has no rule for it; add one to OPERATORS")
    inputs = graph.last(inputs) if name == "softmax" else inputs
    return inputs if name == "linear" else replace(inputs, name=graph.add(OPERATORS[name], inputs.name))


def add_convolve(graph: Graph, inputs: Tensor, layer: keras.Layer, kernel: NDArray[Any], groups: int) -> Tensor:
    """Add a convolution of any rank; kernel: (filters, channels of a group, ...)."""
    images, rank, kernel = graph.first(inputs), kernel.ndim - 2, kernel * graph.factors.get(id(layer), 1.0)
    sides = [(side - 1) * gap + 1 for side, gap in zip(kernel.shape[2:], layer.dilation_rate, strict=True)]
    pads, sizes = padding(layer.padding, images.shape[:rank], sides, layer.strides)
    bias = [np.array(layer.bias)] if layer.use_bias else []
    if id(layer) in graph.pooled:
        return add_quads(graph, images, layer, kernel)
    options = {"strides": layer.strides, "dilations": layer.dilation_rate, "group": groups, "pads": pads}
    convolved = graph.add("Conv", images.name, kernel, *bias, **options)
    return add_activate(graph, Tensor(convolved, (*sizes, len(kernel)), first=True), layer.activation)


def pools_quads(first: keras.layers.Layer, then: keras.layers.Layer) -> bool:
    """Return whether a pooling follows a convolution of few filters, those of four pixels fit into vector registers."""
    if not isinstance(first, keras.layers.Conv2D) or not isinstance(then, keras.layers.MaxPooling2D):
        return False
    plain = (first.padding, first.strides, first.dilation_rate, first.groups) == ("same", (1, 1), (1, 1), 1)
    halves = (then.pool_size, then.strides, then.padding) == ((2, 2), (2, 2), "valid")
    by_number = keras.activations.serialize(first.activation) != "softmax"
    return plain and halves and by_number and first.filters <= FEW_FILTERS


def add_quads(graph: Graph, images: Tensor, layer: keras.layers.Conv2D, kernel: NDArray[Any]) -> Tensor:
    """Add a convolution that computes four pixels at once, those that the pooling behind it takes the maximum of."""
    height, width, _ = images.shape
    shifts = [((0, 0), (0, 0), (y, 1 - y), (x, 1 - x)) for y in (0, 1) for x in (0, 1)]
    four = np.concatenate([np.pad(kernel, shift) for shift in shifts])
    (top, left, bottom, right), _ = padding("same", (height, width), kernel.shape[2:], (1, 1))
    # A last row or column that the pooling leaves out is not computed.
    pads = [top, left, *(max(0, each) for each in (bottom - height % 2, right - width % 2))]
    bias = [np.tile(np.array(layer.bias), 4)] if layer.use_bias else []
    convolved = graph.add("Conv", images.name, four, *bias, strides=[2, 2], pads=pads)
    shape = height // 2, width // 2, len(four)
    return add_activate(graph, Tensor(convolved, shape, first=True, quads=True), layer.activation)


def add_pool(graph: Graph, operator: str, inputs: Tensor, layer: keras.Layer) -> Tensor:
    """Add a pooling; one that leaves frames alone is one of their images."""
    if inputs.quads:
        height, width, channels = inputs.shape
        four = graph.add("Reshape", inputs.name, [-1, 4, channels // 4, height, width])
        largest = graph.add("ReduceMax", four, [1], keepdims=0)
        return Tensor(largest, (height, width, channels // 4), first=True)
    if layer.pool_size[0] == 1 and layer.strides[0] == 1 and len(layer.pool_size) == 3:
        images, count = graph.first(graph.fold(inputs)), inputs.shape[0]
        sides, strides = layer.pool_size[1:], layer.strides[1:]
    else:
        images, count, sides, strides = graph.first(inputs), 0, layer.pool_size, layer.strides
    pads, sizes = padding(layer.padding, images.shape[:-1], sides, strides)
    pooled = graph.add(operator, images.name, kernel_shape=sides, strides=strides, pads=pads)
    made = Tensor(pooled, (*sizes, images.shape[-1]), first=True)
    return graph.unfold(made, count) if count else made


def add_lstm(graph: Graph, inputs: Tensor, layer: keras.layers.LSTM) -> Tensor:
    """Add an LSTM: ONNX's gates are i, o, f, c, those of Keras i, f, c, o.

    Raises:
        UserError: if there is no rule for its activations.
    """
    cell, units = layer.cell, layer.units
    names = [keras.activations.serialize(each) for each in (cell.recurrent_activation, cell.activation)]
    if others := set(names) - LSTM_ACTIVATIONS:
        raise UserError(f"activation {min(others)} of an LSTM: models/onnx_kernels.py has no rule for it")
    sigmoid, activation = (OPERATORS[name] for name in names)

    def reorder(weights: Any) -> NDArray[Any]:
        i, f, c, o = np.split(np.array(weights), 4, axis=-1)
        return np.concatenate([i, o, f, c], axis=-1).T[None]

    bias = reorder(cell.bias) if cell.use_bias else np.zeros((1, 4 * units))
    weights = reorder(cell.kernel), reorder(cell.recurrent_kernel), np.concatenate([bias, 0 * bias], axis=1)
    steps = graph.add("Transpose", graph.last(inputs).name, perm=[1, 0, 2])
    activations = [sigmoid, activation, activation]
    states, state = graph.add("LSTM", steps, *weights, count=2, hidden_size=units, activations=activations)
    if not layer.return_sequences:
        return Tensor(graph.add("Squeeze", state, [0]), (units,))
    rows = graph.add("Transpose", graph.add("Squeeze", states, [1]), perm=[1, 0, 2])
    return Tensor(rows, (inputs.shape[0], units))


def add_conv_lstm(graph: Graph, inputs: Tensor, layer: FusedConvLSTM2D) -> Tensor:
    """Add a ConvLSTM: one convolution of all frames, and for each step one of the hidden state."""
    count, height, width, _ = inputs.shape
    filters, side = layer.filters, layer.kernel_size
    pads, _ = padding("same", (height, width), (side, side), (1, 1))

    def reorder(weights: Any) -> NDArray[Any]:  # from i, f, c, o, so that the sigmoid is one
        i, f, c, o = np.split(np.array(weights), 4, axis=-1)
        return np.concatenate([i, f, o, c], axis=-1)

    def activated(name: str) -> str:
        return add_activate(graph, Tensor(name, ()), layer.activation).name

    kernel, recurrent = (reorder(each).transpose(3, 2, 0, 1) for each in (layer.kernel, layer.recurrent_kernel))
    images = graph.first(graph.fold(inputs)).name
    gates = graph.add("Conv", images, kernel * graph.factors.get(id(layer), 1.0), reorder(layer.bias), pads=pads)
    gates = graph.add("Reshape", gates, [-1, count, 4 * filters, height, width])
    hidden, cell, states = "", "", []
    for step in range(count):
        now = graph.add("Gather", gates, step, axis=1)
        if hidden:
            now = graph.add("Add", now, graph.add("Conv", hidden, recurrent, pads=pads))
        opened, candidate = graph.add("Split", now, [3 * filters, filters], count=2, axis=1)
        i, f, o = graph.add("Split", graph.add("Sigmoid", opened), [filters] * 3, count=3, axis=1)
        new = graph.add("Mul", i, activated(candidate))
        cell = graph.add("Add", graph.add("Mul", f, cell), new) if cell else new
        hidden = graph.add("Mul", o, activated(cell))
        states.append(hidden)
    shape = height, width, filters
    if not layer.return_sequences:
        return Tensor(hidden, shape, first=True)
    stacked = graph.add("Concat", *(graph.add("Unsqueeze", state, [1]) for state in states), axis=1)
    frames = graph.add("Reshape", stacked, [-1, filters, height, width])
    return graph.unfold(Tensor(frames, shape, first=True), count)
