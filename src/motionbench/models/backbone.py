"""A frozen backbone: a Keras archive that turns frames into maps of features, and what is made of its maps."""

import pickle
import sys
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from numpy.typing import NDArray

from motionbench.core.errors import UserError, one_line
from motionbench.core.files import file_md5
from motionbench.data.params import ClipShape
from motionbench.data.splits import Clips
from motionbench.models.feature_layers import grid_means
from motionbench.models.registry import BackboneParams

# Blocks and the stride of the first of them, up to stride 16. Tan and Le, "EfficientNet" (2019).
LITE0_STAGES = ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1))
STORAGES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class _TensorUnpickler(pickle.Unpickler):
    """Reads what `torch.save` wrote before PyTorch 1.6, and refuses all but tensors: a pickle may run any code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: (storage, offset, shape, strides)
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        raise pickle.UnpicklingError(f"{module}.{name}: not a tensor")

    def persistent_load(self, pid: Any) -> Any:
        _, dtype, key, _, size, _ = pid
        return key, dtype, size


def read_torch_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Read the tensors of a state dict in PyTorch's format of before 1.6, without PyTorch.

    Raises:
        UserError: if the file is missing or not in this format, or holds more than tensors.
    """
    try:
        with path.open("rb") as file:
            _magic, _protocol, _sizes, tensors, keys = (_TensorUnpickler(file).load() for _ in range(5))
            storages = {}
            sizes = {key: (dtype, size) for (key, dtype, size), *_ in tensors.values()}
            for key in keys:  # each as a number of elements and the elements
                dtype, size = sizes[key]
                if int.from_bytes(file.read(8), "little") != size:
                    raise ValueError("sizes that do not fit")
                storages[key] = np.frombuffer(file.read(size * dtype.itemsize), dtype)
        return {
            # Some tensors lie transposed in their storage.
            name: np.lib.stride_tricks.as_strided(
                storages[key][offset:], shape, [stride * dtype.itemsize for stride in strides]
            ).copy()
            for name, ((key, dtype, _), offset, shape, strides) in tensors.items()
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"{path}: not readable as PyTorch's tensors ({one_line(error)})") from error


def efficientnet_lite0(tensors: Mapping[str, NDArray[Any]]) -> keras.Model:
    """Build EfficientNet-Lite0 up to stride 16, from its tensors as PyTorch names them.

    Returns:
        A model from frames, uint8, shape (batch, height, width, 3), to features, shape (batch, rows, columns, 112).
    """
    weights: list[tuple[keras.Layer, list[NDArray[Any]]]] = []

    def convolve(inputs: Any, name: str, stride: int = 1) -> Any:
        kernel = tensors[f"{name}.weight"]
        options: dict[str, Any] = {"strides": stride, "padding": "same", "use_bias": False}
        if "depthwise" in name:
            layer, order = keras.layers.DepthwiseConv2D(kernel.shape[2:], **options), (2, 3, 0, 1)
        else:
            layer, order = keras.layers.Conv2D(len(kernel), kernel.shape[2:], **options), (2, 3, 1, 0)
        weights.append((layer, [kernel.transpose(order)]))
        return layer(inputs)

    def normalize(inputs: Any, name: str, *, activate: bool = True) -> Any:
        layer = keras.layers.BatchNormalization(epsilon=1e-3)
        weights.append(
            (layer, [tensors[f"{name}.{each}"] for each in ("weight", "bias", "running_mean", "running_var")])
        )
        return keras.layers.ReLU(6)(layer(inputs)) if activate else layer(inputs)

    frames = keras.Input((None, None, 3), dtype="uint8")
    features = keras.layers.Rescaling(1 / 128, -127 / 128)(frames)
    features = normalize(convolve(features, "_conv_stem", 2), "_bn0")
    block = 0
    for blocks, first_stride in LITE0_STAGES:
        for number in range(blocks):
            name, inputs = f"_blocks.{block}", features
            if f"{name}._expand_conv.weight" in tensors:
                features = normalize(convolve(features, f"{name}._expand_conv"), f"{name}._bn0")
            stride = first_stride if number == 0 else 1
            features = normalize(convolve(features, f"{name}._depthwise_conv", stride), f"{name}._bn1")
            features = normalize(convolve(features, f"{name}._project_conv"), f"{name}._bn2", activate=False)
            if number > 0:
                features = features + inputs
            block += 1
    for layer, values in weights:
        layer.set_weights(values)
    return keras.Model(frames, features, name="efficientnet_lite0")


def of_applications(name: str, side: int, weights: str | None = "imagenet") -> keras.Model:
    """Build a network of keras.applications without its last layers, which are for ImageNet's classes.

    Args:
        name: such as MobileNetV3Small.
        side: of the frames, pixels: what Keras pads depends on it.
        weights: those that Keras downloads; None: random ones.

    Returns:
        A model from frames, uint8, shape (batch, side, side, 3), to maps, shape (batch, rows, columns, features).

    Raises:
        UserError: if there is no such network, if it takes no frames so small, or if no weights can be downloaded.
    """
    known = {each.lower(): each for each in dir(keras.applications) if each[0].isupper()}
    if name not in known.values():
        close = ", ".join(known[each] for each in get_close_matches(name.lower(), known) or known)
        raise UserError(f"NAME: {name}: keras.applications has no such network; it has {close}")
    build = getattr(keras.applications, name)
    try:
        with warnings.catch_warnings(action="ignore"):  # that the weights were trained with larger frames
            network = build(include_top=False, weights=weights, input_shape=(side, side, 3))
    except Exception as error:  # Keras raises no other class if a download fails
        raise UserError(
            f"NAME: {name}: Keras cannot make it for backbone.side: {side} ({one_line(error)}); if it may download no "
            "weights here, make it elsewhere and copy the archive, or use one of your own (docs/pretrained.md)"
        ) from error
    frames = keras.Input((side, side, 3), dtype="uint8")
    pixels = preprocessing(sys.modules[build.__module__])(keras.layers.Rescaling(1.0)(frames))
    return keras.Model(frames, network.call(pixels), name=name)


def preprocessing(module: Any) -> keras.Layer:
    """Return what a module of keras.applications does to frames, as a layer, so that an archive holds no code.

    All that they do is linear in the three values of a pixel: some scale them, some swap red and blue.
    """
    images = 255 * np.eye(4, 3, k=-1)[:, np.newaxis, np.newaxis]  # of one pixel: black, red, green and blue
    black, *colours = module.preprocess_input(images)[:, 0, 0]
    layer = keras.layers.Conv2D(3, 1, name="preprocessing")
    layer.build((None, None, None, 3))
    layer.set_weights([(np.array([[colours]]) - black) / 255, black])
    return layer


def load_backbone(path: Path, side: int) -> keras.Model:
    """Read a backbone.

    Raises:
        UserError: if the file is missing, damaged or no network from frames of this `side` to maps of features.
    """
    try:
        backbone = keras.saving.load_model(path, compile=False, safe_mode=True)
        if backbone.input_shape[1:3] not in ((None, None), (side, side)):
            raise ValueError(f"its input has the shape {backbone.input_shape}")
        frames = keras.Input((side, side, 3), dtype="uint8")
        # A copy for frames of this side: FLOPs are counted by the shapes of its layers.
        sized = keras.models.clone_model(keras.Model(backbone.inputs[0], backbone.outputs[0]), frames)
        sized.set_weights(backbone.get_weights())
        if len(shape := sized(np.zeros((1, side, side, 3), np.uint8)).shape) != 4:
            raise ValueError(f"its output has the shape {shape}")
    except Exception as error:  # Keras raises what the layers of a foreign archive raise
        raise UserError(
            f"{path}: not a Keras archive that maps frames, uint8, (batch, {side}, {side}, 3), to features, (batch, "
            f"rows, columns, channels) ({type(error).__name__}: {one_line(error)[:200]}); make one for backbone.side: "
            "make backbone"
        ) from error
    return sized


class Embedding(keras.layers.Layer):
    """Features of each frame: the backbone's map, averaged to a grid.

    Maps uint8 clips, (clips, frames, height, width, channels), to float16, (clips, frames, grid, grid, features).
    """

    def __init__(self, backbone: keras.Model, grid: int) -> None:
        super().__init__(trainable=False)
        self.backbone = backbone
        self.grid = grid

    def call(self, clips: Any) -> Any:
        """Return the features, clip by clip: larger batches would change their last bits, and take memory."""
        return tf.map_fn(self.of_clip, clips, parallel_iterations=1, fn_output_signature=tf.float16)

    def of_clip(self, frames: Any) -> Any:
        """Return the features of one clip."""
        side = self.backbone.input_shape[1]
        if frames.shape[-1] == 1:
            frames = ops.repeat(frames, 3, axis=-1)
        if frames.shape[1:3] != (side, side):
            scaled = ops.image.resize(ops.cast(frames, "float32"), (side, side), antialias=True)
            frames = ops.cast(ops.round(scaled), "uint8")
        return ops.cast(grid_means(self.backbone(frames, training=False), self.grid), "float16")


def with_backbone(head: keras.Model, backbone: keras.Model, clip_shape: ClipShape) -> keras.Model:
    """Return a model from clips to what `head` makes of their features."""
    clips = keras.Input(clip_shape, dtype="uint8")
    return keras.Sequential([clips, Embedding(backbone, head.input_shape[2]), *head.layers], name=head.name)


_embeddings: dict[tuple[Any, ...], Any] = {}


def embed(clips: Clips, params: BackboneParams) -> NDArray[np.float16]:
    """Return the features of the frames of clips.

    Raises:
        UserError: if the backbone cannot be used, or if a feature is not a number.
    """
    # By content: in a process of a cluster, the same path may be another run's.
    key = file_md5(path := params.archive()), params.side, params.grid, clips.shape[1:]
    if key not in _embeddings:
        layer = Embedding(load_backbone(path, params.side), params.grid)
        _embeddings[key] = tf.function(layer.of_clip, [tf.TensorSpec(clips.shape[1:], tf.uint8)])
    features: NDArray[np.float16] = np.stack([_embeddings[key](clip) for clip in clips])
    if not np.isfinite(features).all():
        raise UserError(f"{path}: it makes features of the clips that are not numbers; use another: make backbone")
    return features
