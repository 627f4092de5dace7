"""`make inspect`: look at a folder of clips, and write an experiment that suits them."""

import re
import sys
from pathlib import Path

from motionbench.core.commands import run_command
from motionbench.core.errors import UserError
from motionbench.core.files import atomic_outputs
from motionbench.core.paths import EXPERIMENTS


def main() -> None:
    """Print what is in the folder, and write experiments/<name>.yaml."""
    folder, name = Path(sys.argv[1]), sys.argv[2]
    if not sys.argv[1]:
        raise UserError("FOLDER: name the folder of your clips, as in make inspect FOLDER=data/clips")
    name = name or re.sub(r"[^A-Za-z0-9_]+", "-", folder.resolve().name).strip("-") or "clips"
    path = EXPERIMENTS / f"{name}.yaml"
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", name):
        raise UserError(f"NAME: {name}: not a name of letters A to Z, digits, - and _; choose another")
    if path.exists():
        raise UserError(f"{path}: exists; add another name to the command, as NAME={name}-2, or delete the file")
    from motionbench.reporting.inspection import inspect_folder, print_inspection, suggest_experiment

    found = inspect_folder(folder)
    print_inspection(found)
    with atomic_outputs(path) as (new,):
        new.write_text(suggest_experiment(found), encoding="utf-8")
    print(f"The experiment: {path}\nTo run it: make experiment NAME={name}")


if __name__ == "__main__":
    run_command(main)
