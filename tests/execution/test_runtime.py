import gc
import importlib
import os
import sys

import pytest

from motionbench.core.commands import OBJECTS_BETWEEN_COLLECTIONS
from motionbench.core.errors import UserError
from motionbench.execution.engine import EventCallback, local_engine, run_tasks
from motionbench.execution.runtime import importing_tensorflow
from pipeline.train import import_training


def use_tensorflow(_on_event: EventCallback) -> tuple[bool, bool, int, int]:
    prepared = "tensorflow" in sys.modules
    stderr = os.fstat(2)
    with importing_tensorflow():
        import tensorflow as tf

        from motionbench.execution.threads import fix_threads

        assert not os.path.samestat(os.fstat(2), stderr)
    assert os.path.samestat(os.fstat(2), stderr), "stderr is back"
    assert gc.get_threshold()[0] == OBJECTS_BETWEEN_COLLECTIONS
    hidden = "pandas" not in sys.modules and importlib.import_module("scipy") is not None
    fix_threads(2)
    return (
        prepared,
        hidden,
        *(
            get()
            for get in (
                tf.config.threading.get_intra_op_parallelism_threads,
                tf.config.threading.get_inter_op_parallelism_threads,
            )
        ),
    )


def use_another_backend(_on_event: EventCallback) -> None:
    keras = importlib.import_module("keras")
    keras.config.backend = lambda: "torch"
    with importing_tensorflow():
        pass


def test_a_prepared_process_has_tensorflow_and_the_threads_set() -> None:
    with local_engine() as engine:
        engine.prepare(import_training, 1)
        assert run_tasks(engine, [use_tensorflow], 2) == [(True, True, 2, 2)]
        with pytest.raises(UserError, match=r"^Keras runs on torch in this process; use a new process$"):
            run_tasks(engine, [use_another_backend], 2)
