import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from motionbench.data.splits import SPLITS, Split, read_split, write_split
from motionbench.data.synthetic.frames import draw_sliced, draw_split
from motionbench.data.synthetic.params import Drawing
from motionbench.data.synthetic.patterns import NOTEBOOK_PATTERNS, PATTERNS, Pattern, constant
from motionbench.params.schema import Params
from tests.conftest import TINY, drawing

Load = Callable[[dict[str, Any]], Params]


def drawn(folder: Path, params: Params, name: str = "train") -> Split:
    folder.mkdir(parents=True, exist_ok=True)
    write_split(folder, draw_split(name, drawing(params)))
    return read_split(folder)


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


def test_a_split_holds_uint8_clips_labels_and_class_names(params_with: Load, tmp_path: Path) -> None:
    split = drawn(tmp_path, params_with({}))
    assert split.clips.dtype == np.uint8
    assert split.clips.shape == (80, 20, 50, 130, 1)
    assert set(np.unique(split.clips)) == {0, 255}
    assert split.class_names == ("constant", "ascending", "descending", "sine")
    assert np.bincount(split.labels).tolist() == [20, 20, 20, 20]


@pytest.mark.parametrize(("variant", "classes"), [("corrected", 5), ("motion", 4), ("notebook", 4)])
def test_a_fifth_pattern_is_drawn_by_the_variant_that_has_it(
    variant: str, classes: int, params_with: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cast("dict[str, Pattern]", PATTERNS), "still", constant)
    split = drawn(tmp_path, params_with({"synthetic.variant": variant}))
    assert np.bincount(split.labels).tolist() == [20] * classes == [20] * len(split.class_names)


@pytest.mark.parametrize("variant", ["corrected", "motion"])
def test_no_clip_is_in_two_splits(variant: str, params_with: Load, tmp_path: Path) -> None:
    params = params_with({"synthetic.variant": variant, "synthetic.clips_per_class": 100})
    digests = [
        {hashlib.sha256(clip.tobytes()).digest() for clip in drawn(tmp_path / name, params, name).clips}
        for name in SPLITS
    ]
    assert [len(split) for split in digests] == [400, 400, 400]
    assert len(set.union(*digests)) == 1200


def black_frames(pattern: str, data: Drawing, frames: slice = slice(None)) -> Any:
    """Shares of 4,000 clips of the notebook that are black in `frames`: the standard error of one of 7 % is 0.4 %."""
    trajectories = NOTEBOOK_PATTERNS[pattern](data, 4000, np.random.default_rng(1))[:, frames]
    return (draw_sliced(trajectories, 50, 130, 6).max(axis=(2, 3, 4)) == 0).mean(axis=0)


def test_notebook_variant_has_the_published_flaws(params_with: Load, tmp_path: Path) -> None:
    params = params_with({"synthetic.variant": "notebook"})
    split = drawn(tmp_path, params)
    assert of_class(split, "constant").max() == 0
    first_rows, last_rows = rows_of(of_class(split, "ascending"))[:, 3], rows_of(of_class(split, "ascending"))[:, -1]
    assert np.nanmax(first_rows) < np.nanmin(last_rows), "ascending goes down on the screen"
    # A square drawn from row -1 on vanishes: the jittered row 4 rounds to 2 or less in 6.7 % of all cases.
    assert black_frames("ascending", drawing(params), slice(1)) == pytest.approx(0.067, abs=0.015)
    assert black_frames("descending", drawing(params), slice(-1, None)) == pytest.approx(0.067, abs=0.015)
    black = black_frames("sine", drawing(params))
    # The trough is frame 15 (sin = -1): 9.6 %. The crest, frame 5, is drawn at row 50 of 50: 1.5 % vanish below it.
    assert int(np.argmax(black)) == 14
    assert black[14] == pytest.approx(0.096, abs=0.018)
    assert black[4] == pytest.approx(0.015, abs=0.008)


def test_corrected_variant_draws_what_the_text_says(params_with: Load, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("changes", [{}, TINY, {"synthetic.jitter": 30.0}], ids=["as is", "tiny", "jitter"])
def test_motion_frames_hold_the_whole_square(changes: dict[str, Any], params_with: Load, tmp_path: Path) -> None:
    data = drawing(params_with(changes | {"synthetic.variant": "motion", "synthetic.clips_per_class": 40}))
    write_split(tmp_path, draw_split("train", data))
    lit = (read_split(tmp_path).clips == 255).sum(axis=(2, 3, 4))
    assert set(lit[:, 0]) == {4**2, 6**2, 8**2}
    assert (lit == lit[:, :1]).all(), "a clip's square keeps its size"


@pytest.mark.parametrize(
    "change",
    [
        {"synthetic.variant": "notebook"},
        {"synthetic.variant": "motion"},
        {"synthetic.seed": 1},
        {"synthetic.clips_per_class": 21},
        {"data.frames": 19},
        {"data.height": 52},
        {"data.width": 131},
        {"synthetic.point_size": 4},
        {"synthetic.jitter": 2.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_data_parameter_changes_the_clips(change: dict[str, Any], params_with: Load, tmp_path: Path) -> None:
    before = drawn(tmp_path / "before", params_with({})).clips
    assert not np.array_equal(before, drawn(tmp_path / "after", params_with(change)).clips)
    assert np.array_equal(before, drawn(tmp_path / "again", params_with({})).clips)


@pytest.mark.parametrize("variant", ["corrected", "motion"])
def test_more_clips_leave_the_first_ones_unchanged(variant: str, params_with: Load, tmp_path: Path) -> None:
    few = drawn(tmp_path / "few", params_with({"synthetic.variant": variant}))
    more = drawn(tmp_path / "more", params_with({"synthetic.variant": variant, "synthetic.clips_per_class": 100}))
    for name in few.class_names:
        np.testing.assert_array_equal(of_class(more, name)[:20], of_class(few, name))


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
