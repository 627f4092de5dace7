"""Models from ONNX files, run by ONNX Runtime: nothing here imports TensorFlow."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from motionbench.core.errors import UserError, one_line
from motionbench.core.paths import ONNX, onnx_path


def open_session(file: Path | bytes, threads: int | None = None) -> onnxruntime.InferenceSession:
    """Return a session of ONNX Runtime for an ONNX file or its content.

    Args:
        threads: by default one for each core that this process may use.

    Raises:
        UserError: if the file is damaged, or has what ONNX Runtime does not know.
    """
    options = onnxruntime.SessionOptions()
    # A batch system may give a process few of a machine's cores: 64 threads on one took three times as long as one.
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    options.intra_op_num_threads = threads or cores or 1
    # Spinning gains at most 8 % alone, and beside busy processes it costs more than half.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    content, name = (file, "") if isinstance(file, bytes) else (str(file), f"{file}: ")
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # Its own have no class in common.
        raise UserError(f"{name}ONNX Runtime cannot read it ({one_line(error)})") from error


def infer(session: onnxruntime.InferenceSession, clips: NDArray[Any]) -> NDArray[np.float32]:
    """Return the probability of each class of clips, shape (clips, classes).

    They pass one by one: memory does not grow with their number, nor do bits depend on it.
    """
    return np.concatenate([session.run(None, {"clips": clip[None]})[0] for clip in clips])


def read_onnx(archive: Path) -> bytes | None:
    """Return the content of the file in data/onnx of a Keras archive, None if there is none of this archive."""
    from google.protobuf.message import DecodeError  # late, as `onnx` below

    from motionbench.core.files import file_md5

    file = onnx_path(ONNX, archive)
    content = file.read_bytes() if file.exists() and archive.exists() else b""
    try:
        return content if content and read_metadata(content).get("md5") == file_md5(archive) else None
    except DecodeError:  # It is damaged.
        return None


def read_metadata(content: bytes) -> dict[str, str]:
    """Return what an ONNX file says about itself."""
    import onnx  # late: not installed where models are served

    return {each.key: each.value for each in onnx.load_from_string(content).metadata_props}


def with_metadata(content: bytes, metadata: Mapping[str, Any]) -> bytes:
    """Return the content of an ONNX file that says more about itself; what is no text becomes JSON."""
    import onnx

    model = onnx.load_from_string(content)
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    onnx.helper.set_model_props(model, dict(sorted({**read_metadata(content), **texts}.items())))
    return bytes(model.SerializeToString(deterministic=True))
