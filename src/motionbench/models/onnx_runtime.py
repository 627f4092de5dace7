"""Models from ONNX files, run by ONNX Runtime: nothing here imports TensorFlow."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray


def open_session(file: Path | bytes, threads: int) -> onnxruntime.InferenceSession:
    """Return a session of ONNX Runtime for an ONNX file or its content."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Spinning gains at most 8 % alone, and beside busy processes it costs more than half.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    content = file if isinstance(file, bytes) else str(file)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def infer(session: onnxruntime.InferenceSession, clips: NDArray[Any]) -> NDArray[np.float32]:
    """Return the probability of each class of clips, shape (clips, classes).

    They pass one by one: memory does not grow with their number, nor do bits depend on it.
    """
    return np.concatenate([session.run(None, {"clips": clip[None]})[0] for clip in clips])
