"""Whatever params.yaml holds is accepted and valid, or refused in one line."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from motionbench.core.errors import UserError
from motionbench.data.synthetic.patterns import check_paths
from motionbench.models.registry import MODEL_NAMES, SEARCHABLE, CnnParams, GradientParams
from motionbench.params.loading import check_params, load_params
from motionbench.params.schema import Params, ParamsSchema
from motionbench.tuning.space import check_search_space
from tests.conftest import ROOT, drawing
from tests.fuzzing import some_examples

TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")
CONTENT: dict[str, Any] = YAML(typ="safe").load(TEXT)


def keys_of(content: Any, prefix: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the way to every section, leaf and item."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [way for key, value in items for way in ((*prefix, key), *keys_of(value, (*prefix, key)))]


numbers = st.sampled_from(
    [0, -1, 1, 2, 3, 7, 12, 100, 4096, 10**4, 10**6, 10**9, 10**12, 10**18, 10**30, 10**400, 2**31, 2**32, 2**63,
     0.0, -0.0, 0.5, -1.5, 1e-320, 1e30, 1e308, math.inf, -math.inf, math.nan]
) | st.integers()  # fmt: skip # not one a line
scalars = (
    st.none() | st.booleans() | numbers | st.text(max_size=8) | st.sampled_from(["tanh", "notebook", "../a", "\n"])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=20,
)
changes = st.tuples(
    st.sampled_from(keys_of(CONTENT)), st.sampled_from(["set", "delete", "add"]), values | numbers | st.integers(1, 12)
)


def changed(mutations: list[tuple[tuple[str | int, ...], str, Any]]) -> Any:
    content = copy.deepcopy(CONTENT)
    for (*way, last), action, value in mutations:
        place: Any = content
        try:
            for step in way:
                place = place[step]
            if action == "set":
                place[last] = value
            elif action == "delete":
                del place[last]
            else:
                place[f"{last}_"] = value
        except (KeyError, IndexError, TypeError):  # An earlier change took the place away.
            continue
    return content


def check(load: Callable[[], Params]) -> Params | None:
    """Do what a command does before it starts, and return the parameters that it accepts."""
    try:
        params = load()
        if params.data.source == "synthetic":
            check_paths(drawing(params))
        for name in SEARCHABLE:
            check_search_space(params, name)
    except UserError as refused:
        message = str(refused)
    else:
        return params
    assert message.isprintable(), "one line"
    assert len(message) < 1000
    return None


def check_that_it_is_valid(params: Params) -> None:
    data = params.data
    assert math.prod(data.clip_shape()) <= 10**9
    seeds = [params.tuning.seed]
    if data.source == "synthetic":
        drawn = drawing(params)
        assert 4 * drawn.clips_per_class * drawn.frames * drawn.height * drawn.width <= 4 * 10**11
        seeds.append(drawn.seed)
    for seed in (*seeds, *params.training.seeds):
        assert 0 <= seed < 2**32
    for model in map(params.model, MODEL_NAMES):
        assert 1 <= model.epochs <= 10**6
        if isinstance(model, CnnParams):
            assert max(*model.filters, *model.kernel_sizes) <= 4096
        if isinstance(model, GradientParams):
            assert 1 <= model.batch_size <= 10**6
            assert 0 < model.learning_rate < math.inf
    assert params.training.threads <= 1024
    assert ParamsSchema.model_validate(params.model_dump()) == params


@some_examples
@given(st.lists(changes, min_size=1, max_size=3))
def test_changed_values_are_valid_or_refused(mutations: Any) -> None:
    if params := check(lambda: check_params(changed(mutations), Path("params.yaml"))):
        check_that_it_is_valid(params)


SNIPPETS = [
    b"&a [*a]", b"*a", b"&a {<<: *a}", b"!!python/object/apply:os.system [touch pwned]", b"!!int x", b"!!bool x",
    b"!!binary '*'", b"!!timestamp x", b"2001-99-99", b"!!set {a}", b"!!omap 3", b"? {a: b}", b"'\\",
    b'"\\e[31m\\u2028"',
    b"\n---\n", b"%YAML 9.9\n---\n", b"\xff\xfe", b"\0", b"0x" + b"f" * 5000, b"9" * 5000, b"1e400", b"[" * 400,
    b"data: {seed: 0}\n", b"\xed\xa0\x80", b"\t", b"- ", b": ",
]  # fmt: skip # not one a line


@some_examples
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(TEXT) - 1), st.integers(0, 30), st.sampled_from(SNIPPETS) | st.binary(max_size=3)
        ),
        min_size=1, max_size=3,
    ),
    st.none() | st.integers(0, len(TEXT)),
)  # fmt: skip # not one a line
def test_changed_text_is_valid_or_refused(tmp_path_factory: Any, splices: Any, length: int | None) -> None:
    text = TEXT.encode()
    for start, removed, inserted in splices:
        text = text[:start] + inserted + text[start + removed :]
    path = tmp_path_factory.getbasetemp() / "params.yaml"
    path.write_bytes(text[:length])
    if params := check(lambda: load_params(path)):
        check_that_it_is_valid(params)


def nested(depth: int) -> str:
    """References to references, ten each: 10 ** depth items once they are written out."""
    lists = [f"a{level}: &a{level} [{', '.join(10 * [f'*a{level - 1}'])}]" for level in range(1, depth)]
    return "\n".join(["a0: &a0 [x]", *lists, TEXT.replace("seed: 0 #", f"seed: *a{depth - 1} #", 1)])


@pytest.mark.parametrize("text", ["[" * 1000, "[" * 900 + "]" * 900, nested(12), "", "\0", "3", "[]"])
def test_documents_made_to_exhaust_memory_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    assert check(lambda: load_params(tmp_path / "params.yaml")) is None
