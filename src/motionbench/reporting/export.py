"""A model to hand over: its ONNX file, a card that says what it is, and an example."""

import json
from pathlib import Path
from typing import Any

from motionbench.core import paths
from motionbench.core.dvc_files import run_again, training_stage
from motionbench.core.errors import UserError
from motionbench.core.files import read_json
from motionbench.core.processes import git
from motionbench.models.onnx_runtime import read_metadata, read_onnx, with_metadata
from motionbench.models.registry import MODEL_NAMES, MODELS, reads_features
from motionbench.training.results import read_trainings

RESIZED = {"pad": "padded with black", "crop": "cut", "stretch": "stretched"}
EXAMPLE = """import json
import pathlib
import sys

import numpy
import onnxruntime

session = onnxruntime.InferenceSession(pathlib.Path(__file__).with_name("model.onnx"))
names = json.loads(session.get_modelmeta().custom_metadata_map["class_names"])
clips = numpy.load(sys.argv[1])  # uint8, shape (clips, {shape})
for probabilities in session.run(None, {{"clips": clips}})[0]:
    print({{name: round(float(each), 4) for name, each in zip(names, probabilities)}})
"""


def export_model(folder: Path, archive: Path) -> None:
    """Write model.onnx, README.md and example.py of a trained model to `folder`.

    Raises:
        UserError: if its ONNX file or another file is missing.
    """
    content = read_onnx(archive)
    if content is None:
        file = paths.onnx_path(paths.ONNX, archive)
        raise UserError(f"{file}: missing, damaged or of another archive; write it: {run_again('evaluate')}")
    # Not those of dvc.lock, which has the clips that were made last.
    used = _read(paths.stage_inputs_path(training_stage(archive.parent.name)))["md5s"]
    clips = {f"data.md5.{Path(path).name}": md5 for path, md5 in used.items() if Path(path) in paths.CLIPS}
    content = with_metadata(content, {**clips, "commit": git("rev-parse", "HEAD").strip()})
    said = read_metadata(content)
    shape = json.loads(said["clip_shape"])
    (folder / "model.onnx").write_bytes(content)
    (folder / "README.md").write_text(write_card(archive, said), encoding="utf-8")
    (folder / "example.py").write_text(EXAMPLE.format(shape=", ".join(map(str, shape))), encoding="utf-8")


def chosen_archive(model_name: str) -> Path:
    """Return the archive of a model to export: of the champion, or the best replicate of the model that is named.

    Raises:
        UserError: if there is no such model.
    """
    if not model_name:
        champion = _read(paths.COMPARISON_TIMING)["champion"] if paths.COMPARISON_TIMING.exists() else None
        if champion is None:
            raise UserError("the comparison here has no champion; name a model: make export MODEL=cnn_lstm")
        return Path(champion)
    if model_name not in MODEL_NAMES:
        raise UserError(f"MODEL: {model_name}: no such model; there are {', '.join(MODEL_NAMES)}")
    key = read_trainings([model_name])[model_name].best_replicate
    return paths.replicate_path(paths.MODELS / model_name, key)


def write_card(archive: Path, said: dict[str, str]) -> str:
    """Return what a model is, what it was trained on, and what it cannot do, as Markdown.

    Args:
        said: the metadata of its file.
    """
    model, names = archive.parent.name, json.loads(said["class_names"])
    frames, height, width, channels = json.loads(said["clip_shape"])
    colour = "grey" if channels == 1 else "RGB"
    md5s = [f"{key.removeprefix('data.md5.')} {md5}" for key, md5 in said.items() if key.startswith("data.md5.")]
    lines = [
        f"# {model}",
        f"A model of motionbench that sees {MODELS[model].sees} of a clip. In: `clips`, uint8, shape (clips, {frames}, "
        f"{height}, {width}, {channels}): {frames} {colour} frames at equal distances, {RESIZED[said['resize']]} to "
        f"{width}x{height} pixels. Out: `probabilities`, float32, shape (clips, {len(names)}). `example.py` shows how.",
        "## Trained on",
        f"Clips whose source is `{said['source']}`, median duration {float(said['seconds']):.1f} s, of the classes "
        f"{', '.join(names)}. md5 of the clips: {', '.join(md5s)}. Archive: `{archive.as_posix()}`, md5 {said['md5']}; "
        f"exported at commit {said['commit']}.",
        "## Verdict",
        *_verdict(model, said["md5"]),
        "## Limits",
        f"It knows these {len(names)} classes only: whatever else is shown gets one of them, and a high probability "
        "does not say that it is one. Accuracy was measured on held-out clips of the same source; on others it may be "
        "lower.",
    ]
    if reads_features(model):
        lines += [
            "## Licence of the backbone",
            "The file holds the frozen backbone that makes its features. Its weights are others' work and have a "
            "licence of their own, which may allow less than this project's: docs/pretrained.md says where they are "
            "from.",
        ]
    return "\n\n".join(lines) + "\n"


def _verdict(model: str, md5: str) -> list[str]:
    """Return the accuracy of a model and what the comparison says, if there is one of the archive with this md5."""
    compared = paths.COMPARISON_METRICS / "replicates.csv"
    if not compared.exists() or md5 not in compared.read_text(encoding="utf-8"):
        return ["None: no comparison of this archive is there. `make repro` makes one."]
    summary: dict[str, Any] = _read(paths.COMPARISON_METRICS / "summary.json")
    verdict = (paths.COMPARISON_METRICS / "verdict.txt").read_text(encoding="utf-8").splitlines()
    figures = summary[model]
    accuracy = f"Accuracy {figures['accuracy']:.3f}, 95 % interval {figures['low']:.3f} to {figures['high']:.3f}."
    return [accuracy, *verdict, _read(paths.COMPARISON_TIMING)["reason"]]


def _read(path: Path) -> Any:
    """Read a JSON file that a stage has written.

    Raises:
        UserError: if it is missing or damaged.
    """
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable ({type(error).__name__}); make it again: make repro") from error
