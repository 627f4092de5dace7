import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motionbench.core.errors import UserError
from motionbench.data.splits import Split, read_split
from motionbench.data.synthetic.frames import write_split
from motionbench.params.schema import Params
from tests.data.hostile_files import clips_folder, damaged, damages, npy, read_apart, read_or_refuse
from tests.fuzzing import some_examples

Load = Callable[[dict[str, Any]], Params]


def drawn(folder: Path, params: Params, name: str = "train") -> Split:
    folder.mkdir(parents=True, exist_ok=True)
    write_split(folder, name, params.data)
    return read_split(folder, params.data)


@pytest.mark.parametrize("file", ["clips.npy", "labels.npy", "class_names.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "other shape", "other type"])
def test_damaged_clip_files_are_refused_in_one_line(file: str, damage: str, params_with: Load, tmp_path: Path) -> None:
    params = params_with({"data.clips_per_class": 2})
    drawn(tmp_path, params)
    path = tmp_path / file
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "truncated":
        path.write_bytes(content[:-7])
    elif path.suffix == ".json":
        path.write_text(json.dumps([["a"]] if damage == "other type" else ["a", "b"]), encoding="utf-8")
    else:
        array = np.load(path)
        np.save(path, array[1:] if damage == "other shape" else array.astype(np.float32))
    with pytest.raises(UserError) as refused:
        read_split(tmp_path, params.data)
    line = str(refused.value)
    assert str(tmp_path) in line
    assert line.endswith("draw the clips again: dvc repro --force generate")
    assert "\n" not in line


def test_labels_without_a_class_are_refused(params_with: Load, tmp_path: Path) -> None:
    params = params_with({"data.clips_per_class": 2})
    labels = drawn(tmp_path, params).labels.copy()
    labels[0] = 4
    np.save(tmp_path / "labels.npy", labels)
    with pytest.raises(UserError, match="labels outside 0 to 3"):
        read_split(tmp_path, params.data)


@pytest.mark.parametrize("name", ["", "sine", "a\nb", "\x1b[31m", "\ud800", "a" * 101])
def test_unreadable_class_names_are_refused(name: str, params_with: Load, tmp_path: Path) -> None:
    params = params_with({"data.clips_per_class": 2})
    drawn(tmp_path, params)
    names = ["constant", "ascending", name, "sine"]
    (tmp_path / "class_names.json").write_text(json.dumps(names), encoding="utf-8")
    with pytest.raises(UserError, match="must differ and have 1 to 100 printable characters"):
        read_split(tmp_path, params.data)


def test_pickles_are_never_loaded(params_with: Load, tmp_path: Path) -> None:
    params = params_with({"data.clips_per_class": 2})
    drawn(tmp_path, params)
    np.save(tmp_path / "labels.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(UserError, match="holds object"):
        read_split(tmp_path, params.data)


def test_files_that_claim_a_huge_size_take_no_memory(tmp_path: Path) -> None:
    for name, content in (("labels.npy", npy((10**10,), "<i8")), ("class_names.json", b"[" * 10**6)):
        clips_folder(tmp_path / name)
        (tmp_path / name / name).write_bytes(content)
    lines, kilobytes = read_apart(tmp_path / "labels.npy", tmp_path / "class_names.json")
    assert [line.startswith(str(tmp_path)) for line in lines] == [True, True]
    assert kilobytes < 20_000


def header_of(claims: tuple[Any, str, bool, int]) -> bytes:
    shape, dtype, fortran, version = claims
    return npy(shape, dtype, fortran=fortran, version=version)


sizes = st.sampled_from([0, 1, 2, 4, 8, 16, 20, -1, 10**6, 2**31, 2**63, 10**30, True, None, "4", 2.5])
claims = st.tuples(
    st.lists(sizes, max_size=5).map(tuple) | sizes,
    st.sampled_from(
        ["|u1", "<i8", ">i8", "|O", "<f8", "<U9", "|V10000000000", "M8[ns]", "(9999999,)u1", "nonsense", "("]
    ),
    st.booleans(),
    st.sampled_from([0, 1, 2, 3, 255]),
)
names = st.recursive(
    st.none() | st.integers() | st.text(max_size=120), lambda inner: st.lists(inner, max_size=5), max_leaves=5
)


@some_examples
@given(
    st.sampled_from(["clips.npy", "labels.npy", "class_names.json"]),
    damages | claims.map(header_of) | names.map(lambda content: json.dumps(content).encode()) | st.binary(max_size=200),
)
def test_damaged_splits_are_read_or_refused(tmp_path_factory: Any, name: str, damage: Any) -> None:
    folder = tmp_path_factory.getbasetemp() / "split"
    if not folder.exists():
        clips_folder(folder)
    content = (folder / name).read_bytes()
    try:
        (folder / name).write_bytes(damage if isinstance(damage, bytes) else damaged(content, damage))
        split = read_or_refuse(read_split, folder)
        if split is not None:
            assert (split.clips.shape, split.clips.dtype) == ((8, 4, 16, 20, 1), np.uint8)
            assert (split.labels.shape, split.labels.dtype) == ((8,), np.int64)
            assert set(split.labels) <= set(range(4))
            assert all(label.isprintable() for label in split.class_names)
    finally:
        (folder / name).write_bytes(content)
