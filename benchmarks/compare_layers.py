"""Our layers against stock keras.layers, interleaved in one run, each side in processes of its own.

python -m benchmarks.compare_layers writes benchmarks/RESULTS.md.
"""

import json
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import joblib

ROUNDS = 3
MODELS = ("cnn_lstm", "convlstm")
MEASURES = {
    "epoch": "training, an epoch of 80 clips",
    "first_call": "first training step",
    "inference_1": "inference, 1 clip",
    "inference_32": "inference, 32 clips",
    "peak_memory": "peak memory",
}


def main() -> None:
    """Measure all sides, round after round, and write the medians and their ratios."""
    cores = joblib.cpu_count()
    sides = {
        "stock": ("stock", 1, cores),
        "ours": ("ours", 1, cores),
        "ours, a process a core": ("ours", cores, 1),
    }
    measured: dict[tuple[str, str], list[dict[str, float]]] = {}
    for number in range(ROUNDS):
        for model in MODELS:
            for name, (side, processes, threads) in sides.items():
                figures = _run(side, model, processes, threads)
                measured.setdefault((model, name), []).append(figures)
                print(f"round {number + 1} of {ROUNDS}, {model}, {name}: {figures}", flush=True)
    text = _as_markdown(measured, cores)
    Path(__file__).with_name("RESULTS.md").write_text(text, encoding="utf-8")
    print(text)


def _run(side: str, model: str, processes: int, threads: int) -> dict[str, float]:
    """Run `processes` at once; an epoch's seconds are divided by their number, for so many are trained meanwhile."""
    command = [sys.executable, "-m", "benchmarks.one_side", side, model, str(threads)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(processes)]
    outputs = [process.communicate() for process in running]
    for process, (_, errors) in zip(running, outputs, strict=True):
        if process.returncode:
            raise RuntimeError(errors.decode())
    figures: list[dict[str, float]] = [json.loads(output) for output, _ in outputs]
    means = {key: sum(each[key] for each in figures) / processes for key in figures[0]}
    return {**means, "epoch": means["epoch"] / processes}


def _as_markdown(measured: dict[tuple[str, str], list[dict[str, float]]], cores: int) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("tensorflow", "keras", "numpy"))
    lines = [
        "# Our layers against stock Keras",
        "",
        f"Medians of {ROUNDS} interleaved rounds, by `make bench` on {cores} cores ({_processor()}), {packages}. "
        "Stock and ours: one process with all threads. A process a core: as many replicates side by side as there "
        "are cores, a thread each, an epoch's seconds divided by their number. A ratio above 1 is better than stock.",
    ]
    for model in MODELS:
        medians = {
            name: {key: median(each[key] for each in rounds) for key in MEASURES}
            for (of, name), rounds in measured.items()
            if of == model
        }
        stock = medians.pop("stock")
        lines += ["", f"## {model}", "", f"| | stock |{''.join(f' {name} | ratio |' for name in medians)}"]
        lines.append("|---" * (2 + 2 * len(medians)) + "|")
        for key, label in MEASURES.items():
            row = f"| {label} | {_figure(key, stock[key])} |"
            for name, ours in medians.items():
                # Side by side, only throughput compares with one process that has the machine to itself.
                shown = name == "ours" or key == "epoch"
                ratio = f"{stock[key] / ours[key]:.2f}" if shown else ""
                row += f" {_figure(key, ours[key]) if shown else ''} | {ratio} |"
            lines.append(row)
    return "\n".join([*lines, ""])


def _figure(key: str, value: Any) -> str:
    return f"{value:.0f} MB" if key == "peak_memory" else f"{value:.3g} s"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
