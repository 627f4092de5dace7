"""Our layers against stock keras.layers and PyTorch, interleaved in one run, each side in processes of its own.

python -m benchmarks.compare_layers [ROUNDS] writes a page and a chart into benchmarks/results, named after the CPU. It
writes them anew after each round, so that a run may be stopped.
"""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from itertools import product
from statistics import mean, median

import joblib
import numpy as np
from matplotlib.figure import Figure

from benchmarks.common import HERE, machine, markdown_table, processor, run_in_new_process, seconds_of, write_page
from benchmarks.one_side import BATCH_SIZE, CALLS, CLASSES, INFERENCE_SECONDS, SIDES, SIZES, TRAINING_SECONDS, network
from benchmarks.stock_models import LAYERS
from motionbench.execution.runtime import importing_tensorflow

ROUNDS = 3
NETWORKS = tuple(product(SIZES, LAYERS))
MEASURES = {
    "training": "training, ms per clip",
    "a_core": "training, a replicate a core, ms per clip",
    "first_step": "first training step, ms",
    "inference_1": "inference of 1 clip, ms",
    "inference_1_thread": "inference of 1 clip with one thread, ms",
    "inference_32": "inference of 32 clips, ms",
    "peak_memory": "peak memory of training, MB",
}
RATIOS = {
    "training": "training",
    "a_core": "a replicate a core",
    "inference_1": "inference of 1 clip",
    "inference_1_thread": "of 1 clip, one thread",
    "inference_32": "of 32 clips",
}
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
    # In new processes, since one starts with the peak memory of the one that starts it.
    flops, peak = run_in_new_process(training_flops), run_in_new_process(_matrix_product_peak)
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
        write_page(page, as_markdown(results, number, flops, peak, page.with_suffix(".png").name))
        chart(results).savefig(page.with_suffix(".png"), dpi=80)


def slug(name: str) -> str:
    """Return a name as part of a file's name, as in "intel-xeon-processor-avx512-spr"."""
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((R|TM)\)", "", name).lower())


def measure(side: str, model: str, size: str) -> Figures:
    """Measure one process with all threads, then a replicate a core."""
    [alone] = _run(side, model, size, replicates=1)
    together = _run(side, model, size, replicates=joblib.cpu_count())
    training, inference = (mean(each[key] for each in together) for key in ("training", "inference_1"))
    # Stock Keras trains as its users run it.
    a_core = alone["training"] if side == "stock" else training / len(together)
    return {**alone, "a_core": a_core, "inference_1_thread": inference}


def _run(side: str, model: str, size: str, replicates: int) -> list[Figures]:
    """Return the figures of replicates that run at the same time."""
    command = [sys.executable, "-m", "benchmarks.one_side", side, model, size, str(replicates)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(replicates)]
    outputs = [process.communicate() for process in running]
    for process, (_, errors) in zip(running, outputs, strict=True):
        if process.returncode:
            raise RuntimeError(errors.decode())
    return [json.loads(output) for output, _ in outputs]


def training_flops() -> dict[Network, float]:
    """Return for each network the FLOPs of one clip, forward and backward, counted as three forward passes.

    This is the usual estimate: Kaplan et al. (2020), table 1.
    """
    with importing_tensorflow():
        from motionbench.models.cost import count_flops
        from motionbench.models.networks import build_model
    return {
        (size, model): 3.0 * count_flops(build_model(model, *network(model, size), CLASSES)) for size, model in NETWORKS
    }


def _matrix_product_peak() -> float:
    """Return the FLOP/s of NumPy's single-precision matrix product with all threads, best of five."""
    size = 4096
    matrix = np.random.default_rng(0).random((size, size), dtype=np.float32)
    return 2 * size**3 / min(seconds_of(lambda: matrix @ matrix) for _ in range(5))


def as_markdown(results: Results, rounds: int, flops: Mapping[Network, float], peak: float, picture: str) -> list[str]:
    """Return the page: our side against the others, then a table for each network.

    Args:
        results: the medians.
        rounds: over how many rounds.
        flops: of training on a clip.
        peak: FLOP/s of the machine.
        picture: path of the chart.
    """
    packages = [name for name in ("tensorflow", "keras", "torch", "numpy") if find_spec(name)]
    paragraphs = [
        "# Our layers against stock Keras and PyTorch",
        f"Medians of {rounds} interleaved rounds, by `python -m benchmarks.compare_layers {rounds}` on {machine()}, "
        f"{', '.join(f'{name} {version(name)}' for name in packages)}. Random clips, in batches of {BATCH_SIZE} for "
        f"training. A round takes the median of the training steps of {TRAINING_SECONDS} s after the first, of the "
        f"forward passes of {INFERENCE_SECONDS} s, and of {CALLS} at least. One process has all threads. *A replicate "
        "a core* are as many processes as cores, one thread each; the time per clip is that of all together. Inference "
        "with one thread is measured in these processes, for all sides.",
        "How many times as fast ours is: ratios of the medians. Our replicate a core is compared with one process of "
        "stock Keras, and with PyTorch's replicate a core.",
        *(
            markdown_table(_ratios(results, side))
            for side in RIVALS
            if all(side in sides for sides in results.values())
        ),
        f"![Clips per second]({picture})",
        "In brackets: how many times better than stock Keras, which trains in one process in all rows. It is imported "
        "plainly, which also imports matplotlib, pandas, scipy and scikit-learn, about 150 MB; ours does not import "
        "them. The PyTorch models are written as its users do (benchmarks/torch_models.py). Compiled code, if any, is "
        "cached on disk, so that its first step is not that of a very first run, which takes minutes. FLOPs are those "
        "of convolutions and matrix products; the backward pass counts as two forward passes. The machine's matrix "
        f"products reach {peak / 1e9:.0f} GFLOP/s (NumPy, all threads).",
    ]
    for each, sides in results.items():
        milliseconds_at_peak = 1000 * flops[each] / peak
        rows = [
            {"": label} | {side: f"{_number(f[key])} ({sides['stock'][key] / f[key]:.2f})" for side, f in sides.items()}
            for key, label in MEASURES.items()
        ]
        for key, label in (("training", "share of the machine's peak"), ("a_core", "the same, a replicate a core")):
            rows.append({"": label} | {side: f"{milliseconds_at_peak / f[key]:.0%}" for side, f in sides.items()})
        paragraphs += [
            f"## {each[1]}, {each[0]}",
            f"{flops[each] / 1e9:.2f} GFLOP to train on a clip.",
            markdown_table(rows),
        ]
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


def chart(results: Results) -> Figure:
    """Draw the clips per second of each side in training, a panel for each network."""
    figure = Figure(figsize=(4.5 * len(LAYERS), 3 * len(SIZES)), layout="constrained")
    panels = figure.subplots(len(SIZES), len(LAYERS)).flat
    for axis, ((size, model), sides) in zip(panels, results.items(), strict=True):
        for shift, key, label in ((-0.2, "training", "one process"), (0.2, "a_core", "a replicate a core")):
            speeds = {
                side: 1000 / figures[key] for side, figures in sides.items() if (side, key) != ("stock", "a_core")
            }
            places = [list(sides).index(side) + shift for side in speeds]
            axis.bar_label(axis.bar(places, list(speeds.values()), 0.4, label=label), fmt="%.3g")
        axis.set(title=f"{model}, {size}", ylabel="clips per second, training")
        axis.set_xticks(range(len(sides)), list(sides))
        axis.margins(y=0.1)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


if __name__ == "__main__":
    main()
