"""`make predict`: classify a clip with the champion in MLflow's store."""

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from motionbench.core.errors import UserError, run_command
from motionbench.data.clip_files import read_clip
from motionbench.execution.runtime import importing_tensorflow
from motionbench.params.loading import load_params


def main() -> None:
    """Print the probability of each class."""
    if len(sys.argv) != 2:
        raise UserError("CLIP: name a file, as in make predict CLIP=reports/samples/sine.gif")
    clip = read_clip(Path(sys.argv[1]), load_params().data)
    from motionbench.tracking.model_registry import load_champion  # imported late: keeps error messages fast

    with importing_tensorflow():
        champion, class_names, predict = load_champion()
    table = Table("class", "probability", title=f"{sys.argv[1]} by {champion}")
    for probability, name in sorted(zip(predict(clip)[0].tolist(), class_names, strict=True), reverse=True):
        table.add_row(name, f"{probability:.4f}")
    Console().print(table)


if __name__ == "__main__":
    run_command(main)
