"""`make export`: write a model as an ONNX file, with a card and an example."""

import sys

from motionbench.core.commands import run_command
from motionbench.core.files import atomic_outputs
from motionbench.core.paths import EXPORTS


def main() -> None:
    """Write reports/export/<model>/: of the model that is named, else of the champion of the comparison here."""
    # Imported late: keeps error messages fast.
    from motionbench.reporting.export import chosen_archive, export_model

    archive = chosen_archive(" ".join(sys.argv[1:]))
    with atomic_outputs(folder := EXPORTS / archive.parent.name) as (new,):
        export_model(new, archive)
    print(f"{folder}: model.onnx, README.md and example.py, of {archive}")


if __name__ == "__main__":
    run_command(main)
