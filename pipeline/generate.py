"""Stage `generate`: draw the clips of every split, and pictures of them."""

import numpy as np

from motionbench.core.errors import run_command
from motionbench.core.files import atomic_outputs
from motionbench.core.paths import DATA, SAMPLES
from motionbench.data.splits import SPLITS, read_split
from motionbench.data.synthetic.frames import write_split
from motionbench.data.synthetic.patterns import check_paths
from motionbench.params.loading import load_params, stage_params


def main() -> None:
    """Write data/<split>/ and reports/samples/."""
    params = load_params()
    check_paths(params.data)
    # Imported late: keeps error messages fast.
    from motionbench.reporting.figures import contact_sheet, save_gif
    from motionbench.tracking.runs import stage_run

    with (
        stage_run("generate", stage_params(params, "generate")),
        atomic_outputs(*(DATA / name for name in SPLITS), SAMPLES) as (*folders, pictures),
    ):
        for folder, name in zip(folders, SPLITS, strict=True):
            write_split(folder, name, params.data)
        train = read_split(folders[0], params.data)
        for label, class_name in enumerate(train.class_names):
            save_gif(train.clips[np.flatnonzero(train.labels == label)[0]], pictures / f"{class_name}.gif")
        contact_sheet(train).savefig(pictures / "contact_sheet.png", dpi=100)


if __name__ == "__main__":
    run_command(main)
