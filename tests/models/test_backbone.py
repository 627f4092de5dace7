import importlib.util
import pickle
import re
import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_image

from motionbench.core.errors import UserError
from motionbench.models import archive
from motionbench.models import backbone as module
from motionbench.models.backbone import (
    LITE0_STAGES,
    Embedding,
    efficientnet_lite0,
    embed,
    load_backbone,
    of_applications,
    preprocessing,
    read_torch_tensors,
    with_backbone,
)
from motionbench.models.cost import count_flops
from motionbench.models.networks import build_model
from motionbench.models.registry import BackboneParams, LogisticParams
from pipeline.backbone import PACKAGE, WEIGHTS

SIDE = 16
RANDOM = np.random.default_rng(0)


def save_as_torch(path: Path, tensors: dict[str, NDArray[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Write tensors as `torch.save` did before PyTorch 1.6, each with the strides that its array has."""
    torch, utils = ModuleType("torch"), ModuleType("torch._utils")
    storage = type("FloatStorage", (), {"__module__": "torch"})

    def _rebuild_tensor_v2() -> None: ...

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    torch.FloatStorage, utils._rebuild_tensor_v2 = storage, _rebuild_tensor_v2  # type: ignore[attr-defined]
    for name, fake in (("torch", torch), ("torch._utils", utils)):
        monkeypatch.setitem(sys.modules, name, fake)

    class Tensor:
        def __init__(self, key: str, array: NDArray[Any]) -> None:
            self.key, self.array = key, array

        def __reduce__(self) -> tuple[Any, ...]:
            strides = tuple(stride // 4 for stride in self.array.strides)
            return _rebuild_tensor_v2, (("storage", self.key, self.array.size), 0, self.array.shape, strides, False)

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            if isinstance(obj, tuple) and obj[:1] == ("storage",):
                return "storage", storage, obj[1], "cpu", obj[2], None
            return None

    content = OrderedDict((name, Tensor(name, array)) for name, array in tensors.items())
    with path.open("wb") as file:
        for part in (1, 1001, {"little_endian": True}, content, list(tensors)):
            Pickler(file, 2).dump(part)
        for array in tensors.values():
            file.write(array.size.to_bytes(8, "little") + np.sort(array.ravel(order="K")).tobytes())


def test_reads_tensors_in_the_order_of_their_strides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = np.arange(6, dtype=np.float32).reshape(2, 3)
    transposed = np.arange(6, dtype=np.float32).reshape(3, 2).T
    save_as_torch(tmp_path / "weights.pth", {"a": plain, "b": transposed}, monkeypatch)
    found = read_torch_tensors(tmp_path / "weights.pth")
    np.testing.assert_array_equal(found["a"], plain)
    np.testing.assert_array_equal(found["b"], transposed)


def test_runs_no_code_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps(print))
    with pytest.raises(UserError, match=r"weights.pth: not readable as PyTorch's tensors .*print: not a tensor"):
        read_torch_tensors(path)
    with pytest.raises(UserError, match="No such file"):
        read_torch_tensors(tmp_path / "none.pth")


def lite0_tensors() -> dict[str, NDArray[Any]]:
    """Return tensors of the network's names, with few filters and random values."""
    tensors: dict[str, NDArray[Any]] = {}

    def add(name: str, norm: str, *shape: int) -> None:
        tensors[f"{name}.weight"] = RANDOM.normal(0, 0.4, shape).astype(np.float32)
        for each in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"{norm}.{each}"] = RANDOM.uniform(0.5, 1.5, shape[0]).astype(np.float32)

    add("_conv_stem", "_bn0", 4, 3, 3, 3)
    width = 4
    for stage, (blocks, _) in enumerate(LITE0_STAGES):
        for number in range(blocks):
            block = f"_blocks.{sum(each for each, _ in LITE0_STAGES[:stage]) + number}"
            wide = width if stage == 0 else 2 * width
            if stage:
                add(f"{block}._expand_conv", f"{block}._bn0", wide, width, 1, 1)
            add(f"{block}._depthwise_conv", f"{block}._bn1", wide, 1, *[3 if stage % 2 else 5] * 2)
            width = 4 + stage
            add(f"{block}._project_conv", f"{block}._bn2", width, wide, 1, 1)
    return tensors


def convolved(images: NDArray[Any], kernel: NDArray[Any], stride: int, depthwise: bool) -> NDArray[Any]:
    """Convolve (height, width, channels) with PyTorch's kernel and TensorFlow's padding "same", in loops."""
    side, rows = kernel.shape[-1], -(-len(images) // stride)
    total = max((rows - 1) * stride + side - len(images), 0)
    padded = np.pad(images, [(total // 2, total - total // 2)] * 2 + [(0, 0)])
    result = np.zeros((rows, rows, len(kernel)))
    for row, column in np.ndindex(rows, rows):
        patch = padded[row * stride : row * stride + side, column * stride : column * stride + side]
        rule = "hwo,ohw->o" if depthwise else "hwi,oihw->o"
        result[row, column] = np.einsum(rule, patch, kernel[:, 0] if depthwise else kernel)
    return result


def lite0_by_hand(tensors: dict[str, NDArray[Any]], frame: NDArray[Any]) -> NDArray[Any]:
    def layer(inputs: NDArray[Any], name: str, norm: str, stride: int = 1, relu: bool = True) -> NDArray[Any]:
        outputs = convolved(inputs, tensors[f"{name}.weight"], stride, "depthwise" in name)
        gamma, beta, mean, variance = (
            tensors[f"{norm}.{each}"] for each in ("weight", "bias", "running_mean", "running_var")
        )
        outputs = gamma * (outputs - mean) / np.sqrt(variance + 1e-3) + beta
        return np.asarray(outputs.clip(0, 6) if relu else outputs)

    features = layer((frame - 127.0) / 128, "_conv_stem", "_bn0", 2)
    strides = [first if number == 0 else 1 for blocks, first in LITE0_STAGES for number in range(blocks)]
    firsts = [number == 0 for blocks, _ in LITE0_STAGES for number in range(blocks)]
    for block, (stride, first) in enumerate(zip(strides, firsts, strict=True)):
        name, inputs = f"_blocks.{block}", features
        if block:
            features = layer(features, f"{name}._expand_conv", f"{name}._bn0")
        features = layer(features, f"{name}._depthwise_conv", f"{name}._bn1", stride)
        features = layer(features, f"{name}._project_conv", f"{name}._bn2", relu=False)
        features = features if first else features + inputs
    return np.asarray(features)


def test_lite0_as_by_hand() -> None:
    tensors = lite0_tensors()
    frame = RANDOM.integers(0, 256, (33, 33, 3), dtype=np.uint8)
    found = np.asarray(efficientnet_lite0(tensors)(frame[None]))[0]
    by_hand = lite0_by_hand(tensors, frame)
    assert found.shape == by_hand.shape == (3, 3, 8)
    np.testing.assert_allclose(found, by_hand, rtol=1e-3, atol=1e-3 * np.abs(by_hand).max())


MODULES = [each for each in vars(keras.applications).values() if isinstance(each, ModuleType)]
FRAMES = RANDOM.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("family", MODULES, ids=[each.__name__ for each in MODULES])
def test_preprocessing_as_by_keras(family: ModuleType) -> None:
    by_keras = family.preprocess_input(FRAMES.astype(np.float32))
    np.testing.assert_allclose(preprocessing(family)(FRAMES.astype(np.float32)), by_keras, rtol=1e-5, atol=1e-4)


def test_a_network_of_keras_applications_is_a_backbone(tmp_path: Path) -> None:
    model = of_applications("MobileNet", 32, weights=None)
    archive.save_model(model, path := tmp_path / "MobileNet.keras")
    loaded = load_backbone(path, 32)
    alone = keras.applications.MobileNet(include_top=False, weights=None, input_shape=(32, 32, 3))
    alone.set_weights(model.get_weights()[2:])
    by_keras = np.asarray(alone(keras.applications.mobilenet.preprocess_input(FRAMES.astype(np.float32))))
    np.testing.assert_allclose(loaded(FRAMES), by_keras, rtol=1e-3, atol=1e-3 * by_keras.std())
    assert count_flops(loaded) == count_flops(alone) + 2 * 32 * 32 * 9
    assert embed(FRAMES[None], BackboneParams(path=str(path), side=32, grid=1)).shape == (1, 2, 1, 1, 1024)


def test_a_network_that_keras_applications_lacks() -> None:
    with pytest.raises(UserError, match=r"^NAME: mobilenetv3_smal: .* no such network; it has MobileNetV3Small, "):
        of_applications("mobilenetv3_smal", 32)
    with pytest.raises(UserError, match=r"no such network; it has ConvNeXtBase, .*, Xception$"):
        of_applications("imagenet_utils", 32)
    with pytest.raises(
        UserError, match=r"^NAME: VGG16: Keras cannot make it for backbone.side: 16 \(Input size must be at"
    ):
        of_applications("VGG16", 16, weights=None)


@pytest.mark.parametrize(
    ("name", "mean", "deviation", "centre"),
    [("china.jpg", 0.058, 8.006, [6.38, -0.88, 0.97, 0.19]), ("flower.jpg", 0.350, 7.412, [9.31, 9.86, 10.22, 8.06])],
)
def test_lite0_knows_photographs(name: str, mean: float, deviation: float, centre: list[float]) -> None:
    """The features are those with which the network's own classifier saw a palace (0.30) and a daisy (0.23)."""
    if (package := importlib.util.find_spec(PACKAGE)) is None or package.origin is None:
        pytest.skip("its weights are not installed: make .venv/backbone")
    network = efficientnet_lite0(read_torch_tensors(Path(package.origin).parent / WEIGHTS))
    frame = np.asarray(Image.fromarray(load_sample_image(name)).resize((112, 112), Image.Resampling.BOX))
    features = np.asarray(network(frame[None]))[0]
    assert features.shape == (7, 7, 112)
    found = [features.mean(), features.std(), *features[3, 3, :4]]
    np.testing.assert_allclose(found, [mean, deviation, *centre], atol=0.05)  # decoders of JPEG differ


@pytest.fixture
def backbone(tmp_path: Path) -> BackboneParams:
    """Return a small backbone of a user's own, which sees what the frames that it gets together have in common."""
    path = tmp_path / "own.keras"
    frames = keras.Input((None, None, 3), dtype="uint8")
    pixels = keras.layers.Rescaling(1 / 255)(frames)
    changes = pixels - keras.ops.mean(pixels, axis=0, keepdims=True)
    keras.Model(frames, keras.layers.Conv2D(5, 3, strides=4, padding="same")(changes)).save(path)
    return BackboneParams(path=str(path), side=SIDE, grid=2)


@pytest.mark.parametrize("shape", [(3, SIDE, SIDE, 3), (3, 20, 36, 3), (3, 20, 36, 1)])
def test_features_of_a_clip_do_not_depend_on_others(backbone: BackboneParams, shape: tuple[int, ...]) -> None:
    module._embeddings.clear()
    clips = RANDOM.integers(0, 256, (4, *shape), dtype=np.uint8)
    features = embed(clips, backbone)
    assert features.shape == (4, 3, 2, 2, 5)
    assert features.dtype == np.float16
    np.testing.assert_array_equal(embed(clips[2:3], backbone), features[2:3])
    assert len(np.unique(features)) > 100


def test_features_are_means_of_the_map(backbone: BackboneParams) -> None:
    loaded = load_backbone(backbone.archive(), SIDE)
    clips = RANDOM.integers(0, 256, (1, 3, SIDE, SIDE, 3), dtype=np.uint8)
    maps = np.asarray(loaded(clips[0]))
    expected = maps.reshape(3, 2, 2, 2, 2, 5).mean(axis=(2, 4))
    np.testing.assert_allclose(np.asarray(Embedding(loaded, 2)(clips))[0], expected, rtol=2e-3, atol=1e-3)


def test_a_whole_model_is_the_head_on_the_features(backbone: BackboneParams) -> None:
    module._embeddings.clear()
    clips = RANDOM.integers(0, 256, (4, 3, SIDE, SIDE, 3), dtype=np.uint8)
    head = build_model("pretrained_linear", LogisticParams(epochs=1), (3, 2, 2, 5), 4)
    whole = with_backbone(head, load_backbone(backbone.archive(), SIDE), clips.shape[1:])
    np.testing.assert_allclose(whole(clips), head(embed(clips, backbone)), rtol=1e-5)


def test_refused_backbones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"backbone.path: .*none: no such file; make one: make backbone"):
        BackboneParams(path=str(tmp_path / "none"), side=SIDE, grid=2).archive()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"backbone.path: .*empty: 0 archives; make one"):
        BackboneParams(path=str(tmp_path / "empty"), side=SIDE, grid=2).archive()
    for name in ("one.keras", ".partial.one.keras", "._one.keras"):  # as a kill and another system leave them
        (tmp_path / "empty" / name).touch()
    found = BackboneParams(path=str(tmp_path / "empty"), side=SIDE, grid=2).archive()
    assert found == tmp_path / "empty/one.keras"
    damaged = tmp_path / "damaged.keras"
    damaged.write_bytes(b"PK")
    flat = tmp_path / "flat.keras"
    keras.Sequential([keras.Input((SIDE, SIDE, 3)), keras.layers.Flatten()]).save(flat)
    grey = tmp_path / "grey.keras"
    keras.Sequential([keras.Input((SIDE, SIDE, 1)), keras.layers.Conv2D(2, 3)]).save(grey)
    larger = tmp_path / "larger.keras"
    keras.Sequential([keras.Input((2 * SIDE, 2 * SIDE, 3), dtype="uint8"), keras.layers.Rescaling(1)]).save(larger)
    floats = tmp_path / "floats.keras"
    keras.Sequential([keras.Input((SIDE, SIDE, 3)), keras.layers.Conv2D(2, 3)]).save(floats)
    for path in (damaged, flat, grey, larger, floats):
        with pytest.raises(UserError, match=f"{re.escape(str(path))}: not a Keras archive that maps frames"):
            load_backbone(path, SIDE)


def test_features_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.keras"
    keras.Sequential(
        [keras.Input((SIDE, SIDE, 3), dtype="uint8"), keras.layers.Rescaling(1e38), keras.layers.Rescaling(1e38)]
    ).save(path)
    with pytest.raises(UserError, match="makes features of the clips that are not numbers"):
        embed(np.full((1, 2, SIDE, SIDE, 3), 255, np.uint8), BackboneParams(path=str(path), side=SIDE, grid=2))
