"""The graph of an ONNX file while it is written: nodes, constants, and tensors in the layout of Keras or of ONNX."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from keras import ops
from numpy.typing import ArrayLike, NDArray
from onnx import helper, numpy_helper

from motionbench.models.feature_layers import cell_weights

OPSET, IR_VERSION = 18, 8  # of ONNX: old enough for most programs that read it
FLOAT, FLOAT16 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


@dataclass(frozen=True)
class Tensor:
    """A value of the graph."""

    name: str
    shape: tuple[int, ...]  # as in Keras, without the axis of the clips, (frames, height, width, channels) or other
    first: bool = False  # whether channels stand before height and width, as convolutions of ONNX want them
    folded: bool = False  # whether clips and frames are one axis
    quads: bool = False  # whether the four pixels that a pooling takes the maximum of are side by side in the channels


class Graph:
    """The nodes of a graph and its constants, equal ones once."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.pooled: set[int] = set()  # ids of convolutions that a 2x2 pooling follows
        self.factors: dict[int, float] = {}  # by id of a layer: of its inputs, for its kernel, or its outputs
        self.constants: dict[tuple[Any, ...], tuple[str, NDArray[Any]]] = {}

    def add(self, operator: str, *inputs: str | ArrayLike, count: int = 1, **attributes: Any) -> Any:
        """Add a node, whose inputs are names, or constants: floats as float32, whole numbers as int64.

        Returns:
            The name of its output, or a list of `count`.
        """
        names = [each if isinstance(each, str) else self._constant(np.asarray(each)) for each in inputs]
        outputs = [f"{operator}_{len(self.nodes)}_{number}" for number in range(count)]
        self.nodes.append(helper.make_node(operator, names, outputs, **attributes))
        return outputs if count > 1 else outputs[0]

    def _constant(self, array: NDArray[Any]) -> str:
        array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
        key = array.dtype.str, array.shape, array.tobytes()
        return self.constants.setdefault(key, (f"constant_{len(self.constants)}", array))[0]

    def last(self, tensor: Tensor) -> Tensor:
        """Return a tensor as Keras has it: channels last, clips and frames two axes."""
        name, shape = tensor.name, tensor.shape
        if tensor.folded:
            frames = self.last(Tensor(name, shape[1:], tensor.first))
            return Tensor(self.add("Reshape", frames.name, [-1, *shape]), shape)
        if not tensor.first:
            return tensor
        return Tensor(self.add("Transpose", name, perm=[0, *range(2, len(shape) + 1), 1]), shape)

    def first(self, tensor: Tensor) -> Tensor:
        """Return a tensor with its channels after the clips, which are not folded with frames."""
        tensor = self.last(tensor) if tensor.folded else tensor
        shape = tensor.shape
        if tensor.first or len(shape) == 1:
            return tensor
        if shape[-1] == 1:
            return Tensor(self.add("Reshape", tensor.name, [-1, 1, *shape[:-1]]), shape, first=True)
        return Tensor(
            self.add("Transpose", tensor.name, perm=[0, len(shape), *range(1, len(shape))]), shape, first=True
        )

    def fold(self, tensor: Tensor) -> Tensor:
        """Return the frames of all clips as one batch."""
        if tensor.folded:
            return replace(tensor, shape=tensor.shape[1:], folded=False)
        return Tensor(self.add("Reshape", self.last(tensor).name, [-1, *tensor.shape[1:]]), tensor.shape[1:])

    @staticmethod
    def unfold(frames: Tensor, count: int) -> Tensor:
        """Return a batch of frames as clips of `count` frames."""
        return replace(frames, shape=(count, *frames.shape), folded=True)

    def pixels(self, tensor: Tensor) -> Tensor:
        """Return a tensor of any type as float32."""
        return replace(tensor, name=self.add("Cast", tensor.name, to=FLOAT))

    # What several rules use

    def changes(self, frames: str) -> str:
        """Add how much each of successive frames, the second axis, differs from the one before."""
        before = self.add("Slice", frames, [0], [-1], [1])
        before = self.add("Concat", self.add("Slice", frames, [0], [1], [1]), before, axis=1)
        return str(self.add("Abs", self.add("Sub", frames, before)))

    def grid_means(self, images: str, sides: Sequence[int], grid: int) -> str:
        """Add the means of images, shape (..., height, width), in the cells of a grid."""
        rows, columns = (cell_weights(side, grid) for side in sides)
        return str(self.add("MatMul", self.add("MatMul", rows, images), columns.T))

    def resize(self, images: str, size: int, side: int, axis: int) -> str:
        """Add what `keras.ops.image.resize` does along an axis, height 2 or width 3.

        In its order, with its roundings: many sums end in .5, where the last bit decides about a level of brightness.
        """
        units = np.eye(size, dtype="float32")[..., None]
        weights = np.array(ops.image.resize(units, (side, size), antialias=True))[..., 0]
        first, total = (weights != 0).argmax(axis=1), ""
        for tap in range((weights != 0).sum(axis=1).max()):
            pixels = np.minimum(first + tap, size - 1)
            counts = weights[np.arange(side), pixels] * (first + tap < size)
            taken = self.add("Gather", images, pixels, axis=axis)
            term = self.add("Mul", taken, counts[:, None] if axis == 2 else counts)
            total = self.add("Add", total, term) if total else term
        return total

    def content(self, name: str, inputs: tuple[Tensor, str], outputs: Tensor) -> bytes:
        """Return the content of the file. The same nodes and constants give the same bytes.

        Args:
            name: of the network.
            inputs: and their type, as NumPy names it.
        """
        self.nodes.append(helper.make_node("Identity", [self.last(outputs).name], ["probabilities"]))
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(inputs[1]))
        ends = [
            helper.make_tensor_value_info(inputs[0].name, kind, ("clips", *inputs[0].shape)),
            helper.make_tensor_value_info("probabilities", FLOAT, ("clips", *outputs.shape)),
        ]
        constants = [numpy_helper.from_array(array, name) for name, array in self.constants.values()]
        model = helper.make_model(
            helper.make_graph(self.nodes, name, ends[:1], ends[1:], constants),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="motionbench",
        )
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString(deterministic=True))


def padding(kind: str, sizes: tuple[int, ...], sides: ArrayLike, strides: ArrayLike) -> tuple[list[int], list[int]]:
    """Return what Keras pads, all that stands before and then all behind, and the sizes of the output."""
    size, side, stride = np.array(sizes), np.array(sides), np.array(strides)
    if kind == "valid":
        return [0] * 2 * len(size), ((size - side) // stride + 1).tolist()
    outputs = -(-size // stride)
    total = np.maximum((outputs - 1) * stride + side - size, 0)
    return [*(total // 2).tolist(), *(total - total // 2).tolist()], outputs.tolist()
