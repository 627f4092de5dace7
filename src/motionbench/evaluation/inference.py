"""What a process does with a replicate: predict clips, as they are or perturbed, and time that.

TensorFlow is imported in the functions: the main process needs none.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from motionbench.core.errors import UserError
from motionbench.data.folds import held_out_folder, read_test
from motionbench.data.perturbations import perturb
from motionbench.data.splits import Clips, read_split
from motionbench.evaluation.costs import Cost
from motionbench.evaluation.predictions import UNCHANGED
from motionbench.execution.engine import EventCallback
from motionbench.execution.runtime import importing_tensorflow
from motionbench.models.registry import BackboneParams

if TYPE_CHECKING:
    import keras

    from motionbench.models.cost import Infer

CLIPS_AT_ONCE = 8
TOLERANCE = 1e-5  # between the probabilities of Keras and of ONNX Runtime
_loaded: "dict[bytes, tuple[keras.Model, Infer, bytes]]" = {}  # by network: also the file that its weights are from


def predict(path: Path, clips: NDArray[Any], threads: int) -> NDArray[np.float32]:
    """Return the probability of each class that the model at `path` gives to clips, shape (clips, classes).

    Args:
        clips: or the features of their frames, for a model that reads these.
    """
    _, infer = _load(path, clips, threads)
    batches = np.array_split(clips, max(1, len(clips) // CLIPS_AT_ONCE))
    probabilities: NDArray[np.float32] = np.concatenate([infer(batch) for batch in batches])
    return probabilities


def predict_held_out_clips(
    path: Path, fold: int | None, numbers: NDArray[np.int64], first: int, how: tuple[str, float, int], threads: int,
    _on_event: EventCallback,
) -> NDArray[np.float32]:  # fmt: skip # what belongs together on one line
    """Return the predictions of the model at `path` of clips that a fold holds out.

    Args:
        numbers: of the clips among all held-out clips.
        first: the number of the first clip of the fold's part.
        how: name and level of the condition, and the seed of what it draws.
    """
    return predict(path, read_perturbed(fold, numbers, first, how), threads)


def read_perturbed(fold: int | None, numbers: NDArray[np.int64], first: int, how: tuple[str, float, int]) -> Clips:
    """Return clips that a fold holds out under a condition, as `predict_held_out_clips` takes them."""
    name, level, seed = how
    clips = read_test(fold).clips
    return clips if name == UNCHANGED else perturb(clips[numbers - first], numbers, name, level, seed)


def embed_held_out_clips(
    fold: int | None, numbers: NDArray[np.int64], first: int, how: tuple[str, float, int],
    backbone: BackboneParams, threads: int, _on_event: EventCallback,
) -> NDArray[np.float16]:  # fmt: skip # what belongs together on one line
    """Return the features of clips that a fold holds out, as they are or perturbed."""
    if how[0] == UNCHANGED:
        return np.asarray(read_split(held_out_folder(fold), features=True).clips)
    with importing_tensorflow():
        from motionbench.execution.threads import fix_threads
        from motionbench.models.backbone import embed
    fix_threads(threads)
    return embed(read_perturbed(fold, numbers, first, how), backbone)


def predict_features(
    path: Path, features: NDArray[np.float16], threads: int, _on_event: EventCallback
) -> NDArray[np.float32]:
    """Return the predictions of the model at `path` of clips with these features."""
    return predict(path, features, threads)


def time_inference(
    path: Path, fold: int | None, threads: int, onnx: Path, _on_event: EventCallback,
    backbone: BackboneParams | None = None,
) -> Cost:  # fmt: skip # what belongs together on one line
    """Time a model on the clips that a fold holds out, by its ONNX file, or the one at `path` where there is none.

    With the backbone, if it reads features.
    """
    clips = read_test(fold).clips
    model, as_graph = _load(path, clips, threads, backbone)
    from motionbench.models.cost import count_flops, time_batches, time_single_clips
    from motionbench.models.onnx_runtime import infer, open_session

    runtime, answer, all_cores = "TensorFlow", as_graph, None
    if onnx.exists():
        runtime, answer = "ONNX Runtime", partial(infer, open_session(onnx, threads))
        all_cores = float(np.median(time_single_clips(partial(infer, open_session(onnx)), clips)))
    latency = time_single_clips(answer, clips)
    throughput = 32 / time_batches(answer, clips, size=32, warm_up=1, rounds=3)
    (fast, milliseconds, slow), (low, clips_per_second, high) = (
        np.quantile(each, [0.25, 0.5, 0.75]).tolist() for each in (latency, throughput)
    )
    spread = milliseconds, (fast, slow), clips_per_second, (low, high)
    return Cost(count_flops(model), *spread, runtime, all_cores)


def write_onnx(
    path: Path, fold: int | None, expected: NDArray[np.float32], threads: int, _on_event: EventCallback,
    backbone: BackboneParams | None = None,
) -> bytes | str:  # fmt: skip # what belongs together on one line
    """Return the model at `path` as the content of an ONNX file, with its backbone, or why there is none.

    Args:
        expected: the predictions of Keras of the clips that the fold holds out, which those of the file must equal.
    """
    clips = read_test(fold).clips
    model, _ = _load(path, clips, threads, backbone)
    from motionbench.models.onnx_layers import to_onnx
    from motionbench.models.onnx_runtime import infer, open_session

    try:
        session = open_session(content := to_onnx(model), threads)
    except UserError as error:
        return str(error)
    difference = np.abs(infer(session, clips) - expected).max()
    return content if difference <= TOLERANCE else f"a probability of a test clip differs by {difference:.1g}"


def _load(
    path: Path, clips: NDArray[Any], threads: int, backbone: BackboneParams | None = None
) -> "tuple[keras.Model, Infer]":
    """Return the model at `path`, and as a graph, which a process traces once for the replicates of a model."""
    with importing_tensorflow():
        from motionbench.execution.threads import fix_threads
        from motionbench.models.archive import load_model, load_weights, read_network
        from motionbench.models.cost import as_graph
    fix_threads(threads)
    if backbone:
        from motionbench.models.backbone import load_backbone, with_backbone

        whole = with_backbone(load_model(path), load_backbone(backbone.archive(), backbone.side), clips.shape[1:])
        return whole, as_graph(whole)
    network, content = read_network(path), path.read_bytes()
    if network not in _loaded:
        model = load_model(path)
        _loaded[network] = model, as_graph(model), content
    model, infer, loaded = _loaded[network]
    # Contents are compared, not paths: in a process of a cluster, the same path may be another run's.
    if content != loaded:
        load_weights(model, path)
        _loaded[network] = model, infer, content
    return model, infer
