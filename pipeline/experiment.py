"""`make experiment`: run all stages with the values of experiments/<name>.yaml, as the DVC experiment <name>."""

import json
import subprocess
import sys
from pathlib import Path

from motionbench.core.errors import UserError, run_command
from motionbench.params.editing import read_experiment


def main() -> None:
    """Check the values, run the stages in a temporary copy, and compare the metrics with the last commit's."""
    name = " ".join(sys.argv[1:])
    changes = [f"{key}={json.dumps(value)}" for key, value in read_experiment(name).items()]
    settings = [argument for change in changes for argument in ("--set-param", change)]
    if not str(Path.cwd()).isascii():
        raise UserError(f"{Path.cwd()}: DVC's temporary copies need a path of ASCII letters; move the repository")
    for command in (["exp", "run", "--temp", "--force", "--name", name, *settings], ["metrics", "diff", "HEAD", name]):
        done = subprocess.run([sys.executable, "-m", "dvc", *command], check=False)
        if done.returncode:
            sys.exit(done.returncode)


if __name__ == "__main__":
    run_command(main)
