import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motionbench.core.errors import UserError
from motionbench.core.files import write_json
from motionbench.core.paths import DATASET_INFO, FOLDS
from motionbench.data.splits import ClipRecord, read_clip_table, read_dataset_info, read_split
from tests.conftest import DRAWN_DATASET
from tests.data.hostile_files import clips_folder, damaged, damages, npy, read_or_refuse
from tests.fuzzing import some_examples


def clip_table(*groups: str) -> pd.DataFrame:
    """What generate writes of a part whose clips are in these groups."""
    facts = {"frames": 24, "seconds": 2.0, "rate": 12.0, "width": 64, "height": 48, "variable_rate": False}
    return pd.DataFrame(
        [
            {"clip": f"{group}_{number}.mp4", "group": group, **facts, "audio": True}
            for number, group in enumerate(groups)
        ]
    )


def refusal(file: Path, read: Callable[[], Any]) -> str:
    """Return why a damaged file is refused, in one line that names it and says what to do."""
    with pytest.raises(UserError) as refused:
        read()
    line = str(refused.value)
    assert line.startswith(f"{file}: ")
    assert line.endswith("; make the clips again: dvc repro --force generate")
    assert line.isprintable()
    assert len(line) < 400
    return line


NAMES = ["constant", "ascending", "descending"]


@pytest.mark.parametrize("file", ["clips.npy", "labels.npy", "class_names.json"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda _: None, "missing"),
        (lambda _: b"", "not readable ("),
        (lambda content: content[:-7], "not readable ("),
        (lambda content: content.replace(b"(8,", b"(7,").replace(b"[", b"[["), "not readable ("),
        (lambda content: content.replace(b"|u1", b"|i1").replace(b"<i8", b"<f8").replace(b'"', b""), "not readable ("),
    ],
)
def test_damaged_files_are_refused(file: str, damage: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "split" / file
    clips_folder(path.parent)
    content = damage(path.read_bytes())
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert message in refusal(path, lambda: read_split(path.parent))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("labels.npy", np.array([0, 0, 1, 1, 2, 2, 3, 4]), "labels outside 0 to 3"),
        ("labels.npy", np.array([0, 0, 1, 1, 2, 2, 3]), "7 labels for 8 clips"),
        ("labels.npy", np.array([object()]), "holds object"),
        *(
            ("class_names.json", [*NAMES, name], "must differ and have 1 to 100 printable characters")
            for name in ("", "constant", "a\nb", "\x1b[31m", "\ud800", "a" * 101)
        ),
    ],
)
def test_labels_and_names_that_cannot_be_are_refused(file: str, content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "split" / file
    clips_folder(path.parent)
    if path.suffix == ".npy":
        np.save(path, content, allow_pickle=True)
    else:
        write_json(path, content)
    assert message in refusal(path, lambda: read_split(path.parent))


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
    st.sampled_from(["clips.npy", "labels.npy", "class_names.json", "clips.csv"]),
    damages | claims.map(header_of) | names.map(lambda content: json.dumps(content).encode()) | st.binary(max_size=200),
)
def test_any_damage_is_read_or_refused(tmp_path_factory: Any, name: str, damage: Any) -> None:
    folder = tmp_path_factory.getbasetemp() / "split"
    if not folder.exists():
        clips_folder(folder)
        clip_table(*"aabbcccc").to_csv(folder / "clips.csv", index=False)
    content = (folder / name).read_bytes()
    try:
        (folder / name).write_bytes(damage if isinstance(damage, bytes) else damaged(content, damage))
        split = read_or_refuse(read_split, folder)
        if split is not None:
            assert (split.clips.shape, split.clips.dtype) == ((8, 4, 16, 20, 1), np.uint8)
            assert (split.labels.shape, split.labels.dtype) == ((8,), np.int64)
            assert set(split.labels) <= set(range(4))
            assert all(label.isprintable() for label in split.class_names)
        table = read_or_refuse(lambda folder: read_clip_table([folder]), folder)
        if table is not None and split is not None:
            assert (len(table), list(table)) == (8, list(ClipRecord.model_fields))
    finally:
        (folder / name).write_bytes(content)


@pytest.mark.usefixtures("working_directory")
@pytest.mark.parametrize(
    "content",
    [None, b"", b"\xff", b"[]", b"{}", b"[" * 10**6, b" " * 10**7, b'{"source": "folder", "folds": "some"}',
     b'{"source": "folder", "resize": "zoom", "seconds": 1}', b'{"source": "a", "resize": "pad", "seconds": "\\n"}'],
)  # fmt: skip # two lines of contents, not ten
def test_what_is_known_of_the_clips_is_read_as_written_or_refused(content: bytes | None) -> None:
    FOLDS.mkdir(parents=True)
    info = DRAWN_DATASET.model_copy(
        update={"source": "folder", "folds": 5, "warnings": ["few clips"], "skipped": {"a.mp4": "no frame"}}
    )
    write_json(DATASET_INFO, info.model_dump())
    assert read_dataset_info() == info
    assert not {"label_maps", "duplicates"} & info.model_dump().keys(), "only where there are any"
    DATASET_INFO.unlink()
    if content is not None:
        DATASET_INFO.write_bytes(content)
    assert ("missing; " if content is None else "not readable (") in refusal(DATASET_INFO, read_dataset_info)


def folders_with_tables(folder: Path, *groups: list[str]) -> list[Path]:
    """Make a folder for each list of groups, with the labels and the table of so many clips."""
    folders = [folder / str(part) for part in range(len(groups))]
    for each, its_groups in zip(folders, groups, strict=True):
        each.mkdir()
        np.save(each / "labels.npy", np.zeros(len(its_groups), np.int64))
        clip_table(*its_groups).to_csv(each / "clips.csv", index=False)
    return folders


def test_the_tables_of_all_parts_are_joined_in_the_order_of_the_clips(tmp_path: Path) -> None:
    # What pandas would take for numbers or for nothing are names.
    groups = [["NA"], ["1", "02"], ["", "a\r\nb", '\x1b[31m, "']]
    folders = folders_with_tables(tmp_path, *groups)
    table = read_clip_table(folders)
    assert table is not None
    expected = pd.concat([clip_table(*its_groups) for its_groups in groups], ignore_index=True)
    pd.testing.assert_frame_equal(table, expected)
    for folder in folders:
        (folder / "clips.csv").unlink()
    assert read_clip_table(folders) is None


TWO = clip_table("a", "b")


@pytest.mark.parametrize(
    "damage",
    [
        None,
        "",
        "\0",
        "clip,group\na,b\n",
        clip_table("a").to_csv(index=False),
        clip_table("a", "b", "c").to_csv(index=False),
        *(TWO.assign(rate=rate).to_csv(index=False) for rate in (np.nan, np.inf, 1e31)),
        TWO.assign(height=0).to_csv(index=False),
        TWO.assign(frames="ten").to_csv(index=False),
        TWO.assign(audio="perhaps").to_csv(index=False),
        TWO.to_csv(),
        TWO.to_csv(index=False, header=False),
        TWO.to_csv(index=False).replace("24", "24,24"),
        clip_table("a", "\xe9").to_csv(index=False),
    ],
)
def test_a_damaged_table_of_clips_is_refused(damage: str | None, tmp_path: Path) -> None:
    folders = folders_with_tables(tmp_path, ["a"], ["a", "b"])
    file = folders[1] / "clips.csv"
    file.unlink()
    if damage is not None:
        file.write_text(damage, encoding="latin-1")
    message = refusal(file, lambda: read_clip_table(folders))
    assert ("missing; " if damage is None else "not readable (") in message
