"""Stage `generate`: draw the clips of every split, and pictures of them."""

from pathlib import Path

import numpy as np

from motionbench.data.patterns import check_paths
from motionbench.data.splits import SPLITS, read_split, write_split
from motionbench.errors import run_command
from motionbench.files import replaced_whole
from motionbench.params import load_params, stage_params

FOLDERS = [Path("data", split) for split in SPLITS]
PICTURES = Path("reports/samples")


def main() -> None:
    """Write data/<split>/ and reports/samples/."""
    params = load_params()
    check_paths(params.data)
    # Late: a bad parameter is to be answered in a blink.
    from motionbench import tracking
    from motionbench.figures import contact_sheet, save_gif
    from motionbench.records import describe

    declared = stage_params(params, "generate")
    with tracking.stage_run("generate", declared) as run:
        with replaced_whole(*FOLDERS, PICTURES) as (*folders, pictures):
            for folder, name in zip(folders, SPLITS, strict=True):
                write_split(folder, name, params.data)
            train = read_split(folders[0], params.data)
            for label, class_name in enumerate(train.class_names):
                save_gif(train.clips[np.flatnonzero(train.labels == label)[0]], pictures / f"{class_name}.gif")
            contact_sheet(train).savefig(pictures / "contact_sheet.png", dpi=100)
        run.complete(describe("generate", declared))


if __name__ == "__main__":
    run_command(main)
