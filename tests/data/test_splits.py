import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motionbench.core.errors import UserError
from motionbench.core.files import write_json
from motionbench.core.paths import DATASET_INFO, FOLDS, TEST, TRAIN, fold_path
from motionbench.data.folds import (
    AnySplit,
    JoinedClips,
    held_out_folder,
    part_folders,
    read_test,
    read_training,
    training_folders,
)
from motionbench.data.splits import (
    SPLITS,
    ClipRecord,
    Split,
    read_clip_table,
    read_dataset_info,
    read_split,
    write_split,
)
from motionbench.data.synthetic.frames import draw_split
from motionbench.params.schema import Params
from tests.conftest import DRAWN_DATASET, drawing
from tests.data.hostile_files import clips_folder, damaged, damages, npy, read_apart, read_or_refuse
from tests.fuzzing import some_examples

Load = Callable[[dict[str, Any]], Params]


def drawn(folder: Path, params: Params, name: str = "train") -> Split:
    folder.mkdir(parents=True, exist_ok=True)
    write_split(folder, draw_split(name, drawing(params)))
    return read_split(folder)


@pytest.mark.parametrize("file", ["clips.npy", "labels.npy", "class_names.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "other shape", "other type"])
def test_damaged_clip_files_are_refused_in_one_line(file: str, damage: str, params_with: Load, tmp_path: Path) -> None:
    params = params_with({"synthetic.clips_per_class": 2})
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
        read_split(tmp_path)
    line = str(refused.value)
    assert str(tmp_path) in line
    assert line.endswith("make the clips again: dvc repro --force generate")
    assert "\n" not in line


def test_labels_without_a_class_are_refused(params_with: Load, tmp_path: Path) -> None:
    params = params_with({"synthetic.clips_per_class": 2})
    labels = drawn(tmp_path, params).labels.copy()
    labels[0] = 4
    np.save(tmp_path / "labels.npy", labels)
    with pytest.raises(UserError, match="labels outside 0 to 3"):
        read_split(tmp_path)


@pytest.mark.parametrize("name", ["", "sine", "a\nb", "\x1b[31m", "\ud800", "a" * 101])
def test_unreadable_class_names_are_refused(name: str, params_with: Load, tmp_path: Path) -> None:
    params = params_with({"synthetic.clips_per_class": 2})
    drawn(tmp_path, params)
    names = ["constant", "ascending", name, "sine"]
    (tmp_path / "class_names.json").write_text(json.dumps(names), encoding="utf-8")
    with pytest.raises(UserError, match="must differ and have 1 to 100 printable characters"):
        read_split(tmp_path)


def test_pickles_are_never_loaded(params_with: Load, tmp_path: Path) -> None:
    params = params_with({"synthetic.clips_per_class": 2})
    drawn(tmp_path, params)
    np.save(tmp_path / "labels.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(UserError, match="holds object"):
        read_split(tmp_path)


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


@some_examples
@given(st.data())
def test_joined_clips_are_read_like_one_array(drawn: st.DataObject) -> None:
    lengths = drawn.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    random = np.random.default_rng(0)
    parts = [random.integers(0, 256, (length, 2, 3, 3, 1), dtype=np.uint8) for length in lengths]
    whole = np.concatenate(parts)
    numbers = drawn.draw(
        st.lists(st.integers(-len(whole), len(whole) - 1), max_size=10).map(lambda each: np.array(each, np.int64))
        | st.slices(len(whole))
        | st.lists(st.booleans(), min_size=len(whole), max_size=len(whole)).map(lambda each: np.array(each, bool))
    )
    joined = JoinedClips(parts)
    assert joined.shape == whole.shape
    assert joined[numbers].dtype == np.uint8
    np.testing.assert_array_equal(joined[numbers], whole[numbers])


def test_a_clip_that_is_not_there_is_no_other_clip() -> None:
    joined = JoinedClips([np.zeros((2, 1, 1, 1, 1), np.uint8), np.ones((3, 1, 1, 1, 1), np.uint8)])
    with pytest.raises(IndexError):
        joined[np.array([5])]


def write_folds(folds: int) -> None:
    """Write parts, of which part i has i + 1 clips whose pixels are all i, and a record of so many folds."""
    for part in range(folds):
        folder = fold_path(part)
        folder.mkdir(parents=True)
        np.save(folder / "clips.npy", np.full((part + 1, 2, 3, 3, 1), part, np.uint8))
        np.save(folder / "labels.npy", np.full(part + 1, part % 2))
        write_json(folder / "class_names.json", ["even", "odd"])
    write_json(DATASET_INFO, DRAWN_DATASET.model_copy(update={"folds": folds}).model_dump())


def parts_of(split: AnySplit) -> list[int]:
    """Return the numbers of the parts that a split of these has, and check that it has all of each."""
    numbers = split.clips[:][:, 0, 0, 0, 0]
    parts = np.unique(numbers)
    assert numbers.tolist() == [part for part in parts for _ in range(part + 1)]
    assert split.labels.tolist() == (numbers % 2).tolist()
    assert split.class_names == ("even", "odd")
    return [int(part) for part in parts]


@pytest.mark.parametrize("folds", [3, 5])
@pytest.mark.usefixtures("working_directory")
def test_each_fold_is_tested_on_its_part_and_validated_on_the_next(folds: int) -> None:
    write_folds(folds)
    assert list(read_dataset_info().fold_numbers()) == list(range(folds))
    for fold in range(folds):
        train, validation = read_training(fold)
        following = (fold + 1) % folds
        assert parts_of(read_test(fold)) == [fold]
        assert parts_of(validation) == [following]
        assert parts_of(train) == sorted(set(range(folds)) - {fold, following})
        assert training_folders(fold)[-1] == fold_path(following)


@pytest.mark.usefixtures("working_directory")
def test_training_does_not_need_the_part_that_it_is_tested_on() -> None:
    write_folds(4)
    shutil.rmtree(fold_path(2))
    train, validation = read_training(2)
    assert (parts_of(train), parts_of(validation)) == ([0, 1], [3])
    with pytest.raises(UserError, match=r"^data/folds/2/class_names\.json: missing; make the clips again"):
        read_test(2)


@pytest.mark.usefixtures("working_directory")
def test_without_folds_the_splits_are_read(params_with: Load) -> None:
    params = params_with({"synthetic.clips_per_class": 2})
    splits = {name: drawn(Path("data", name), params, name) for name in SPLITS}
    FOLDS.mkdir()
    write_json(DATASET_INFO, DRAWN_DATASET.model_dump())
    assert list(read_dataset_info().fold_numbers()) == [None]
    train, validation = read_training(None)
    for read, name in ((train, "train"), (validation, "validation"), (read_test(None), "test")):
        np.testing.assert_array_equal(read.clips[:], splits[name].clips)


@pytest.mark.usefixtures("working_directory")
def test_parts_are_found_in_the_order_of_their_numbers(params_with: Load) -> None:
    write_folds(12)
    assert part_folders(FOLDS) == [fold_path(part) for part in range(12)]
    drawn(TRAIN, params_with({"synthetic.clips_per_class": 2}))
    assert part_folders(TRAIN) == [TRAIN]
    TEST.mkdir()
    assert part_folders(TEST) == []


@pytest.mark.usefixtures("working_directory")
def test_what_is_known_of_the_clips_is_read_as_written() -> None:
    FOLDS.mkdir(parents=True)
    record = DRAWN_DATASET.model_copy(
        update={"source": "folder", "folds": 5, "warnings": ["few clips"], "skipped": {"a.mp4": "no frame"}}
    )
    write_json(DATASET_INFO, record.model_dump())
    assert read_dataset_info() == record


@pytest.mark.usefixtures("working_directory")
@pytest.mark.parametrize(
    "content",
    [None, b"", b"\xff", b"[]", b"{}", b"[" * 10**6, b" " * 10**7, b'{"source": "folder", "folds": "some"}',
     b'{"source": "folder", "resize": "zoom", "seconds": 1}', b'{"source": "a", "resize": "pad", "seconds": "\\n"}'],
)  # fmt: skip
def test_a_damaged_record_of_the_clips_is_refused_in_one_line(content: bytes | None) -> None:
    FOLDS.mkdir(parents=True)
    if content is not None:
        DATASET_INFO.write_bytes(content)
    with pytest.raises(UserError) as refused:
        read_dataset_info()
    line = str(refused.value)
    assert line.startswith(f"{DATASET_INFO}: missing; " if content is None else f"{DATASET_INFO}: not readable (")
    assert line.endswith("make the clips again: dvc repro --force generate")
    assert line.isprintable()
    assert len(line) < 300


def clip_table(*groups: str) -> pd.DataFrame:
    """What generate writes of a part whose clips are in these groups."""
    facts = {"frames": 24, "seconds": 2.0, "rate": 12.0, "width": 64, "height": 48, "variable_rate": False}
    return pd.DataFrame(
        [
            {"clip": f"{group}_{number}.mp4", "group": group, **facts, "audio": True}
            for number, group in enumerate(groups)
        ]
    )


@pytest.mark.usefixtures("working_directory")
def test_the_tables_of_all_parts_are_joined_in_the_order_of_the_clips() -> None:
    write_folds(3)
    folders = [held_out_folder(fold) for fold in read_dataset_info().fold_numbers()]
    assert read_clip_table(folders) is None
    # What pandas would take for numbers or for nothing are names.
    groups = [["NA"], ["1", "02"], ["", "a\r\nb", '\x1b[31m, "']]
    for folder, part in zip(folders, groups, strict=True):
        clip_table(*part).to_csv(folder / "clips.csv", index=False)
    table = read_clip_table(folders)
    assert table is not None
    assert list(table) == list(ClipRecord.model_fields)
    assert table["group"].tolist() == ["NA", "1", "02", "", "a\r\nb", '\x1b[31m, "']
    assert table["clip"].tolist()[:3] == ["NA_0.mp4", "1_0.mp4", "02_1.mp4"]
    assert table.index.tolist() == list(range(6))
    numbers = table.drop(columns=["clip", "group"])
    assert numbers.iloc[0].to_dict() == {
        "frames": 24, "seconds": 2.0, "rate": 12.0, "width": 64, "height": 48, "variable_rate": False, "audio": True,
    }  # fmt: skip


@pytest.mark.usefixtures("working_directory")
@pytest.mark.parametrize(
    "damage",
    [
        None,
        "",
        "\0",
        "clip,group\na,b\n",
        clip_table("a").to_csv(index=False),
        clip_table("a", "b", "c").to_csv(index=False),
        clip_table("a", "b").assign(rate=np.nan).to_csv(index=False),
        clip_table("a", "b").assign(rate=np.inf).to_csv(index=False),
        clip_table("a", "b").assign(rate=1e31).to_csv(index=False),
        clip_table("a", "b").assign(height=0).to_csv(index=False),
        clip_table("a", "b").assign(frames="ten").to_csv(index=False),
        clip_table("a", "b").assign(audio="perhaps").to_csv(index=False),
        clip_table("a", "b").to_csv(),
        clip_table("a", "b").to_csv(index=False, header=False),
        clip_table("a", "b").to_csv(index=False).replace("24", "24,24"),
        clip_table("a", "\xe9").to_csv(index=False),
    ],
)
def test_a_damaged_table_of_clips_is_refused_in_one_line(damage: str | None) -> None:
    write_folds(3)
    folders = [fold_path(part) for part in range(3)]
    for part, folder in enumerate(folders):
        clip_table(*"abc"[: part + 1]).to_csv(folder / "clips.csv", index=False)
    damaged_file = folders[1] / "clips.csv"
    damaged_file.unlink()
    if damage is not None:
        damaged_file.write_text(damage, encoding="latin-1")
    with pytest.raises(UserError) as refused:
        read_clip_table(folders)
    line = str(refused.value)
    assert line.startswith(f"{damaged_file}: missing; " if damage is None else f"{damaged_file}: not readable (")
    assert line.endswith("make the clips again: dvc repro --force generate")
    assert len(line) < 400


@settings(some_examples, max_examples=200)
@given(damages)
def test_damaged_tables_of_clips_are_read_or_refused(tmp_path_factory: Any, damage: Any) -> None:
    folder = tmp_path_factory.getbasetemp() / "table"
    folder.mkdir(exist_ok=True)
    np.save(folder / "labels.npy", np.zeros(3, np.int64))
    content = clip_table("a", "b", "b").to_csv(index=False).encode()
    (folder / "clips.csv").write_bytes(damage if isinstance(damage, bytes) else damaged(content, damage))
    table = read_or_refuse(lambda path: read_clip_table([path]), folder)
    if table is not None:
        assert len(table) == 3
        assert list(table) == list(ClipRecord.model_fields)
