"""`make experiment`: run all stages with the values of experiments/<name>.yaml, as the DVC experiment <name>."""

import shlex
import subprocess
import sys
from pathlib import Path

from motionbench.core.commands import run_command
from motionbench.core.errors import UserError
from motionbench.core.processes import git
from motionbench.params.editing import overrides, read_experiment


def main() -> None:
    """Check the values, run the stages in a temporary copy, and compare the metrics with the last commit's."""
    name = " ".join(sys.argv[1:])
    values, params = read_experiment(name)
    settings = [argument for change in overrides(values) for argument in ("--set-param", change)]
    settings += [argument for path in params.untracked_files() for argument in ("--copy-paths", str(path))]
    if new := git("ls-files", "--others", "--exclude-standard", "-z", "--", "src", "pipeline").split("\0")[:-1]:
        raise UserError(f"{new[0]}: git does not have it, nor would the experiment; run: git add {shlex.join(new)}")
    if not str(Path.cwd()).isascii():
        raise UserError(f"{Path.cwd()}: DVC's temporary copies need a path of ASCII letters; move the repository")
    for command in (["exp", "run", "--temp", "--force", "--name", name, *settings], ["metrics", "diff", "HEAD", name]):
        done = subprocess.run([sys.executable, "-m", "dvc", *command], check=False)
        if done.returncode:
            sys.exit(done.returncode)
    print(
        f"To have its files here, and its champion for make predict: dvc exp apply {name}\n"
        "and then: dvc repro --single-item --force compare"
    )


if __name__ == "__main__":
    run_command(main)
