"""TensorFlow's threads and operations in a process that computes with it."""

import tensorflow as tf


def fix_threads(threads: int, operations: int | None = None) -> None:
    """Let TensorFlow use deterministic operations in this process, and `threads` CPU threads for each of them.

    Args:
        operations: how many may run at once, by default `threads`. Unlike `threads` it changes no result.

    Raises:
        RuntimeError: if this process has computed already, with other numbers.
    """
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(operations or threads)
    tf.config.experimental.enable_op_determinism()
