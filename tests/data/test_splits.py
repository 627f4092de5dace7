import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motionbench.core.errors import UserError
from motionbench.data.sources import write_split
from motionbench.data.splits import SPLITS, Split, read_split
from motionbench.data.synthetic.frames import draw_clamped, draw_sliced
from motionbench.data.synthetic.patterns import NOTEBOOK_PATTERNS, PATTERNS
from motionbench.params.schema import Params

Load = Callable[[dict[str, Any]], Params]


def drawn(folder: Path, params: Params, name: str = "train") -> Split:
    folder.mkdir(parents=True, exist_ok=True)
    write_split(folder, name, params.data)
    return read_split(folder, params.data)


def of_class(split: Split, name: str) -> np.ndarray:
    return split.clips[split.labels == split.class_names.index(name), ..., 0]


def rows_of(frames: np.ndarray) -> Any:
    """Mean lit row of each frame, NaN where it is black."""
    lit = (frames > 0).sum(axis=-1)
    count = lit.sum(axis=-1)
    total = (lit * np.arange(frames.shape[-2])).sum(axis=-1)
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)


def columns_of(frames: np.ndarray) -> Any:
    return rows_of(frames.swapaxes(-1, -2))


def share_black(frames: np.ndarray) -> float:
    return float((frames.max(axis=(-1, -2)) == 0).mean())


def test_a_split_is_uint8_clips_with_labels_and_class_names_beside_them(params_with: Load, tmp_path: Path) -> None:
    split = drawn(tmp_path, params_with({}))
    assert split.clips.dtype == np.uint8
    assert split.clips.shape == (80, 20, 50, 130, 1)
    assert set(np.unique(split.clips)) == {0, 255}
    assert split.class_names == ("constant", "ascending", "descending", "sine")
    assert np.bincount(split.labels).tolist() == [20, 20, 20, 20]


@pytest.mark.parametrize("variant", ["corrected", "motion"])
def test_no_clip_stands_in_two_splits(variant: str, params_with: Load, tmp_path: Path) -> None:
    params = params_with({"data.variant": variant, "data.clips_per_class": 100})
    digests = [
        {hashlib.sha256(clip.tobytes()).digest() for clip in drawn(tmp_path / name, params, name).clips}
        for name in SPLITS
    ]
    assert [len(split) for split in digests] == [400, 400, 400]
    assert len(set.union(*digests)) == 1200


# 4,000 clips a class: the standard error of a share of 7 % is 0.4 %.
MANY = {"data.clips_per_class": 4000}


def many(pattern: str, params: Params, variant: str) -> np.ndarray:
    patterns, draw = {"notebook": (NOTEBOOK_PATTERNS, draw_sliced), "corrected": (PATTERNS, draw_clamped)}[variant]
    trajectories = patterns[pattern](params.data, params.data.clips_per_class, np.random.default_rng(1))
    return draw(trajectories, 50, 130, 6)[..., 0]


def test_the_notebook_variant_has_the_published_flaws(params_with: Load, tmp_path: Path) -> None:
    params = params_with({"data.variant": "notebook"})
    split = drawn(tmp_path, params)
    assert of_class(split, "constant").max() == 0
    first_rows, last_rows = rows_of(of_class(split, "ascending"))[:, 3], rows_of(of_class(split, "ascending"))[:, -1]
    assert np.nanmax(first_rows) < np.nanmin(last_rows), "ascending goes down on the screen"
    params = params_with({"data.variant": "notebook", **MANY})
    # A square drawn from row -1 on vanishes: the jittered row 4 rounds to 2 or less in 6.7 % of all cases.
    assert share_black(many("ascending", params, "notebook")[:, 0]) == pytest.approx(0.067, abs=0.015)
    assert share_black(many("descending", params, "notebook")[:, -1]) == pytest.approx(0.067, abs=0.015)
    sine = many("sine", params, "notebook")
    black = [share_black(sine[:, frame]) for frame in range(20)]
    # The trough is frame 15 (sin = -1): 9.6 %. The crest, frame 5, is drawn at row 50 of 50: 1.5 % vanish below it.
    assert int(np.argmax(black)) == 14
    assert black[14] == pytest.approx(0.096, abs=0.018)
    assert black[4] == pytest.approx(0.015, abs=0.008)


def test_the_corrected_variant_draws_what_the_text_says(params_with: Load, tmp_path: Path) -> None:
    split = drawn(tmp_path, params_with({}))
    assert ((split.clips > 0).sum(axis=(2, 3, 4)) == 36).all(), "the whole square is in every frame"
    rows = {name: rows_of(of_class(split, name)) for name in split.class_names}
    columns = {name: columns_of(of_class(split, name)) for name in split.class_names}
    # Screen rows grow downward; the drawn square's mean row is half a pixel above its centre.
    assert rows["ascending"][:, 0].min() > 40
    assert rows["ascending"][:, -1].max() < 14
    assert rows["descending"][:, 0].max() < 14
    assert rows["descending"][:, -1].min() > 40
    assert rows["sine"].mean(axis=0).argmin() == 4
    assert rows["sine"].mean(axis=0).argmax() == 14
    for name in ("ascending", "descending", "sine"):
        np.testing.assert_allclose(columns[name], np.tile(6 * np.arange(1, 21) - 0.5, (20, 1)))
    np.testing.assert_allclose(rows["constant"].mean(), 24.5, atol=0.2)
    np.testing.assert_allclose(columns["constant"].mean(), 64.5, atol=0.2)


def test_both_variants_move_alike_where_the_source_has_no_flaw(params_with: Load) -> None:
    params = params_with({"data.jitter": 1.0, **MANY})
    random = np.random.default_rng(0)
    ours = PATTERNS["ascending"](params.data, 4000, random).mean(axis=0)
    source = NOTEBOOK_PATTERNS["descending"](params.data, 4000, random).mean(axis=0)
    # Ascending with up as up is the source's descending, four rows lower: it starts 4 rows from the edge too.
    np.testing.assert_allclose(ours - source, np.tile([4, 0], (20, 1)), atol=0.15)


@pytest.mark.parametrize(
    ("row", "lit"),
    [(2, []), (3, [0, 1, 2, 3, 4, 5]), (48, [45, 46, 47, 48, 49]), (53, []), (-4, [43, 44, 45, 46, 47, 48])],
)
def test_sliced_drawing_is_numpys_slicing(row: int, lit: list[int]) -> None:
    frame = np.zeros((50, 130), dtype=np.uint8)
    frame[row - 3 : row + 3, 57:63] = 255
    drawn = draw_sliced(np.array([[[row, 60.0]]]), 50, 130, 6)[0, 0, :, :, 0]
    np.testing.assert_array_equal(drawn, frame)
    assert np.flatnonzero(drawn.any(axis=1)).tolist() == lit


@pytest.mark.parametrize(
    "change",
    [
        {"data.variant": "notebook"},
        {"data.variant": "motion"},
        {"data.seed": 1},
        {"data.clips_per_class": 21},
        {"data.frames": 19},
        {"data.height": 52},
        {"data.width": 131},
        {"data.point_size": 4},
        {"data.jitter": 2.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_data_parameter_changes_the_clips(change: dict[str, Any], params_with: Load, tmp_path: Path) -> None:
    before = drawn(tmp_path / "before", params_with({})).clips
    assert not np.array_equal(before, drawn(tmp_path / "after", params_with(change)).clips)
    assert np.array_equal(before, drawn(tmp_path / "again", params_with({})).clips)


@pytest.mark.parametrize("variant", ["corrected", "motion"])
def test_more_clips_of_a_class_leave_the_first_as_they_were(variant: str, params_with: Load, tmp_path: Path) -> None:
    few = drawn(tmp_path / "few", params_with({"data.variant": variant}))
    more = drawn(tmp_path / "more", params_with({"data.variant": variant, "data.clips_per_class": 100}))
    for name in few.class_names:
        np.testing.assert_array_equal(of_class(more, name)[:20], of_class(few, name))


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
def test_class_names_that_nobody_can_read_are_refused(name: str, params_with: Load, tmp_path: Path) -> None:
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
