"""`make predict`: classify a clip with the champion in MLflow's store."""

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from motionbench.core.errors import UserError, run_command
from motionbench.data.clip_files import read_clip
from motionbench.params.loading import load_params


def main() -> None:
    """Print the probability of each class."""
    if len(sys.argv) != 2:
        raise UserError("CLIP: name a file, as in make predict CLIP=reports/samples/sine.gif")
    clip = read_clip(Path(sys.argv[1]), load_params().data)
    from motionbench.tracking.model_registry import load_champion  # imported late: keeps error messages fast

    champion, predict = load_champion()
    table = Table("class", "probability", title=f"{sys.argv[1]} by {champion}")
    for name, probability in predict(clip).iloc[0].sort_values(ascending=False).items():
        table.add_row(str(name), f"{probability:.4f}")
    Console().print(table)


if __name__ == "__main__":
    run_command(main)
