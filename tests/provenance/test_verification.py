import shutil
from pathlib import Path
from typing import Any

import pytest

from motionbench.core.dvc_files import StageLock
from motionbench.core.errors import UserError
from motionbench.core.processes import git
from motionbench.provenance.verification import Check, _other_inputs, verify
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("out", "found", "result"),
    [
        ("models/convlstm", "1", "equal"),
        ("models/convlstm", "2", "DIFFERENT"),
        ("models/convlstm", "none", "DIFFERENT"),
        ("metrics/training_timing/convlstm.json", "2", "not compared: timings"),
        ("reports/comparison", "2", "not compared: timings"),
    ],
)
def test_only_outputs_without_timings_are_compared(out: str, found: str, result: str) -> None:
    assert Check("a stage", out, "1", found).result == result


def test_other_inputs_are_code_and_parameters_but_no_outputs() -> None:
    def lock(code: str, data: str, **params: Any) -> dict[str, StageLock]:
        return {
            "generate": StageLock("generate", "", {"src/motionbench/data": code}, {"data/train": data}, params),
            "train": StageLock("train", "", {"data/train": data, "src/motionbench/core": "1"}, {}, params),
        }

    recorded = lock("1", "1", seed=0)
    assert _other_inputs(recorded, recorded) == []
    assert _other_inputs(recorded, lock("2", "2", seed=1)) == ["seed", "src/motionbench/data"]
    assert _other_inputs(recorded, lock("1", "1", seed=0, new=1)) == ["new"]


def test_commit_without_dvc_lock_cannot_be_verified(working_directory: Path) -> None:
    git("init", "--quiet")
    with pytest.raises(UserError, match="git rev-parse: "):
        verify()
    commit("empty")
    with pytest.raises(UserError, match=r"params\.yaml: No such file or directory"):
        verify()
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    commit("parameters")
    with pytest.raises(UserError, match=r"dvc\.lock: missing; create it: dvc repro"):
        verify()
    assert {path.name for path in working_directory.iterdir()} == {".git", "params.yaml"}


def commit(message: str) -> None:
    git("add", "--all")
    author = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    git(*author, "commit", "--quiet", "--allow-empty", "--message", message)
