"""Stage `generate`: make the clips of every split or part, and pictures of them."""

from motionbench.core.commands import run_command
from motionbench.core.files import atomic_outputs, file_stem
from motionbench.core.inputs import read_inputs
from motionbench.core.paths import SAMPLES, TRAIN, part_path
from motionbench.data.folder.params import FolderParams
from motionbench.data.folds import join
from motionbench.data.splits import NewDataset, read_split, write_dataset
from motionbench.data.synthetic.params import SyntheticParams
from motionbench.params.loading import load_params, stage_params
from motionbench.params.schema import Params
from pipeline import STARTED


def main() -> None:
    """Write data/<split>/, data/folds/ and reports/samples/."""
    params = load_params()
    inputs = read_inputs("generate", stage_params(params, "generate"), STARTED)
    dataset = make_dataset(params)
    # Imported late: keeps error messages fast.
    from motionbench.reporting.figures import MOST_CLASSES, contact_sheet, first_clips, save_gif
    from motionbench.tracking.runs import stage_run

    with stage_run("generate", inputs.params, check=inputs.check):
        write_dataset(dataset)
        shown = join([read_split(part_path(part)) for part in range(dataset.info.folds)] or [read_split(TRAIN)])
        with atomic_outputs(SAMPLES) as (pictures,):
            for label, (class_name, clip) in enumerate([*first_clips(shown).items()][:MOST_CLASSES]):
                save_gif(clip, pictures / f"{file_stem(class_name, label)}.gif")
            contact_sheet(shown).savefig(pictures / "contact_sheet.png", dpi=100)
        inputs.write()
    inputs.check()


def make_dataset(params: Params) -> NewDataset:
    """Return the data set that the parameters describe, to be written.

    Raises:
        UserError: if the parameters or the files cannot be used.
    """
    section = params.dataset()
    if isinstance(section, FolderParams):
        from motionbench.data.folder.dataset import read_folder

        return read_folder(params.data, section)
    from motionbench.data.synthetic.frames import draw_dataset

    assert isinstance(section, SyntheticParams)
    return draw_dataset(section.drawing(params.data))


if __name__ == "__main__":
    run_command(main)
