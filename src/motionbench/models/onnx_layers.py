"""Networks as ONNX files, written from their layers and weights: what each layer is in ONNX."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import keras
import numpy as np

from motionbench.core.errors import UserError
from motionbench.models.backbone import Embedding
from motionbench.models.feature_layers import (
    FrameDifferences,
    LessMeanOverTime,
    MeansOverTime,
    Standardize,
    cell_weights,
)
from motionbench.models.layers import FoldedTimeDistributed, FusedConvLSTM2D
from motionbench.models.onnx_graph import FLOAT16, Graph, Tensor
from motionbench.models.onnx_kernels import add_activate, add_conv_lstm, add_convolve, add_lstm, add_pool, pools_quads

FACTORS = (FusedConvLSTM2D, keras.layers.Conv2D, keras.layers.Conv3D)  # whose kernels can take a factor of their inputs


def to_onnx(model: keras.Model) -> bytes:
    """Return the content of an ONNX file: clips, any number, as `model` takes them, in; probabilities out.

    Raises:
        UserError: naming a layer without a rule.
    """
    graph, inputs = Graph(), Tensor("clips", tuple(model.input_shape[1:]))
    return graph.content(model.name, (inputs, model.input_dtype), add_network(graph, model, inputs))


def add_network(graph: Graph, model: keras.Model, inputs: Tensor) -> Tensor:
    """Add all layers of a network."""

    def at(layer: Any) -> Callable[..., Tensor]:
        return lambda *inputs, **_: add_layer(graph, layer, *keras.tree.flatten(inputs))

    functional = getattr(model, "_functional", model)  # of a Sequential
    if functional is not model:
        inner = [getattr(layer, "layer", layer) for layer in model.layers]
        sequence = [layer for layer in inner if not isinstance(layer, keras.layers.BatchNormalization)]
        graph.pooled |= {id(first) for first, then in pairwise(sequence) if pools_quads(first, then)}
        for first, then in pairwise(inner):
            if not isinstance(first, keras.layers.Rescaling) or not isinstance(then, FACTORS):
                continue
            if not np.ndim(first.scale) and not np.any(first.offset):
                graph.factors |= {id(first): 1.0, id(then): first.scale}
    # Keras's own walk, with tensors of ours in place of its own. No public function gives it.
    outputs: Any = functional._run_through_graph([inputs], at)
    [tensor] = outputs if isinstance(outputs, list) else [outputs]
    assert isinstance(tensor, Tensor)
    return tensor


def add_layer(graph: Graph, layer: Any, inputs: Tensor, *others: Any) -> Tensor:
    """Add a layer, or an operation of a functional model.

    Raises:
        UserError: if there is no rule for it.
    """
    kind, rank = type(layer).__name__, len(inputs.shape)
    match layer:
        case _ if kind in ("ConvertToTensor", "Dropout", "InputLayer"):
            return inputs
        case keras.Model():
            return add_network(graph, layer, inputs)
        case FoldedTimeDistributed():
            return graph.unfold(add_layer(graph, layer.layer, graph.fold(inputs)), inputs.shape[0])
        case keras.layers.Rescaling():
            of_channels = np.ndim(layer.scale) or np.ndim(layer.offset)
            images = graph.pixels(graph.last(inputs) if of_channels else inputs)
            factor = np.array(graph.factors.get(id(layer), layer.scale), float)
            scaled = graph.add("Mul", images.name, factor) if (factor != 1).any() else images.name
            offset = np.array(layer.offset, float)
            return replace(images, name=graph.add("Add", scaled, offset) if offset.any() else scaled)
        case keras.layers.Normalization() if not layer.invert:
            deviation = np.maximum(np.sqrt(np.array(layer.variance)), keras.config.epsilon())
            return add_standardize(graph, graph.pixels(inputs), layer.mean, deviation)
        case keras.layers.Conv1D() | keras.layers.Conv2D() | keras.layers.Conv3D() if layer.padding != "causal":
            kernel = np.moveaxis(np.array(layer.kernel), (-1, -2), (0, 1))
            return add_convolve(graph, inputs, layer, kernel, layer.groups)
        case keras.layers.DepthwiseConv2D():
            kernel = np.array(layer.kernel).transpose(2, 3, 0, 1)
            return add_convolve(graph, inputs, layer, kernel.reshape(-1, 1, *kernel.shape[2:]), inputs.shape[-1])
        case keras.layers.MaxPooling2D() | keras.layers.MaxPooling3D():
            return add_pool(graph, "MaxPool", inputs, layer)
        case keras.layers.AveragePooling2D() | keras.layers.AveragePooling3D():
            return add_pool(graph, "AveragePool", inputs, layer)
        case _ if kind.startswith(("GlobalAveragePooling", "GlobalMaxPooling")):
            images = graph.last(inputs) if inputs.folded else inputs
            axes = [axis + images.first for axis in range(1, len(images.shape))]
            operator = "ReduceMean" if "Average" in kind else "ReduceMax"
            pooled = graph.add(operator, images.name, axes, keepdims=int(layer.keepdims))
            ones = [1] * (len(images.shape) - 1) if layer.keepdims else []
            return Tensor(pooled, (*ones, images.shape[-1]), images.first and layer.keepdims)
        case keras.layers.BatchNormalization() if layer.axis in (-1, rank):
            images, pixels = graph.first(inputs), 4 if inputs.quads else 1
            size = (inputs.shape[-1] // pixels,)
            scale = layer.gamma if layer.scale else np.ones(size)
            offset = layer.beta if layer.center else np.zeros(size)
            weights = [np.tile(each, pixels) for each in (scale, offset, layer.moving_mean, layer.moving_variance)]
            done = graph.add("BatchNormalization", images.name, *weights, epsilon=layer.epsilon)
            return replace(images, name=done)
        case keras.layers.LayerNormalization() if not (layer.scale or layer.center) or layer.axis in ([-1], [rank]):
            name, axes = graph.last(inputs).name, sorted(layer.axis)
            centred = graph.add("Sub", name, graph.add("ReduceMean", name, axes))
            variance = graph.add("ReduceMean", graph.add("Mul", centred, centred), axes)
            name = graph.add("Div", centred, graph.add("Sqrt", graph.add("Add", variance, float(layer.epsilon))))
            name = graph.add("Mul", name, np.array(layer.gamma)) if layer.scale else name
            return Tensor(graph.add("Add", name, np.array(layer.beta)) if layer.center else name, inputs.shape)
        case keras.layers.Flatten() | keras.layers.Reshape():
            shape = layer.compute_output_shape((None, *inputs.shape))[1:]
            return Tensor(graph.add("Reshape", graph.last(inputs).name, [-1, *shape]), shape)
        case keras.layers.Cropping3D():
            starts, cropped = zip(*layer.cropping, strict=True)
            ends = np.subtract(inputs.shape[:3], cropped)
            cut = graph.add("Slice", graph.last(inputs).name, starts, ends, [1, 2, 3])
            return Tensor(cut, layer.compute_output_shape((None, *inputs.shape))[1:])
        case keras.layers.ZeroPadding2D():
            (top, bottom), (left, right) = layer.padding
            padded = graph.add("Pad", graph.first(inputs).name, [0, 0, top, left, 0, 0, bottom, right])
            return Tensor(padded, layer.compute_output_shape((None, *inputs.shape))[1:], first=True)
        case keras.layers.Dense():
            name = graph.add("MatMul", graph.last(inputs).name, np.array(layer.kernel))
            name = graph.add("Add", name, np.array(layer.bias)) if layer.use_bias else name
            return add_activate(graph, Tensor(name, (*inputs.shape[:-1], layer.units)), layer.activation)
        case keras.layers.LSTM() if not (layer.go_backwards or layer.stateful):
            return add_lstm(graph, inputs, layer)
        case FusedConvLSTM2D():
            return add_conv_lstm(graph, inputs, layer)
        case FrameDifferences():
            frames, height, width, _ = inputs.shape
            grey = graph.add("ReduceMean", graph.pixels(graph.last(inputs)).name, [-1], keepdims=0)
            grey = graph.add("Div", grey, 255.0)
            means = graph.grid_means(graph.changes(grey), (height, width), layer.grid)
            shape = frames, layer.grid, layer.grid, 1
            return Tensor(graph.add("Reshape", means, [-1, *shape]), shape)
        case LessMeanOverTime():
            numbers = graph.pixels(graph.last(inputs)).name
            return Tensor(graph.add("Sub", numbers, graph.add("ReduceMean", numbers, [1])), inputs.shape)
        case MeansOverTime():
            return add_means_over_time(graph, inputs, layer.in_order)
        case Standardize():
            return add_standardize(graph, inputs, layer.mean, layer.deviation)
        case Embedding():
            return graph.unfold(add_embed(graph, graph.fold(inputs), layer), inputs.shape[0])
        case keras.layers.ReLU() if not layer.negative_slope and not layer.threshold:
            most = [] if layer.max_value is None else [float(layer.max_value)]
            return replace(inputs, name=graph.add("Clip", inputs.name, 0.0, *most))
        case keras.layers.Activation():
            return add_activate(graph, inputs, layer.activation)
        case _ if kind in ("Add", "Multiply"):  # a layer, or an operation, one of whose operands may be a number
            made, operator = graph.first(inputs), "Mul" if kind == "Multiply" else kind
            for other in others:
                term = graph.first(other) if isinstance(other, Tensor) else float(other)
                name = graph.add(operator, made.name, term.name if isinstance(term, Tensor) else term)
                shapes = [made.shape, term.shape if isinstance(term, Tensor) else ()]
                made = replace(made, name=name, shape=max(shapes, key=math.prod))
            return made
    raise UserError(
        f"layer {layer.name} ({kind}): models/onnx_layers.py has no rule for it, or not for its options; add one to "
        "add_layer"
    )


def add_standardize(graph: Graph, inputs: Tensor, mean: Any, deviation: Any) -> Tensor:
    """Add what subtracts a mean from each number of the last axis, and divides by a deviation."""
    centred = graph.add("Sub", graph.last(inputs).name, np.array(mean))
    return Tensor(graph.add("Div", centred, np.array(deviation)), inputs.shape)


def add_means_over_time(graph: Graph, inputs: Tensor, in_order: bool) -> Tensor:
    """Add what `MeansOverTime` computes."""
    count, size = inputs.shape[0], math.prod(inputs.shape[1:])
    features = graph.add("Reshape", graph.pixels(graph.last(inputs)).name, [-1, count, size])
    mean = graph.add("ReduceMean", features, [1], keepdims=0)
    centred = graph.add("Sub", features, graph.add("Unsqueeze", mean, [1]))
    if in_order:
        changes = graph.add("ReduceMean", graph.changes(features), [1], keepdims=0)
        parts = graph.add("Reshape", graph.add("MatMul", cell_weights(count, 4), centred), [-1, 4 * size])
        return Tensor(graph.add("Concat", mean, changes, parts, axis=1), (6 * size,))
    variance = graph.add("ReduceMean", graph.add("Mul", centred, centred), [1], keepdims=0)
    return Tensor(graph.add("Concat", mean, graph.add("Sqrt", variance), axis=1), (2 * size,))


def add_embed(graph: Graph, frames: Tensor, layer: Embedding) -> Tensor:
    """Add a backbone, with the scaling of frames to its side, and the means of its maps, as float16 has them."""
    images, side = graph.first(graph.pixels(frames)), layer.backbone.input_shape[1]
    height, width, channels = frames.shape
    name = images.name
    if (height, width) != (side, side):
        name = graph.add("Round", graph.resize(graph.resize(name, height, side, 2), width, side, 3))
    if channels == 1:
        name = graph.add("Concat", name, name, name, axis=1)
    maps = graph.first(add_network(graph, layer.backbone, Tensor(name, (side, side, 3), first=True)))
    *sides, features = maps.shape
    means = graph.grid_means(maps.name, tuple(sides), layer.grid)
    half = graph.add("Cast", means, to=FLOAT16)
    return graph.pixels(Tensor(half, (layer.grid, layer.grid, features), first=True))
