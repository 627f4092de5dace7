from pathlib import Path

import pytest

from motionbench.core.dvc_files import flatten
from motionbench.core.errors import UserError
from motionbench.core.files import read_yaml
from motionbench.core.paths import EXPERIMENTS
from motionbench.params.editing import read_experiment
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("path", sorted((ROOT / EXPERIMENTS).glob("*.yaml")), ids=lambda path: path.stem)
def test_every_experiment_is_accepted(path: Path) -> None:
    changes = read_experiment(path.stem)
    assert changes
    assert changes == flatten(read_yaml(path))
    assert changes.items() != flatten(read_yaml(Path("params.yaml"))).items() & changes.items(), "it changes something"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: {seed: -1}", "other.yaml: data.seed: -1 is not allowed"),
        ("data: {seeds: 1}", "other.yaml: data.seeds: 1: unknown key"),
        ("lstm: {units: 1}", "other.yaml: lstm: {'units': 1}: unknown key"),
        ("convlstm: {filters: [3]}", "other.yaml: convlstm.kernel_sizes: [4, 8, 8] is not allowed: must be as long as"),
        ("", "other.yaml: holds no sections"),
        ("- data", "other.yaml: holds no sections"),
    ],
)
def test_bad_experiments_are_refused_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as refused:
        read_experiment("other", tmp_path)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["", "../params", "unknown"])
def test_unknown_experiments_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").touch()
    (tmp_path / "b.yaml").touch()
    with pytest.raises(UserError, match="is not one of a, b; a new experiment is a new"):
        read_experiment(name, tmp_path)
