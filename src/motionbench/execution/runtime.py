"""Imports of large packages, and TensorFlow's without the settings that would change results."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from motionbench.core.errors import UserError

IGNORED = ("DNNL_", "KERAS_", "ONEDNN_", "TF_", "TF2_", "XLA_")
"""Environment variables that may change results begin with these, such as ONEDNN_MAX_CPU_ISA or KERAS_MAX_EPOCHS."""
HARMLESS = ("TF_CPP_", "TF_FORCE_GPU_", "TF_GPU_")  # what is logged, and a GPU's memory


@contextmanager
def importing_tensorflow(keras_home: str = os.devnull) -> Iterator[None]:
    """Import TensorFlow and Keras, and discard what they write to stderr, which no log level turns off.

    Settings for other work, in the environment or in ~/.keras/keras.json, are ignored, since they decide results.
    Keras 3.15 imports packages for parts that are not used here. Hiding them saves a quarter of the time and 90 MB.

    Args:
        keras_home: an empty folder for what Keras downloads; by default none, and it downloads nothing.

    Raises:
        UserError: if this process has imported Keras with another backend.
    """
    for name in list(os.environ):
        if name.startswith(IGNORED) and not name.startswith(HARMLESS):
            del os.environ[name]
    # No keras.json can be below /dev/null, and Keras writes none.
    os.environ |= {"KERAS_BACKEND": "tensorflow", "KERAS_HOME": keras_home}
    # TensorFlow 2.21 leaves oneDNN out on CPUs without instructions for neural networks, such as those with AVX2 alone,
    # where it makes training more than three times as fast (docs/performance.md).
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
    hidden = {"matplotlib", "pandas", "scipy", "sklearn"} - sys.modules.keys()
    with discarded_stderr():
        for name in hidden:
            sys.modules[name] = None  # type: ignore[assignment] # hides it: Python's reference, 5.3.1
        try:
            keras = import_module("keras")
        finally:
            for name in hidden:
                del sys.modules[name]
        if keras.config.backend() != "tensorflow":
            raise UserError(f"Keras runs on {keras.config.backend()} in this process; use a new process")
        yield


@contextmanager
def discarded_stderr() -> Iterator[None]:
    """Discard what this process writes to stderr, also from C++."""
    with Path(os.devnull).open("w") as devnull:
        original = os.dup(2)
        os.dup2(devnull.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(original, 2)
            os.close(original)
