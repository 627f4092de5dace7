"""TensorFlow's threads and operations in a process that computes with it."""

import tensorflow as tf


def fix_threads(threads: int) -> None:
    """Let TensorFlow use `threads` CPU threads in this process and deterministic operations."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    tf.config.experimental.enable_op_determinism()
