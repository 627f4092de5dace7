from motionbench.data.label_maps import label_map
from motionbench.data.splits import DatasetInfo
from tests.conftest import DRAWN_DATASET


def test_what_is_not_recorded_of_a_folder_is_not_known() -> None:
    swapped = {"left": "right", "right": "left"}
    folder = DatasetInfo(source="folder", resize="pad", seconds=1.0, label_maps={"mirrored": swapped, "flipped": {}})
    read = DatasetInfo.model_validate_json(folder.model_dump_json())
    assert [label_map(read, change) for change in ("mirrored", "flipped", "reversed")] == [swapped, {}, None]


def test_the_record_of_drawn_clips_names_no_labels() -> None:
    assert label_map(DRAWN_DATASET, "flipped") == {"ascending": "descending", "descending": "ascending"}
    assert "label_maps" not in DRAWN_DATASET.model_dump()
