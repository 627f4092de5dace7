"""What classifying a clip with the ConvLSTM takes its time for, in one thread.

python -m benchmarks.convlstm_parts writes benchmarks/CONVLSTM_PARTS.md.
"""

from collections.abc import Callable
from typing import Any

from benchmarks.common import (
    HERE,
    default_params,
    machine,
    markdown_table,
    processor_seconds_of,
    run_in_new_process,
    write_page,
)
from motionbench.execution.runtime import importing_tensorflow

CLIPS = 8  # at once, as `compare` classifies them
ROUNDS = 5
STEPS = 10
FILTERS = (16, 20, 32)  # 20: the four gates of five filters


def main() -> None:
    """Measure, and write both tables."""
    parts, rates = run_in_new_process(measure)
    write_page(HERE / "CONVLSTM_PARTS.md", as_markdown(parts, rates))


def measure() -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return the rows of both tables, a row per layer of the default ConvLSTM."""
    with importing_tensorflow():
        import tensorflow as tf

        from motionbench.execution.threads import fix_threads
        from motionbench.models.layers import FusedConvLSTM2D, convolve
    fix_threads(1)
    tf.random.set_seed(0)
    params = default_params()
    frames, height, width, channels = params.data.clip_shape()
    parts, rates = [], []
    section = params.model("convlstm")
    for filters, side in zip(section.filters, section.kernel_sizes, strict=True):
        layer = FusedConvLSTM2D(filters, side)
        layer.build((CLIPS, frames, height, width, channels))
        convolutions = layer._widen_gates(width)
        frame = tf.random.normal((CLIPS, height, width, channels))
        hidden = cell = tf.random.normal((CLIPS, height, width, filters))
        stacked = tf.random.normal((CLIPS, height, width, channels + filters))

        def seconds(call: Callable[..., Any], *inputs: Any) -> float:
            traced = tf.function(call)
            return frames / CLIPS * processor_seconds_of(lambda: traced(*inputs), STEPS, ROUNDS)

        step = seconds(lambda x, h, c: layer._step(x, h, c, convolutions), frame, hidden, cell)  # noqa: B023
        convolution = seconds(lambda images: [convolve(images, *each) for each in convolutions], stacked)  # noqa: B023
        size = f"{height} x {width}, kernel {side}"
        parts.append(
            {"layer": size, "all, ms per clip": f"{1e3 * step:.1f}", "convolutions": f"{1e3 * convolution:.1f}"}
        )
        rates.append({"layer": size})
        for outputs in FILTERS:
            kernel = tf.random.normal((side, side, channels + filters, outputs))
            plain = seconds(lambda images: tf.nn.conv2d(images, kernel, 1, "SAME"), stacked)  # noqa: B023
            flops = 2 * frames * height * width * side**2 * (channels + filters) * outputs
            rates[-1][f"{outputs} filters, GFLOP/s"] = f"{flops / plain / 1e9:.0f}"
        height, width, channels = height // 2, width // 2, filters
    return parts, rates


def as_markdown(parts: list[dict[str, str]], rates: list[dict[str, str]]) -> list[str]:
    """Return the page."""
    return [
        "# What bounds the ConvLSTM",
        f"By `python -m benchmarks.convlstm_parts` on {machine()}: the default ConvLSTM classifies {CLIPS} clips at a "
        f"time, in one thread. Seconds of the processor, the least of {ROUNDS} rounds.",
        "All that a layer does, and its convolutions. The rest is gates, activations and copies.",
        markdown_table(parts),
        "Plain convolutions of the same images. A vector register of AVX-512 holds 16 numbers, so 20 filters, the four "
        "gates of five filters, take as long as 32. So the layer convolves 15, and 5 for three pixels at once.",
        markdown_table(rates),
    ]


if __name__ == "__main__":
    main()
