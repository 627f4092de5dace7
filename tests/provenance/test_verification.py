import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from motionbench.core.dvc_files import StageLock
from motionbench.core.errors import UserError
from motionbench.core.processes import describe_environment, git
from motionbench.provenance.verification import Check, Verification, _other_inputs, other_conclusions, verify
from pipeline import verify as command
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


SUMMARY: dict[str, Any] = {
    "cnn_lstm": {"accuracy": 0.9, "low": 0.85, "high": 0.95},
    "convlstm": {"accuracy": 0.7, "low": 0.6, "high": 0.8},
    "best": {"model": "cnn_lstm", "accuracy": 0.9},
    "difference": {"cnn_lstm_vs_convlstm": {"accuracy": 0.2}},
    "conclusions": {"cnn_lstm_vs_convlstm, better networks": "cnn_lstm", "control single_frame": "left behind"},
    "champion": "models/cnn_lstm/seed-0.keras",
}


def test_conclusions_champion_and_accuracies_are_compared() -> None:
    def other(**changes: Any) -> list[str]:
        return other_conclusions(SUMMARY, SUMMARY | changes)

    assert other() == []
    assert other(cnn_lstm={"accuracy": 0.95}) == other(best={"model": "convlstm", "accuracy": 0.7}) == []
    assert other(cnn_lstm={"accuracy": 0.96}) == ["cnn_lstm: accuracy 0.960, not within 0.850 to 0.950"]
    assert other(champion=None) == ["champion: models/cnn_lstm/seed-0.keras became none"]
    said = SUMMARY["conclusions"]
    assert other(conclusions=said | {"control single_frame": "not left behind"}) == [
        "control single_frame: left behind became not left behind"
    ]
    assert other(conclusions=said | {"audit, brightness": "fires"}) == ["audit, brightness: nothing became fires"]
    recorded_earlier = {"difference": {"cnn_lstm_vs_convlstm": {"better": "cnn_lstm"}}, "champion": None}
    assert other_conclusions(recorded_earlier, SUMMARY) == [
        "not compared: an earlier version of the project recorded the comparison"
    ]
    assert other_conclusions({}, SUMMARY) == ["no comparison is recorded"]


def test_other_bits_are_expected_on_another_machine_alone() -> None:
    timing = "metrics/training_timing/a.json"

    def elsewhere(here: list[str], *different: str, other_inputs: Sequence[str] = ()) -> list[str]:
        outs = {"data/train": "generate", "models/a": "train", timing: "train", "predictions": "evaluate"}
        checks = [Check(stage, out, "1", "2" if out in different else "1") for out, stage in outs.items()]
        recorded = {timing: ["an old processor", "4 cores", "numpy 2"]}
        deps = {"generate": [], "train": ["data"], "evaluate": ["models"]}
        found = Verification(checks, recorded, deps, [*other_inputs], [])
        assert found.different() == [*different]
        return found.elsewhere(here)

    old, new = (["an old processor", "2 cores", "numpy 2"], ["a new processor", "2 cores", "numpy 2"])
    assert elsewhere(new, "models/a", "predictions") == ["an old processor"]
    assert elsewhere(old, "models/a", "predictions") == []
    assert elsewhere(new, "models/a", other_inputs=["src"]) == []
    assert elsewhere(new, "data/train", "models/a") == [], "clips are the same on every machine"
    # Seen: excused, since some other stage was recorded elsewhere, or with other packages.
    assert elsewhere(new, "predictions") == []
    assert elsewhere(["a new processor", "numpy 3"], "models/a") == []


@pytest.mark.parametrize(
    ("found", "recorded", "others", "code", "said"),
    [
        ("1", "an old processor", [], 0, "1 of 1 outputs are equal."),
        ("2", "an old processor", [], 3, "as expected: recorded with, but not here: an old processor"),
        ("2", "an old processor", ["champion: a became b"], 1, "conclusions: champion: a became b."),
        ("2", None, [], 1, "models/a differ, NOT as expected"),
    ],
)
def test_the_exit_code_says_whether_bits_and_conclusions_are_as_expected(
    found: str, recorded: str | None, others: list[str], code: int, said: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip # what belongs together on one line
    timing = "metrics/training_timing/a.json"
    checks = [Check("train", "models/a", "1", found), Check("train", timing, "1", "2")]
    environment = {timing: [recorded] if recorded else describe_environment()}
    monkeypatch.setattr(command, "verify", lambda: Verification(checks, environment, {"train": []}, [], others))
    monkeypatch.chdir(ROOT)
    try:
        command.main()
        ended = 0
    except SystemExit as error:
        ended = int(error.code or 0)
    assert ended == code
    assert said in capsys.readouterr().out


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
