"""The leak audit fires where something else than motion tells the class, and nowhere else."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from motionbench.comparison.audit import (
    LEVEL,
    METADATA,
    AuditCheck,
    Fold,
    audit,
    audit_control,
    audit_files,
    audit_groups,
    audit_looks,
    summarise_audit,
)
from motionbench.comparison.similarity import compare_neighbours
from motionbench.core.errors import UserError
from motionbench.core.files import write_json
from motionbench.core.paths import DATASET_INFO, TEST, TRAIN, VALIDATION, part_path
from motionbench.data.splits import ClipRecord, DatasetInfo
from tests.comparison.made_up import Made, compared, models, result
from tests.conftest import DRAWN_DATASET

FACTS = {"frames": 24, "seconds": 2.0, "rate": 12.0, "width": 64, "height": 48, "variable_rate": False, "audio": True}
FOLDER = DatasetInfo(source="folder", folds=3, resize="pad", seconds=2.0)
CLASSES = 3


def clips(count: int = 40, **columns: Any) -> pd.DataFrame:
    """A table of clips of three classes in turn, which are alike but for the given columns."""
    table = pd.DataFrame([{"clip": f"{number}.mp4", "group": f"g{number // 4}", **FACTS} for number in range(count)])
    table = table.assign(label=np.arange(count) % CLASSES, **columns)
    return table.assign(aspect=(table["width"] / table["height"]).round(2))


def folds(*tables: pd.DataFrame) -> list[Fold]:
    return [(pd.concat([other for other in tables if other is not table]), table) for table in tables]


def fires(*tables: pd.DataFrame, resize: str = "pad") -> dict[str, bool]:
    return {finding.check: finding.fires for finding in audit_files(folds(*tables), resize)}


LABELS = np.arange(40) % CLASSES
LEAKS: dict[str, Any] = {
    "frames": 24 + LABELS,
    "seconds": 2 + LABELS / 10,
    "rate": 12 + LABELS / 100,
    "width": 64 + LABELS,
    "height": 48 + LABELS,
    "variable_rate": LABELS == 1,
    "audio": LABELS == 2,
}


def test_each_column_of_the_table_is_checked() -> None:
    assert {*METADATA, "clip", "group"} == {*ClipRecord.model_fields, "aspect"}
    assert set(LEAKS) == {*METADATA} - {"aspect"}


@pytest.mark.parametrize("column", LEAKS)
def test_metadata_that_tell_the_class_fire(column: str) -> None:
    metadata, *_ = audit_files(folds(*[clips(**{column: LEAKS[column]}) for _ in range(2)]), "crop")
    assert metadata.fires
    assert metadata.accuracy == (1 if LEAKS[column].max() > 1 else pytest.approx(2 / 3, abs=0.02))
    assert metadata.reference == pytest.approx(1 / 3, abs=0.02)
    mostly = "aspect" if column in ("width", "height") else column
    assert metadata.sentence.startswith("what files say about themselves tells the class, mostly ")
    assert mostly in metadata.sentence or column in metadata.sentence


def test_equal_metadata_and_noise_are_silent() -> None:
    assert fires(*[clips() for _ in range(2)]) == {"metadata": False, "padding": False}
    for seed in range(3):
        random = np.random.default_rng(seed)
        noise = [
            clips(rate=random.normal(12, 1, 40), width=random.integers(60, 90, 40), frames=random.integers(9, 40, 40))
            for _ in range(2)
        ]
        assert fires(*noise) == {"metadata": False, "padding": False}, seed


def test_a_leak_in_the_test_clips_alone_is_none() -> None:
    train, test = clips(), clips(rate=LEAKS["rate"])
    assert not any(finding.fires for finding in audit_files([(train, test)], "pad"))
    [metadata, _] = audit_files([(test, test)], "pad")
    assert metadata.fires, "the same leak in both"


def test_the_commonest_class_is_no_leak() -> None:
    common = clips().assign(label=[0] * 30 + [1] * 5 + [2] * 5)
    metadata, _ = audit_files(folds(common, common.copy()), "pad")
    assert (metadata.fires, metadata.accuracy, metadata.reference) == (False, 0.75, 0.75)


def test_bars_show_proportions_only_where_clips_are_padded() -> None:
    shapes = [clips(width=64 * (1 + LABELS), height=48 * (1 + (LABELS == 1))) for _ in range(2)]
    assert fires(*shapes) == {"metadata": True, "padding": True}
    assert fires(*shapes, resize="crop") == fires(*shapes, resize="stretch") == {"metadata": True}
    [_, padding] = audit_files(folds(*shapes), "pad")
    assert padding.sentence.endswith("set folder.resize to crop or stretch")
    sizes = [clips(width=64 * (1 + LABELS), height=48 * (1 + LABELS)) for _ in range(2)]
    assert fires(*sizes) == {"metadata": True, "padding": False}, "sizes differ, proportions do not"
    [_, padding] = audit_files(folds(*sizes), "pad")
    assert padding.sentence == "all clips have the same proportions"


def controls(*contenders: Made, controls: tuple[int, int], groups: Any = None) -> list[AuditCheck]:
    found = compared(models(*contenders, controls=controls), groups=groups)
    return [audit_control(pair, {name: model.right for name, model in found.models.items()}) for pair in found.controls]


def test_controls_fire_where_the_best_model_is_not_shown_to_be_better() -> None:
    frame, bag = controls(result(70, 72), result(30, 30), controls=(30, 69))
    assert frame[:5] == ("single_frame", "the first frame alone", 30 / 80, 71 / 80, False)
    assert frame.sentence.startswith("seeing the first frame alone is not enough, since cnn_lstm is better (+0.5")
    assert bag[:5] == ("bag_of_frames", "all frames in no order", 69 / 80, 71 / 80, True)
    assert bag.sentence.startswith(
        "seeing all frames in no order may be enough, since cnn_lstm is not shown to be better (+0.02"
    )


def test_a_control_that_is_better_fires() -> None:
    frame, _ = controls(result(30, 30), result(30, 30), controls=(80, 30))
    assert frame.fires


def test_the_audit_and_what_is_said_of_the_controls_follow_one_rule() -> None:
    # Clips in 5 groups: once the audit said "better", counting clips, and the report "not shown to be better".
    few = np.arange(80) // 16
    found = compared(models(result(80, 80), result(80, 80), controls=(0, 0)), groups=few)
    assert "cnn_lstm is not shown to be better than single_frame and bag_of_frames" in found.verdict[-1]
    frame, bag = controls(result(80, 80), result(80, 80), controls=(0, 0), groups=few)
    assert frame.fires
    assert bag.fires
    assert frame.sentence.endswith("; there are too few groups to show any difference)")


def finding(check: str, *, fires: bool) -> AuditCheck:
    return AuditCheck(check, "", 0.5, 0.5, fires, f"{check} tells")


def test_the_summary_names_what_fires() -> None:
    silent, one, two, three = (finding(name, fires=name != "a") for name in "abcd")
    assert summarise_audit([silent]) == "Leak audit: nothing fires."
    assert summarise_audit([silent, one]) == "Leak audit: b fires. b: b tells."
    assert summarise_audit([one, silent, two, three]) == (
        "Leak audit: b, c and d fire. b: b tells. c: c tells. d: d tells."
    )


def write_part(folder: Path, table: pd.DataFrame, pixels: NDArray[np.uint8] | None = None) -> None:
    folder.mkdir(parents=True)
    if pixels is None:
        pixels = np.random.default_rng(len(table)).integers(0, 256, (len(table), 2, 3, 3, 1), np.uint8)
    np.save(folder / "clips.npy", pixels)
    np.save(folder / "labels.npy", table["label"].to_numpy())
    write_json(folder / "class_names.json", ["a", "b", "c"])
    table[list(ClipRecord.model_fields)].to_csv(folder / "clips.csv", index=False)


@pytest.mark.usefixtures("working_directory")
def test_the_forest_is_trained_on_the_training_parts_alone() -> None:
    found = compared(models(result(80, 80), result(80, 80)))
    telling = 12 + np.arange(40) % CLASSES
    parts = [clips(20, rate=telling[:20]), clips(40, rate=telling), clips(20)]
    for part, table in enumerate(parts):
        write_part(part_path(part), table)
    write_json(DATASET_INFO, FOLDER.model_dump())
    right = {name: model.right for name, model in found.models.items()}
    findings = audit(found.controls, right, FOLDER)
    checks = ["single_frame", "bag_of_frames", "metadata", "padding", "duplicates", "groups", "copies"]
    assert [each.check for each in findings] == checks
    # Fold 0 is trained on part 2, in which nothing tells the class, and validated on part 1.
    assert findings[2].accuracy == (7 + 40 + 7) / 80
    assert findings[4][2:6] == (None, None, False, "none")

    write_part(TRAIN, clips(rate=telling))
    write_part(TEST, clips(80, rate=12 + np.arange(80) % CLASSES))
    equal = "equal pixels from different files: a.mp4 and a.mkv (parts differ)"
    split = FOLDER.model_copy(update={"folds": 0, "duplicates": equal})
    findings = audit(found.controls, right, split)
    assert findings[2].accuracy == 1
    assert findings[4][2:6] == (None, None, True, equal)


@pytest.mark.parametrize(("right_clips", "fires"), [(3, True), (5, False), (10, False), (60, False)])
def test_worse_than_guessing_tells_of_groups_that_nobody_named(right_clips: int, fires: bool) -> None:
    clips = pd.DataFrame({"label": np.repeat(np.arange(10), 10), "group": np.arange(100)})
    right = {"good": np.ones((2, 100), bool), "bad": np.tile(np.arange(100) < right_clips, (2, 1))}
    found = audit_groups(right, [(clips, clips)])
    assert (found.accuracy, found.reference, found.fires) == (right_clips / 100, 0.1, fires)
    assert ("bad is right less often than guessing" in found.sentence) == fires
    grouped = clips.assign(group=np.arange(100) // 2)
    found = audit_groups(right, [(grouped, grouped)])
    assert (found.fires, found.sentence) == (False, "groups are named")


def test_guessing_may_always_be_wrong_where_each_fold_tests_on_one_clip() -> None:
    clips = pd.DataFrame({"label": np.arange(20) % 2, "group": np.arange(20)})
    folds = [(clips.drop(index=number), clips[number : number + 1]) for number in range(20)]
    found = audit_groups({"guessing": np.zeros((1, 20), bool)}, folds)
    assert (found.accuracy, found.reference, found.fires) == (0, 0, False)


def scenes(count: int, *, of: int, channels: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """Clips of 12 frames of 16x20 pixels, `of` successive ones before one wall, with a square somewhere, and noise."""
    walls = random.uniform(40, 160, (-(-count // of), 1, 4, 5, channels)).repeat(4, axis=2).repeat(4, axis=3)
    pixels = walls.repeat(12, axis=1).repeat(of, axis=0)[:count] + random.normal(0, 3, (count, 12, 16, 20, channels))
    for clip in pixels:
        row, column = random.integers(0, (12, 16))
        for frame in clip:
            row, column = (int(np.clip(at + random.integers(-1, 2), 0, most)) for at, most in ((row, 12), (column, 16)))
            frame[row : row + 4, column : column + 4] = 250
    return pixels.clip(0, 255).astype(np.uint8)


def looks(pixels: NDArray[np.uint8], labels: NDArray[np.int64], **columns: Any) -> dict[str, AuditCheck]:
    """What is found of clips without groups, of which every third is to test with."""
    table = clips(len(pixels)).assign(**{"label": labels, "group": np.arange(len(pixels)), **columns})
    for number, folder in enumerate((TRAIN, VALIDATION, TEST)):
        shutil.rmtree(folder, ignore_errors=True)
        write_part(folder, table[number::3], pixels[number::3])
    return {finding.check: finding for finding in audit_looks([TRAIN, VALIDATION, TEST])}


@pytest.mark.usefixtures("working_directory")
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("takes", [1, 4])
def test_scenes_with_clips_of_each_class_are_groups_that_nobody_named(takes: int, channels: int) -> None:
    size, random = CLASSES * takes, np.random.default_rng(takes)
    pixels, labels = scenes(96, of=size, channels=channels, random=random), np.arange(96) % CLASSES
    found = looks(pixels, labels)["scenes"]
    assert found.fires
    assert found.accuracy is not None
    assert found.accuracy < (0.1 if takes == 1 else 0.29) < (found.reference or 0) < 1 / CLASSES
    assert "your clips may have groups that you did not name" in found.sentence
    assert len(found.pairs) == 4
    for one, other in found.pairs:
        assert one.class_name != other.class_name
        np.testing.assert_allclose(np.median(one.frame), np.median(other.frame), atol=20)
        assert int(one.name[:-4]) // size == int(other.name[:-4]) // size
    assert "scenes" not in looks(pixels, labels, group=np.arange(96) // size), "groups are named"


def test_independent_clips_have_no_scenes_more_often_than_the_level_says() -> None:
    fired = 0
    for world in range(100):
        random = np.random.default_rng(world)
        labels = random.integers(0, CLASSES, 30 + world // 2)
        # Some worlds have scenes of several clips, but their classes are drawn at random.
        places = random.normal(0, 100, (len(labels), 12)).repeat(1 + world % 3, axis=0)[: len(labels)]
        pictures = (places + random.normal(0, 1, places.shape)).astype(np.float32)
        fired += compare_neighbours(pictures, labels).p_value < LEVEL
    assert fired <= 6


@pytest.mark.usefixtures("working_directory")
@pytest.mark.parametrize("of", [1, 96])
def test_one_scene_for_each_class_or_for_all_is_no_group(of: int) -> None:
    random = np.random.default_rng(1)
    pixels = scenes(96, of=max(of, 96 // CLASSES), channels=1, random=random)
    found = looks(pixels, np.arange(96) // (96 // CLASSES))["scenes"]
    assert (found.fires, found.pairs) == (False, [])


@pytest.mark.usefixtures("working_directory")
def test_copies_in_different_parts_are_found_even_where_groups_are_named() -> None:
    random = np.random.default_rng(0)
    pixels = scenes(30, of=1, channels=3, random=random)
    assert not looks(pixels, np.arange(30) % CLASSES)["copies"].fires
    again = np.clip(pixels[[4, 6]] * 0.98 + random.normal(1, 2, pixels[:2].shape), 0, 255).astype(np.uint8)
    pixels[[8, 9]] = again  # 4 is to validate with and 8 to test with; 6 and 9 are to train with
    found = looks(pixels, np.arange(30) % CLASSES, group=np.arange(30) // 2)["copies"]
    assert found.fires
    assert found.sentence.startswith("1 pairs of clips of different parts look and move the same, such as 4.mp4 and 8")
    assert [[each.name for each in pair] for pair in found.pairs] == [["4.mp4", "8.mp4"]]


@pytest.mark.usefixtures("working_directory")
def test_missing_tables_are_one_line() -> None:
    write_part(TRAIN, clips())
    (TRAIN / "clips.csv").unlink()
    with pytest.raises(UserError, match=r"^data/train/clips.csv: missing; make the clips again"):
        audit([], {}, FOLDER.model_copy(update={"folds": 0}))


def test_clips_that_are_drawn_are_not_audited() -> None:
    found = compared(models(result(80), result(80)))
    assert found.audit == audit(found.controls, {}, DRAWN_DATASET) == []
