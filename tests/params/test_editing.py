import pytest

from motionbench.params.editing import update_yaml
from tests.conftest import ROOT


def test_changed_values_keep_comments_order_and_style() -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    assert update_yaml(text, {"convlstm": {"filters": [5, 5, 5]}}) == text
    changed = update_yaml(text, {"convlstm": {"filters": [3, 12, 4], "learning_rate": 0.0042}})
    pairs = zip(text.splitlines(), changed.splitlines(), strict=True)
    before, after = zip(*(pair for pair in pairs if pair[0] != pair[1]), strict=True)
    assert [line.split(" #")[0] for line in before] == ["  filters: [5, 5, 5]", "  learning_rate: 0.003"]
    assert [line.split(" #")[0].rstrip() for line in after] == ["  filters: [3, 12, 4]", "  learning_rate: 0.0042"]
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
