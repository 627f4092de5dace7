"""Stage `embed`: the features that a frozen backbone gives of each frame, for the pretrained models."""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from motionbench.core.commands import run_command
from motionbench.core.files import atomic_outputs
from motionbench.core.inputs import read_inputs
from motionbench.core.paths import CLIPS, FEATURES
from motionbench.data.splits import features_path, part_folders, read_split
from motionbench.execution.cluster import open_engine
from motionbench.execution.engine import EventCallback, FileTask, run_tasks
from motionbench.execution.progress import clip_progress
from motionbench.execution.runtime import importing_tensorflow
from motionbench.models.registry import BackboneParams
from motionbench.params.loading import load_params, stage_params
from motionbench.params.schema import Params
from pipeline import STARTED

CLIPS_PER_TASK = 32


def main() -> None:
    """Write data/features/, a file for each split or part; without a pretrained model that is on, nothing but why."""
    params = load_params()
    inputs = read_inputs("embed", stage_params(params, "embed"), STARTED)
    with atomic_outputs(FEATURES) as (folder,):
        if params.reads_features():
            embed_all(folder, params)
        else:
            (folder / "none.txt").write_text("no pretrained model is on: pretrained_lstm.enabled, ...\n")
    inputs.write()
    inputs.check()


def embed_all(folder: Path, params: Params) -> None:
    """Write the features of all clips, float16, shape (clips, frames, grid, grid, channels), for each part."""
    archive, threads = params.backbone.archive(), params.training.threads
    parts = [part for clips in CLIPS for part in part_folders(clips)]
    pieces = {part: range(0, len(read_split(part).labels), CLIPS_PER_TASK) for part in parts}
    tasks = [
        FileTask(partial(embed_piece, part, first, params.backbone, threads), inputs=[part, archive])
        for part, firsts in pieces.items()
        for first in firsts
    ]
    with open_engine() as engine, clip_progress("embed", len(tasks), "pieces embedded") as show:
        features = iter(run_tasks(engine, tasks, threads, lambda _event: show()))
    for part, firsts in pieces.items():
        np.save(folder / features_path(part).name, np.concatenate([next(features) for _ in firsts]))


def embed_piece(
    part: Path, first: int, params: BackboneParams, threads: int, on_event: EventCallback
) -> NDArray[np.float16]:
    """Return the features of some clips of a part."""
    with importing_tensorflow():
        from motionbench.execution.threads import fix_threads
        from motionbench.models.backbone import embed
    fix_threads(threads)
    features = embed(read_split(part).clips[first : first + CLIPS_PER_TASK], params)
    on_event(None)
    return features


if __name__ == "__main__":
    run_command(main)
