"""TensorFlow in a process: its import, and the settings that make results repeatable."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path


@contextmanager
def importing_tensorflow() -> Iterator[None]:
    """Import TensorFlow and Keras, and discard what they write to stderr in this block: it respects no log level.

    For parts that nothing here uses, Keras 3.15 imports packages which it can do without; their import takes as long as
    its own.
    """
    hidden = {"matplotlib", "pandas", "scipy", "sklearn"} - sys.modules.keys()
    with Path(os.devnull).open("w") as devnull:
        original = os.dup(2)
        os.dup2(devnull.fileno(), 2)
        try:
            for name in hidden:
                sys.modules[name] = None  # type: ignore[assignment] # not to be found: Python's reference, 5.3.1
            try:
                import_module("keras")
            finally:
                for name in hidden:
                    del sys.modules[name]
            yield
        finally:
            os.dup2(original, 2)
            os.close(original)


def fix_threads(threads: int) -> None:
    """Give TensorFlow `threads` CPU threads in this process and the same result every time."""
    import tensorflow as tf  # late: the process that waits for tasks needs no TensorFlow

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    tf.config.experimental.enable_op_determinism()
