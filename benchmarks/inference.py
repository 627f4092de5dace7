"""Inference of one clip and of 32: ours, as `make predict` and a server run it, against others, in paired rounds.

python -m benchmarks.inference [ROUNDS] writes a page into benchmarks/results, named after the CPU, and prints it. Each
side has a process of its own for a network and a number of threads; only one of them works at a time. The machine must
do nothing else.
"""

import multiprocessing
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from itertools import product
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import numpy as np

from benchmarks.common import HERE, machine, markdown_table, processor, slug, write_page
from benchmarks.one_side import CLASSES, NETWORKS, SIDES, median_milliseconds, network
from motionbench.execution.runtime import importing_tensorflow

ROUNDS = 5
SECONDS = 0.3  # of calls in a round, one at least
THREADS = (1, 2)
COUNTS = (1, 32)  # clips
OURS = "ours, ONNX Runtime"
RIVALS = {"TensorFlow's graph of ours": "ours", "stock Keras": "stock", "compiled PyTorch": "torch compiled"}
Case = tuple[int, int, str, str]  # clips, threads, size, model
Results = Mapping[Case, Mapping[str, Sequence[float]]]  # milliseconds of each side in each round


def main() -> None:
    """Measure all networks, and write the medians and ratios."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    sides = [OURS, *(side for side in RIVALS if find_spec("torch") or RIVALS[side] != "torch compiled")]
    results: dict[Case, dict[str, list[float]]] = {}
    for threads, (size, model) in product(THREADS, NETWORKS):
        with ExitStack() as stack:
            processes = {side: stack.enter_context(start(side, model, size, threads)) for side in sides}
            for process in processes.values():
                process.recv()  # Its network is built and compiled.
            for count in COUNTS:
                timed: dict[str, list[float]] = {side: [] for side in sides}
                for _ in range(rounds):
                    for side, process in processes.items():
                        process.send(count)
                        timed[side].append(process.recv())
                results[count, threads, size, model] = timed
        print(f"{model}, {size}, threads: {threads}", file=sys.stderr, flush=True)
    page = as_markdown(results, rounds)
    write_page(HERE / "results" / f"inference-{slug(processor())}.md", page)
    print("\n\n".join(page))


@contextmanager
def start(side: str, model: str, size: str, threads: int) -> Iterator["Connection[Any, Any]"]:
    """Yield the connection to a process of a side, and end that afterwards."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=answer, args=(there, side, model, size, threads), daemon=True)
    process.start()
    there.close()  # so that `recv` fails if the process does
    try:
        yield here
    finally:
        with suppress(OSError):  # It may have failed.
            here.send(0)
        process.join()


def answer(connection: "Connection[Any, Any]", side: str, model: str, size: str, threads: int) -> None:
    """Build a network, say so, and send the milliseconds of each number of clips that comes; 0 is the end."""
    params, clip_shape = network(model, size)
    clips = np.random.default_rng(0).integers(0, 256, (max(COUNTS), *clip_shape), np.uint8)
    if side == OURS:
        with importing_tensorflow():
            from motionbench.models.networks import build_model
            from motionbench.models.onnx_layers import to_onnx
        from motionbench.models.onnx_runtime import infer, open_session

        built = build_model(model, params, clip_shape, CLASSES)
        calls = {count: partial(infer, open_session(to_onnx(built), threads), clips[:count]) for count in COUNTS}
    else:
        built = SIDES[RIVALS[side]](model, params, clip_shape, threads)
        calls = {count: partial(built.infer, built.as_tensor(clips[:count])) for count in COUNTS}
    for call in calls.values():
        call()  # compiles, for each number
        call()
    connection.send(None)
    while count := connection.recv():
        connection.send(median_milliseconds(calls[count], SECONDS, calls=1))


def as_markdown(results: Results, rounds: int) -> list[str]:
    """Return the page: a table for each number of clips and of threads, with a row for each network."""
    packages = [name for name in ("onnxruntime", "tensorflow", "keras", "torch", "numpy") if find_spec(name)]
    page = [
        "# Inference",
        f"By `python -m benchmarks.inference {rounds}` on {machine()}, "
        f"{', '.join(f'{name} {version(name)}' for name in packages)}. Milliseconds, medians of "
        f"{rounds} rounds; in brackets how many times as long as ours, a median of ratios. In a round each "
        f"side is called for {SECONDS:g} s, once at least, while the others wait. Random clips.",
    ]
    for count, threads in product(COUNTS, THREADS):
        rows = [
            {"": f"{model}, {size}"} | {side: _cell(timed[side], timed[OURS]) for side in timed}
            for (clips, used, size, model), timed in results.items()
            if (clips, used) == (count, threads)
        ]
        what = f"{count} clip{'s' * (count > 1)}, {threads} thread{'s' * (threads > 1)}"
        page += [f"## {what}", markdown_table(rows)]
    return page


def _cell(timed: Sequence[float], ours: Sequence[float]) -> str:
    ratio = median(each / own for each, own in zip(timed, ours, strict=True))
    return f"{median(timed):.3g}" if timed is ours else f"{median(timed):.3g} ({ratio:.2f})"


if __name__ == "__main__":
    main()
