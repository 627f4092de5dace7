"""`make verify`: check that the last commit's code makes the outputs in its dvc.lock."""

import sys

from rich.console import Console
from rich.table import Table

from motionbench.core.commands import run_command
from motionbench.core.processes import describe_environment, git
from motionbench.params.loading import load_params
from motionbench.provenance.verification import verify


def main() -> None:
    """Run all stages in a temporary clone, and print each output's md5 beside dvc.lock's.

    The exit code is 0 if all are equal; 3 if some differ, as is expected on another machine, and the conclusions are
    the same; else 1.
    """
    if git("status", "--porcelain").strip():
        print("warning: changes that are not committed are not verified: HEAD is", file=sys.stderr)
    found = verify()
    table = Table("stage", "output", "md5 in dvc.lock", "md5 now", "result")
    for check in found.checks:
        table.add_row(check.stage, check.out, check.expected, check.found, check.result)
    Console(width=max(Console().width, 200)).print(table)  # wide enough for whole names and md5s
    print(f"commit: {git('log', '-1', '--format=%h %s').strip()}")
    here = describe_environment()
    print(f"here: {', '.join(here)}; training.threads: {load_params().training.threads}")
    for out, environment in found.recorded_on.items():
        print(f"{out}: recorded on {', '.join(environment)}")
    if found.other_inputs:
        print(f"warning: dvc.lock was made with other versions of: {', '.join(found.other_inputs)}", file=sys.stderr)
    different, equal = found.different(), [each.out for each in found.checks if each.result == "equal"]
    print(f"{len(equal)} of {len(equal) + len(different)} outputs are equal.")
    if not different:
        return
    absent = found.elsewhere(here)
    expected = f"as expected: recorded with, but not here: {', '.join(absent)}" if absent else "NOT as expected"
    print(
        f"bits: {', '.join(different)} differ, {expected}. Clips are the same on every machine; trained weights, and "
        "what follows, are the same with the same processor, SIMD instructions, packages and training.threads."
    )
    same = (
        "the same: verdicts, controls, audit and champion, and each accuracy lies within the interval that was recorded"
    )
    print(f"conclusions: {'; '.join(found.other_conclusions) or same}.")
    sys.exit(3 if absent and not found.other_conclusions else 1)


if __name__ == "__main__":
    run_command(main)
