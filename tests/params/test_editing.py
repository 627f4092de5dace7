from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides

from motionbench.core.dvc_files import flatten
from motionbench.core.errors import UserError
from motionbench.core.files import read_yaml
from motionbench.core.paths import EXPERIMENTS, PARAMS
from motionbench.params.editing import overrides, read_experiment, update_yaml
from motionbench.params.loading import load_params
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_changed_values_keep_comments_order_and_style() -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    assert update_yaml(text, {"convlstm": {"filters": [5, 5, 5]}}) == text
    changed = update_yaml(text, {"convlstm": {"filters": [3, 12, 4], "learning_rate": 0.0042}})
    pairs = zip(text.splitlines(), changed.splitlines(), strict=True)
    before, after = zip(*(pair for pair in pairs if pair[0] != pair[1]), strict=True)
    assert [line.split(" #")[0] for line in before] == ["  filters: [5, 5, 5]", "  learning_rate: 0.003"]
    assert [line.split(" #")[0].rstrip() for line in after] == ["  filters: [3, 12, 4]", "  learning_rate: 0.0042"]
    normalized = update_yaml(text, {"convlstm": {"batch_normalization": True}})
    assert "\n  batch_normalization: true  # after each ConvLSTM layer, before its pooling\n" in normalized
    assert [line.split("# ")[1] for line in before] == [line.split("# ")[1] for line in after]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"a": {"b": 2}}, "a: # one\n  b: 2 # two\n  c: {d: [1, 2]}\n"),
        ({"a": {"c": {"d": [3], "e": 4}}}, "a: # one\n  b: 1 # two\n  c: {d: [3], e: 4}\n"),
        ({"f": {"g": 1}}, "a: # one\n  b: 1 # two\n  c: {d: [1, 2]}\nf:\n  g: 1\n"),
    ],
)
def test_nested_and_new_keys_are_set(changes: dict[str, object], expected: str) -> None:
    assert update_yaml("a: # one\n  b: 1 # two\n  c: {d: [1, 2]}\n", changes) == expected


@pytest.mark.parametrize("path", sorted((ROOT / EXPERIMENTS).glob("*.yaml")), ids=lambda path: path.stem)
def test_every_experiment_is_accepted(path: Path) -> None:
    changes, params = read_experiment(path.stem)
    assert changes
    assert changes == flatten(read_yaml(path))
    current = flatten(read_yaml(PARAMS))
    assert any(current.get(key) != value for key, value in changes.items())
    assert flatten(params.model_dump(mode="json")) == flatten(load_params().model_dump(mode="json")) | changes


@pytest.mark.parametrize(
    "value",
    [
        r"(person\d+)_[a-z]{2}$", "C:\\x\\", "a\\", 'a\\"b"', "it's ${x} $y \\${z}", "two\nlines", "\u00fc\u8df3",
        "a,b=[c]: {d} #e", "", "null", "1e3", True, None, 1e-5, [[r"\w", 'b"'], ["c", "d"]], [],
    ],
)  # fmt: skip # what belongs together on one line
def test_dvc_sets_the_values_of_an_experiment_as_they_are(value: object, tmp_path: Path) -> None:
    (tmp_path / PARAMS).write_text("a:\n  b: 1\n", encoding="utf-8")
    apply_overrides(tmp_path / PARAMS, overrides({"a.b": value, "a.new": value}))
    assert read_yaml(tmp_path / PARAMS) == {"a": {"b": value, "new": value}}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("two words", "data: {frames: 3}", "two words.yaml: DVC takes no experiment of this name; rename it"),
        ("other", "synthetic: {seed: -1}", "other.yaml: synthetic.seed: -1 is not allowed"),
        ("other", "data: {seeds: 1}", "other.yaml: data.seeds: 1: unknown key"),
        ("other", "lstm: {units: 1}", "other.yaml: lstm: {'units': 1}: unknown key"),
        (
            "other",
            "convlstm: {filters: [3]}",
            "convlstm.kernel_sizes: [4, 8, 8] is not allowed: must be as long as",
        ),
        ("other", "", "other.yaml: holds no sections"),
        ("other", "- data", "other.yaml: holds no sections"),
        ("", "", "NAME: missing; expected one of a, other; a new one is a new file in experiments/"),
        ("../params", "", "NAME: ../params; expected one of a, other; "),
        ("unknown", "", "NAME: unknown; expected one of a, other; "),
    ],
)
def test_bad_experiments_are_refused_in_one_line(
    name: str, text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / EXPERIMENTS).mkdir()
    (tmp_path / PARAMS).symlink_to(ROOT / PARAMS)
    (tmp_path / EXPERIMENTS / "a.yaml").touch()
    (tmp_path / EXPERIMENTS / f"{name if ' ' in name else 'other'}.yaml").write_text(text, encoding="utf-8")
    (tmp_path / EXPERIMENTS / "other.yaml").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as refused:
        read_experiment(name)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
