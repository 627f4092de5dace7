"""Training with our layers, stock keras.layers and PyTorch, interleaved in one run, each side in processes of its own.

python -m benchmarks.compare_layers [ROUNDS] writes a page into benchmarks/results, named after the CPU, anew after each
round, so that a run may be stopped.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from statistics import mean, median

import joblib

from benchmarks.common import HERE, machine, markdown_table, processor, slug, write_page
from benchmarks.one_side import BATCH_SIZE, NETWORKS, SECONDS, SIDES

ROUNDS = 3
MEASURES = {
    "training": "training, ms per clip",
    "a_core": "training, a replicate a core, ms per clip",
    "first_step": "first training step, ms",
    "peak_memory": "peak memory of training, MB",
}
RATIOS = {"training": "training", "a_core": "a replicate a core"}
RIVALS = ("stock", "torch compiled")
Network = tuple[str, str]  # size and model
Figures = Mapping[str, float]
Results = Mapping[Network, Mapping[str, Figures]]  # the figures of each side


def main() -> None:
    """Measure all sides, round after round, and write the medians and their ratios."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    sides = list(SIDES)
    if not find_spec("torch"):
        sides = ["stock", "ours"]
        print("PyTorch is not installed and left out. To add it: pip install --group bench")
    page = HERE / "results" / f"{slug(processor())}.md"
    measured: dict[Network, dict[str, list[Figures]]] = {each: {side: [] for side in sides} for each in NETWORKS}
    for number in range(1, rounds + 1):
        for size, model in NETWORKS:
            for side in sides:
                figures = measure(side, model, size)
                measured[size, model][side].append(figures)
                print(f"round {number} of {rounds}, {model}, {size}, {side}: {figures}", flush=True)
        results = {
            each: {side: {key: median(f[key] for f in figures) for key in MEASURES} for side, figures in rows.items()}
            for each, rows in measured.items()
        }
        write_page(page, as_markdown(results, number))


def measure(side: str, model: str, size: str) -> Figures:
    """Measure one process with all threads, then a replicate a core."""
    [alone] = _run(side, model, size, replicates=1)
    together = _run(side, model, size, replicates=joblib.cpu_count())
    # Stock Keras trains as its users run it.
    share = mean(each["training"] for each in together) / len(together)
    return {**alone, "a_core": alone["training"] if side == "stock" else share}


def _run(side: str, model: str, size: str, replicates: int) -> list[Figures]:
    """Return the figures of replicates that run at the same time."""
    command = [sys.executable, "-m", "benchmarks.one_side", side, model, size, str(replicates)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(replicates)]
    outputs = [process.communicate() for process in running]
    for process, (_, errors) in zip(running, outputs, strict=True):
        if process.returncode:
            raise RuntimeError(errors.decode())
    return [json.loads(output) for output, _ in outputs]


def as_markdown(results: Results, rounds: int) -> list[str]:
    """Return the page: our side against the others, then a table for each network.

    Args:
        results: the medians.
        rounds: over how many rounds.
    """
    packages = [name for name in ("tensorflow", "keras", "torch", "numpy") if find_spec(name)]
    paragraphs = [
        "# Training with our layers, stock Keras and PyTorch",
        f"Medians of {rounds} interleaved rounds, by `python -m benchmarks.compare_layers {rounds}` on {machine()}, "
        f"{', '.join(f'{name} {version(name)}' for name in packages)}. Random clips, in batches of {BATCH_SIZE}. A "
        f"round takes the median of the steps of {SECONDS} s after the first. One process has all threads. *A "
        "replicate a core* are as many processes as cores, one thread each; the time per clip is that of all together.",
        "How many times as fast ours is: ratios of the medians. Our replicate a core is compared with one process of "
        "stock Keras, and with PyTorch's replicate a core.",
        *(
            markdown_table(_ratios(results, side))
            for side in RIVALS
            if all(side in sides for sides in results.values())
        ),
        "In brackets: how many times better than stock Keras, which trains in one process in all rows. It is imported "
        "plainly, which also imports matplotlib, pandas, scipy and scikit-learn, about 150 MB; ours does not import "
        "them. The PyTorch models are written as its users do (benchmarks/torch_models.py). Compiled code, if any, is "
        "cached on disk, so that its first step is not that of a very first run, which takes minutes.",
    ]
    for each, sides in results.items():
        rows = [
            {"": label} | {side: f"{_number(f[key])} ({sides['stock'][key] / f[key]:.2f})" for side, f in sides.items()}
            for key, label in MEASURES.items()
        ]
        paragraphs += [f"## {each[1]}, {each[0]}", markdown_table(rows)]
    return paragraphs


def _ratios(results: Results, rival: str) -> list[dict[str, str]]:
    """Return a row for each network: how many times as fast as `rival` ours is."""
    return [
        {f"against {rival}": f"{model}, {size}"}
        | {label: f"{sides[rival][key] / sides['ours'][key]:.2f}" for key, label in RATIOS.items()}
        for (size, model), sides in results.items()
    ]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main()
