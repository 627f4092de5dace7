"""Stage `generate`: make the clips of every part, and pictures of them."""

from pathlib import Path

import numpy as np

from motionbench.core.commands import run_command
from motionbench.core.files import atomic_outputs, file_stem, write_json
from motionbench.core.inputs import read_inputs
from motionbench.core.paths import DATA, FOLDS, SAMPLES, SOURCE
from motionbench.data.sources import prepare_clips
from motionbench.data.splits import SPLITS, read_split
from motionbench.params.loading import load_params, stage_params
from pipeline import STARTED


def main() -> None:
    """Write data/<split>/, data/folds/ and reports/samples/."""
    params = load_params()
    inputs = read_inputs("generate", stage_params(params, "generate"), STARTED)
    write = prepare_clips(params.data, params.source())
    # Imported late: keeps error messages fast.
    from motionbench.reporting.figures import contact_sheet, save_gif
    from motionbench.tracking.runs import stage_run

    with stage_run("generate", inputs.params, check=inputs.check):
        with atomic_outputs(*(DATA / name for name in SPLITS), FOLDS, SAMPLES) as (*splits, folds, pictures):
            folders = dict(zip(SPLITS, splits, strict=True))

            def folder_of(part: str) -> Path:
                folder = folders.get(part, folds / part)
                folder.mkdir(exist_ok=True)
                return folder

            record = write(folder_of)
            write_json(folds / SOURCE.name, record.model_dump())
            shown = read_split(folds / "0" if record.folds else folders["train"])
            for label, class_name in enumerate(shown.class_names):
                clip = shown.clips[np.flatnonzero(shown.labels == label)[0]]
                save_gif(clip, pictures / f"{file_stem(class_name, label)}.gif")
            contact_sheet(shown).savefig(pictures / "contact_sheet.png", dpi=100)
        inputs.write()
    inputs.check()


if __name__ == "__main__":
    run_command(main)
