from pathlib import Path
from typing import Any

import pytest

from motionbench.core.dvc_files import Stage, is_wall_clock, parse_lock, read_lock, read_stages, training_stage
from motionbench.core.errors import UserError

DVC_YAML = """
stages:
  train_both:
    cmd: python -m pipeline.train both
    deps: [data/train, "${folder.path}", src/motionbench/core]
    params: [data, "${data.source}", training.seeds]
    outs:
      - models/one
      - models/two
      - metrics/training/one: {cache: false}
  compare:
    desc: Compares the models
    cmd: python -m pipeline.compare
    outs: [reports/comparison]
"""


def test_stages_are_read_as_dvc_yaml_declares_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_text(DVC_YAML, encoding="utf-8")
    Path("params.yaml").write_text("data: {source: synthetic}\nfolder: {path: my clips}\n", encoding="utf-8")
    stages = read_stages()
    assert list(stages) == ["train_both", "compare"]
    assert stages["train_both"].deps == ["data/train", "my clips", "src/motionbench/core"]
    assert stages["train_both"].outs == ["models/one", "models/two", "metrics/training/one"]
    assert stages["train_both"].params == ["data", "synthetic", "training.seeds"]
    assert stages["train_both"].model_names() == ["one", "two"]
    command = "python -m pipeline.compare"
    assert stages["compare"] == Stage("compare", command, [], ["reports/comparison"], [], "Compares the models")
    assert training_stage("two") == "train_both"
    assert training_stage("new") == "train_new"


def test_a_missing_value_of_params_yaml_is_named(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text(DVC_YAML, encoding="utf-8")
    (tmp_path / "params.yaml").write_text("data: {source: synthetic}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"params\.yaml: folder\.path: missing; add it$"):
        read_stages(tmp_path / "dvc.yaml")


def test_a_lock_is_read_by_stage() -> None:
    entry = {
        "cmd": "python -m pipeline.train both",
        "deps": [{"path": "data/train", "hash": "md5", "md5": "1.dir"}, {"path": "src/a.py", "md5": "2"}],
        "params": {"params.yaml": {"data": {"seed": 0, "clips": {"frames": None}}, "training.seeds": [0, 1]}},
        "outs": [{"path": "models/one", "md5": "3.dir"}],
    }
    lock = parse_lock({"schema": "2.0", "stages": {"train_both": entry}}, "dvc.lock")["train_both"]
    assert lock.deps == {"data/train": "1.dir", "src/a.py": "2"}
    assert lock.data() == {"data/train": "1.dir"}
    assert lock.outs == {"models/one": "3.dir"}
    assert lock.params == {"data.seed": 0, "data.clips.frames": None, "training.seeds": [0, 1]}


@pytest.mark.parametrize(
    "content", [None, [], {}, {"stages": None}, {"stages": {"a": {}}}, {"stages": {"a": {"cmd": "b", "outs": [1]}}}]
)
def test_a_damaged_or_missing_lock_is_refused_in_one_line(content: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^a place: not readable \(.*\); create it again: dvc repro$"):
        parse_lock(content, "a place")
    with pytest.raises(UserError, match=r"dvc\.lock: missing; create it: dvc repro$"):
        read_lock(tmp_path / "dvc.lock")


def test_only_measured_times_are_wall_clock() -> None:
    assert is_wall_clock("metrics/training_timing/convlstm.json")
    assert is_wall_clock("reports/comparison/report.md")
    assert not is_wall_clock("metrics/training/convlstm")
    assert not is_wall_clock("models/convlstm")
