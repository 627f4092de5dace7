"""The cost of inference of each model: metrics/evaluation_timing.json."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import FiniteFloat, TypeAdapter

from motionbench.core.dvc_files import run_again
from motionbench.core.errors import UserError
from motionbench.core.files import read_json, write_json
from motionbench.core.paths import EVALUATION_TIMING
from motionbench.core.processes import describe_environment


class Cost(NamedTuple):
    """The cost of inference as `make predict` and a server run the model, medians and quartiles without warm-up.

    In one process with the threads of a replicate; `latency_all_cores` is with one for each core.
    """

    flops: int  # per clip, as `count_flops` counts them
    latency_milliseconds: FiniteFloat  # of one clip alone
    latency_quartiles: tuple[FiniteFloat, FiniteFloat]
    clips_per_second: FiniteFloat  # in batches of 32
    throughput_quartiles: tuple[FiniteFloat, FiniteFloat]
    runtime: str  # ONNX Runtime, or TensorFlow for a model without an ONNX file
    latency_all_cores: FiniteFloat | None  # milliseconds, of one clip alone; None: not measured with TensorFlow


def write_costs(path: Path, costs: Mapping[str, Cost]) -> None:
    """Write the costs of models, and where they were measured."""
    write_json(path, {**{name: cost._asdict() for name, cost in costs.items()}, "environment": describe_environment()})


def read_costs(models: Iterable[str]) -> dict[str, Cost]:
    """Read the costs of these models.

    Raises:
        UserError: if the file is missing or damaged.
    """
    try:
        content = read_json(EVALUATION_TIMING)
        return {name: TypeAdapter(Cost).validate_python(content[name]) for name in models}
    except (OSError, ValueError, LookupError, TypeError) as error:
        reason = f"not readable ({type(error).__name__}); measure again: {run_again('evaluate')}"
        raise UserError(f"{EVALUATION_TIMING}: {reason}") from error
