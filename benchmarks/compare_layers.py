"""Our layers against stock keras.layers and PyTorch, interleaved in one run, each side in processes of its own.

python -m benchmarks.compare_layers writes benchmarks/RESULTS.md and benchmarks/layers.png.
"""

import json
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import NamedTuple

import joblib
import numpy as np
from matplotlib.figure import Figure

import pipeline  # noqa: F401 # puts src/ on the path, as for the stages
from motionbench.models.registry import CONTENDERS
from motionbench.params.loading import load_params

HERE = Path(__file__).parent
ROUNDS = 3
CLIPS = 80
SOURCE_BATCH_SIZE = 32
MEASURES = {
    "epoch": "training, s an epoch of 80 clips",
    "first_call": "first training step, s",
    "inference_1": "inference of 1 clip, s",
    "inference_32": "inference of 32 clips, s",
    "peak_memory": "peak memory of training, MB",
}
Figures = dict[str, float]


class Run(NamedTuple):
    """A side, on how many clips a step, in how many processes at once, with how many threads each."""

    side: str
    batch_size: int
    processes: int
    threads: int


def main() -> None:
    """Measure all sides, round after round, and write the medians and their ratios."""
    cores = joblib.cpu_count()
    params = load_params(HERE.parent / "params.yaml")
    torch = find_spec("torch") is not None
    if not torch:
        print("PyTorch is not installed and left out; add it: pip install --group bench")
    measured: dict[tuple[str, Run], Figures] = {}
    rounds: dict[tuple[str, Run], list[Figures]] = {}
    for number in range(ROUNDS):
        for model in CONTENDERS:
            batch_size = params.model(model).batch_size
            for run in _runs(batch_size, cores, torch=torch):
                figures = _measure(run, model)
                rounds.setdefault((model, run), []).append(figures)
                print(f"round {number + 1} of {ROUNDS}, {model}, {run}: {figures}", flush=True)
    for key, each in rounds.items():
        measured[key] = {measure: median(figures[measure] for figures in each) for measure in MEASURES}
    flops = {model: _training_flops(model) for model in CONTENDERS}
    text = _as_markdown(measured, flops, _matrix_product_peak(), cores)
    (HERE / "RESULTS.md").write_text(text, encoding="utf-8")
    _chart(measured).savefig(HERE / "layers.png", dpi=110)
    print(text)


def _runs(batch_size: int, cores: int, *, torch: bool) -> list[Run]:
    # Compiling takes PyTorch minutes for each batch size, so it does so for one alone.
    own = ["stock", "ours", *(["torch", "torch compiled"] if torch else [])]
    sources = ["stock", "ours", *(["torch"] if torch else [])]
    return [
        *(Run(side, SOURCE_BATCH_SIZE, 1, cores) for side in sources),
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
    """Of a clip forward and backward, counted as three forward passes, as is usual: Kaplan et al. (2020), table 1."""
    program = (
        "import json, sys; from benchmarks.one_side import draw_clips; from motionbench.models import build_model;"
        "from motionbench.evaluation import count_flops; from motionbench.params import load_params;"
        "name = sys.argv[1]; model = build_model(name, load_params().model(name), draw_clips(1)[0].shape[1:], 4);"
        "print(count_flops(model))"
    )
    done = subprocess.run([sys.executable, "-c", program, model], capture_output=True, text=True, check=True)
    return 3 * float(done.stdout)


def _matrix_product_peak() -> float:
    """Floating point operations a second of NumPy's single-precision matrix product with all threads, best of five."""
    size = 4096
    matrix = np.random.default_rng(0).random((size, size), dtype=np.float32)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds)


def _as_markdown(measured: dict[tuple[str, Run], Figures], flops: dict[str, float], peak: float, cores: int) -> str:
    packages = [name for name in ("tensorflow", "keras", "torch", "numpy") if find_spec(name)]
    lines = [
        "# Our layers against stock Keras and PyTorch",
        "",
        f"Medians of {ROUNDS} interleaved rounds, by `make bench` on {cores} cores ({processor()}), "
        f"{', '.join(f'{name} {version(name)}' for name in packages)}. In brackets, how many times better than stock "
        "Keras with the same batch size. Stock Keras is imported plainly, which brings in matplotlib, pandas, scipy "
        "and scikit-learn, some 150 MB; ours does without them. PyTorch's models are written as its users do "
        "(benchmarks/torch_models.py); compiled code is cached on disk, so its first step is not that of a first run, "
        "which takes minutes. FLOPs counted are those of the networks' convolutions and matrix products, backward "
        "taken as twice forward; the machine's matrix products reach "
        f"{peak / 1e9:.0f} GFLOP/s (NumPy, all threads).",
    ]
    for model in CONTENDERS:
        runs = {run: figures for (of, run), figures in measured.items() if of == model}
        batch_sizes = sorted({run.batch_size for run in runs}, reverse=True)
        lines += ["", f"## {model}", "", f"{flops[model] / 1e9:.2f} GFLOP to train on a clip."]
        for batch_size in batch_sizes:
            alone = {run.side: figures for run, figures in runs.items() if run[1:] == (batch_size, 1, cores)}
            stock = alone["stock"]
            lines += ["", f"One process with all {cores} threads, batches of {batch_size}:", ""]
            lines += ["| |" + "".join(f" {side} |" for side in alone), "|---" * (len(alone) + 1) + "|"]
            for measure, label in MEASURES.items():
                cells = (f"{f[measure]:.3g} ({stock[measure] / f[measure]:.2f})" for f in alone.values())
                lines.append(f"| {label} | {' | '.join(cells)} |")
            shares = (f"{_share(flops[model], f['epoch'], peak):.0%}" for f in alone.values())
            lines.append(f"| share of the machine's peak | {' | '.join(shares)} |")
        own_size = batch_sizes[-1]
        stocks = {size: runs[Run("stock", size, 1, cores)]["epoch"] for size in batch_sizes}
        lines += ["", f"The whole machine: {cores} replicates side by side, a thread each, batches of {own_size}.", ""]
        lines += ["| | s an epoch and replicate |" + "".join(f" against one stock, batches of {b} |" for b in stocks)]
        lines[-1] += " share of the machine's peak |"
        lines.append("|---" * (len(stocks) + 3) + "|")
        for run, figures in runs.items():
            if run.processes > 1:
                ratios = " | ".join(f"{stock / figures['epoch']:.2f}" for stock in stocks.values())
                share = _share(flops[model], figures["epoch"], peak)
                lines.append(f"| {run.side} | {figures['epoch']:.3g} | {ratios} | {share:.0%} |")
    return "\n".join([*lines, "", "![Clips a second](layers.png)", ""])


def _share(flops: float, epoch: float, peak: float) -> float:
    return flops * CLIPS / epoch / peak


def _chart(measured: dict[tuple[str, Run], Figures]) -> Figure:
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axis, model in zip(figure.subplots(1, len(CONTENDERS)), CONTENDERS, strict=True):
        own_size = load_params(HERE.parent / "params.yaml").model(model).batch_size
        runs = {run: figures for (of, run), figures in measured.items() if of == model and run.batch_size == own_size}
        sides = list(dict.fromkeys(run.side for run in runs))
        for shift, label in ((-0.2, "one process, all threads"), (0.2, "a process a core")):
            chosen = {run.side: figures for run, figures in runs.items() if (run.processes > 1) == (shift > 0)}
            places = [sides.index(side) + shift for side in chosen]
            speeds = [CLIPS / figures["epoch"] for figures in chosen.values()]
            axis.bar_label(axis.bar(places, speeds, 0.4, label=label), fmt="%.0f")
        axis.set(title=f"{model}, batches of {own_size}", ylabel="clips a second, training")
        axis.set_xticks(range(len(sides)), sides)
        axis.margins(y=0.1)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def processor() -> str:
    """Return the name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
