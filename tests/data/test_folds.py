"""Each fold trains, validates and tests on other parts; several parts are read like one."""

import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motionbench.core.errors import UserError
from motionbench.core.paths import DATASET_INFO, FOLDS, TEST, TRAIN, part_path
from motionbench.data.folds import (
    AnySplit,
    JoinedClips,
    read_test,
    read_training_clips,
    training_folders,
)
from motionbench.data.splits import SPLITS, NewDataset, NewSplit, part_folders, read_dataset_info, write_dataset
from tests.conftest import DRAWN_DATASET
from tests.fuzzing import some_examples


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
    with pytest.raises(IndexError):
        joined[np.array([len(whole)])]


def write_parts(folds: int) -> None:
    """Write splits, or so many parts: number i has i + 1 clips whose pixels are all i."""
    names = [str(part) for part in range(folds)] if folds else SPLITS
    splits = {
        name: NewSplit(
            ["even", "odd"], np.full(number + 1, number % 2), [np.full((number + 1, 2, 3, 3, 1), number, np.uint8)]
        )
        for number, name in enumerate(names)
    }
    write_dataset(NewDataset(DRAWN_DATASET.model_copy(update={"folds": folds}), splits))


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
    write_parts(folds)
    assert list(read_dataset_info().fold_numbers()) == list(range(folds))
    for fold in range(folds):
        train, validation = read_training_clips(fold)
        following = (fold + 1) % folds
        assert parts_of(read_test(fold)) == [fold]
        assert parts_of(validation) == [following]
        assert parts_of(train) == sorted(set(range(folds)) - {fold, following})
        assert training_folders(fold)[-1] == part_path(following)


@pytest.mark.usefixtures("working_directory")
def test_training_does_not_need_the_part_that_it_is_tested_on() -> None:
    write_parts(4)
    shutil.rmtree(part_path(2))
    train, validation = read_training_clips(2)
    assert (parts_of(train), parts_of(validation)) == ([0, 1], [3])
    with pytest.raises(UserError, match=r"^data/folds/2/class_names\.json: missing; make the clips again"):
        read_test(2)


@pytest.mark.usefixtures("working_directory")
def test_without_folds_the_splits_are_read() -> None:
    write_parts(0)
    assert list(read_dataset_info().fold_numbers()) == [None]
    assert [parts_of(split) for split in (*read_training_clips(None), read_test(None))] == [[0], [1], [2]]


@pytest.mark.usefixtures("working_directory")
def test_parts_are_found_in_the_order_of_their_numbers() -> None:
    write_parts(12)
    assert part_folders(FOLDS) == [part_path(part) for part in range(12)]
    assert part_folders(TRAIN) == []
    write_parts(0)
    assert [part_folders(folder) for folder in (TRAIN, TEST, FOLDS)] == [[TRAIN], [TEST], []]
    assert [file.name for file in FOLDS.iterdir()] == [DATASET_INFO.name]
