"""Our layers against stock keras.layers and PyTorch, interleaved in one run, each side in processes of its own.

python -m benchmarks.compare_layers writes benchmarks/RESULTS.md and benchmarks/layers.png.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from statistics import median
from typing import NamedTuple

import joblib
import numpy as np
from matplotlib.figure import Figure

from benchmarks.common import HERE, default_params, machine, markdown_table, run_in_new_process, seconds_of, write_page
from benchmarks.one_side import CLASSES, CLIPS_PER_CLASS, draw_clips
from benchmarks.stock_models import LAYERS
from motionbench.execution.runtime import importing_tensorflow
from motionbench.models.registry import CONTENDERS

ROUNDS = 3
CLIPS = CLASSES * CLIPS_PER_CLASS
NOTEBOOK_BATCH_SIZE = 32
MODELS = tuple(name for name in CONTENDERS if name in LAYERS)
"""The contenders that can be compared: those with a counterpart of stock layers."""
MEASURES = {
    "epoch": f"training, s per epoch of {CLIPS} clips",
    "first_call": "first training step, s",
    "inference_1": "inference of 1 clip, s",
    "inference_32": "inference of 32 clips, s",
    "peak_memory": "peak memory of training, MB",
}
Figures = dict[str, float]


class Run(NamedTuple):
    """A side, its batch size, the number of processes at the same time, and the threads of each."""

    side: str
    batch_size: int
    processes: int
    threads: int


Results = Mapping[Run, Figures]


def main() -> None:
    """Measure all sides, round after round, and write the medians and their ratios."""
    if not (torch := find_spec("torch") is not None):
        print("PyTorch is not installed and left out. To add it: pip install --group bench")
    if left_out := set(CONTENDERS) - set(MODELS):
        print(f"left out, as benchmarks/stock_models.py does not build them: {', '.join(sorted(left_out))}")
    rounds: dict[str, dict[Run, list[Figures]]] = {model: {} for model in MODELS}
    for number in range(ROUNDS):
        for model, measured in rounds.items():
            for run in _runs(_batch_size(model), torch=torch):
                measured.setdefault(run, []).append(_measure(run, model))
                print(f"round {number + 1} of {ROUNDS}, {model}, {run}: {measured[run][-1]}", flush=True)
    results = {
        model: {run: {key: median(each[key] for each in some) for key in MEASURES} for run, some in measured.items()}
        for model, measured in rounds.items()
    }
    flops = {model: run_in_new_process(_training_flops, model) for model in MODELS}
    write_page(HERE / "RESULTS.md", as_markdown(results, flops, _matrix_product_peak()))
    chart(results).savefig(HERE / "layers.png", dpi=110)


def _batch_size(model: str) -> int:
    return default_params().model(model).batch_size


def _runs(batch_size: int, *, torch: bool) -> list[Run]:
    cores: int = joblib.cpu_count()
    # PyTorch takes minutes to compile for each batch size, so it does this for one size only.
    own = ["stock", "ours", *(["torch", "torch compiled"] if torch else [])]
    notebook = ["stock", "ours", *(["torch"] if torch else [])]
    return [
        *(Run(side, NOTEBOOK_BATCH_SIZE, 1, cores) for side in notebook),
        *(Run(side, batch_size, 1, cores) for side in own),
        *(Run(side, batch_size, cores, 1) for side in own if side != "stock"),
    ]


def _measure(run: Run, model: str) -> Figures:
    """Measure all processes of a run at once; an epoch's seconds are divided by their number."""
    command = [sys.executable, "-m", "benchmarks.one_side", run.side, model, str(run.batch_size), str(run.threads)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(run.processes)]
    outputs = [process.communicate() for process in running]
    for process, (_, errors) in zip(running, outputs, strict=True):
        if process.returncode:
            raise RuntimeError(errors.decode())
    each: list[Figures] = [json.loads(output) for output, _ in outputs]
    means = {key: sum(figures[key] for figures in each) / run.processes for key in MEASURES}
    return {**means, "epoch": means["epoch"] / run.processes}


def _training_flops(model: str) -> float:
    """Return the FLOPs of one clip, forward and backward, counted as three forward passes.

    This is the usual estimate: Kaplan et al. (2020), table 1.
    """
    with importing_tensorflow():
        from motionbench.models.cost import count_flops
        from motionbench.models.registry import build_model
    clips, _ = draw_clips(1)
    return 3.0 * count_flops(build_model(model, default_params().model(model), clips.shape[1:], CLASSES))


def _matrix_product_peak() -> float:
    """Return the FLOP/s of NumPy's single-precision matrix product with all threads, best of five."""
    size = 4096
    matrix = np.random.default_rng(0).random((size, size), dtype=np.float32)
    return 2 * size**3 / min(seconds_of(lambda: matrix @ matrix) for _ in range(5))


def as_markdown(results: Mapping[str, Results], flops: Mapping[str, float], peak: float) -> list[str]:
    """Return the page: for each model, a table per batch size and one of the whole machine.

    Args:
        results: by model and run, the medians.
        flops: by model, of training on a clip.
        peak: FLOP/s of the machine.
    """
    packages = [name for name in ("tensorflow", "keras", "torch", "numpy") if find_spec(name)]
    paragraphs = [
        "# Our layers against stock Keras and PyTorch",
        f"Medians of {ROUNDS} interleaved rounds, by `make bench` on {machine()}, "
        f"{', '.join(f'{name} {version(name)}' for name in packages)}. In brackets: how many times better than stock "
        "Keras with the same batch size. Stock Keras is imported plainly, which also imports matplotlib, pandas, scipy "
        "and scikit-learn, about 150 MB; our side does not import them. The PyTorch models are written as its users do "
        "(benchmarks/torch_models.py). Compiled code is cached on disk, so the first step shown is not that of a very "
        "first run, which takes minutes. FLOPs are those of convolutions and matrix products; the backward pass counts "
        f"as two forward passes. The machine's matrix products reach {peak / 1e9:.0f} GFLOP/s (NumPy, all threads).",
    ]
    for model, runs in results.items():
        paragraphs += [f"## {model}", f"{flops[model] / 1e9:.2f} GFLOP to train on a clip."]
        paragraphs += _describe_model(runs, flops[model] * CLIPS / peak)
    return [*paragraphs, "![Clips per second](layers.png)"]


def _describe_model(runs: Results, epoch_at_peak: float) -> list[str]:
    """Return the tables of a model; `epoch_at_peak` is how many seconds an epoch would take at the machine's peak."""
    paragraphs = []
    sizes = sorted({run.batch_size for run in runs}, reverse=True)
    for size in sizes:
        alone = {run.side: figures for run, figures in runs.items() if run.batch_size == size and run.processes == 1}
        rows = [
            {"": label} | {side: f"{f[key]:.3g} ({alone['stock'][key] / f[key]:.2f})" for side, f in alone.items()}
            for key, label in MEASURES.items()
        ]
        shares = {side: f"{epoch_at_peak / figures['epoch']:.0%}" for side, figures in alone.items()}
        threads = next(run.threads for run in runs if run.processes == 1)
        paragraphs.append(f"One process with all {threads} threads, batches of {size}:")
        paragraphs.append(markdown_table([*rows, {"": "share of the machine's peak"} | shares]))
    together = {run: figures for run, figures in runs.items() if run.processes > 1}
    stock = {run.batch_size: figures["epoch"] for run, figures in runs.items() if run.side == "stock"}
    rows = [
        {"": run.side, "s per epoch and replicate": f"{figures['epoch']:.3g}"}
        | {f"against one stock, batches of {size}": f"{stock[size] / figures['epoch']:.2f}" for size in sizes}
        | {"share of the machine's peak": f"{epoch_at_peak / figures['epoch']:.0%}"}
        for run, figures in together.items()
    ]
    if rows:
        processes, size = next((run.processes, run.batch_size) for run in together)
        paragraphs.append(
            f"The whole machine: {processes} replicates side by side, one thread each, batches of {size}."
        )
        paragraphs.append(markdown_table(rows))
    return paragraphs


def chart(results: Mapping[str, Results]) -> Figure:
    """Draw the clips per second of each side, one panel per model."""
    figure = Figure(figsize=(4.5 * len(results), 3.6), layout="constrained")
    panels = figure.subplots(1, len(results), squeeze=False).flat
    for axis, (model, measured) in zip(panels, results.items(), strict=True):
        own_size = _batch_size(model)
        runs = {run: figures for run, figures in measured.items() if run.batch_size == own_size}
        sides = list(dict.fromkeys(run.side for run in runs))
        for shift, label in ((-0.2, "one process, all threads"), (0.2, "one process per core")):
            chosen = {run.side: figures for run, figures in runs.items() if (run.processes > 1) == (shift > 0)}
            places = [sides.index(side) + shift for side in chosen]
            speeds = [CLIPS / figures["epoch"] for figures in chosen.values()]
            axis.bar_label(axis.bar(places, speeds, 0.4, label=label), fmt="%.0f")
        axis.set(title=f"{model}, batches of {own_size}", ylabel="clips per second, training")
        axis.set_xticks(range(len(sides)), sides)
        axis.margins(y=0.1)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


if __name__ == "__main__":
    main()
