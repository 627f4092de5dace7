"""Where clips come from: they are drawn."""

from pathlib import Path

import numpy as np

from motionbench.core.files import write_json
from motionbench.data.params import DataParams
from motionbench.data.splits import SPLITS
from motionbench.data.synthetic.frames import draw_clamped, draw_sliced, draw_wrapped
from motionbench.data.synthetic.patterns import MOTION_PATTERNS, NOTEBOOK_PATTERNS, PATTERNS, point_sizes

CLIPS_AT_ONCE = 8  # 1 MB of the default clips, which fits the processor's cache: memory stays bounded


def write_split(folder: Path, name: str, data: DataParams) -> None:
    """Draw the clips of one split, class after class, and write clips.npy, labels.npy and class_names.json."""
    patterns, draw = {
        "corrected": (PATTERNS, draw_clamped),
        "notebook": (NOTEBOOK_PATTERNS, draw_sliced),
        "motion": (MOTION_PATTERNS, draw_wrapped),
    }[data.variant]
    shape = (len(patterns) * data.clips_per_class, data.frames, data.height, data.width, 1)
    with (folder / "clips.npy").open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for label, pattern in enumerate(patterns.values()):
            # A separate stream per split and class: more clips of one do not change those of another.
            random = np.random.default_rng([data.seed, SPLITS.index(name), label])
            trajectories = pattern(data, data.clips_per_class, random)
            sizes = point_sizes(data, data.clips_per_class, random)
            for first in range(0, data.clips_per_class, CLIPS_AT_ONCE):
                some = slice(first, first + CLIPS_AT_ONCE)
                # Not with tofile, whose error on a full disk does not name the reason.
                file.write(draw(trajectories[some], data.height, data.width, sizes[some]).data)
    np.save(folder / "labels.npy", np.repeat(np.arange(len(patterns)), data.clips_per_class))
    write_json(folder / "class_names.json", list(patterns))
