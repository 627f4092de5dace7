import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motionbench.comparison.notes import Search, clip_notes, read_applied_search, search_notes
from motionbench.core.errors import UserError
from motionbench.core.files import write_json
from motionbench.core.paths import APPLIED_SEARCHES
from tests.comparison.made_up import GROUPS, THREE, models, predictions, result, training
from tests.conftest import DRAWN_DATASET

PLAIN = predictions(models(result(80, 80), result(80, 80)))
APPLIED = {
    "study": "first",
    "trials": 40,
    "number": 7,
    "validation_loss": 0.05,
    "curve": [0.5, 0.9, 0.4, 0.1],
    "section": {"epochs": 40},
}


@pytest.fixture
def applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the searches' file in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    APPLIED_SEARCHES.parent.mkdir(parents=True)
    return APPLIED_SEARCHES


def test_losses_of_a_search_are_compared_at_equal_epochs(applied: Path) -> None:
    write_json(applied, {"cnn_lstm": APPLIED})
    # The search trained for 4 epochs, the replicates for 3, 2 and 5.
    trained = training([0.5, 0.3, 0.4], [0.6, 0.2], [0.7, 0.6, 0.5, 0.45, 0.01])
    search = read_applied_search("cnn_lstm", trained)
    assert search == {
        "study": "first",
        "trials": 40,
        "number": 7,
        "validation_loss": 0.05,
        "search_loss": pytest.approx((0.4 + 0.5 + 0.1) / 3),
        "retrained_loss": pytest.approx((0.3 + 0.2 + 0.45) / 3),
    }


def test_each_fold_of_a_seed_is_compared_on_its_own(applied: Path) -> None:
    write_json(applied, {"cnn_lstm": APPLIED})
    trained = training([0.5, 0.3, 0.4], [0.6, 0.2])
    trained.history["fold"] = trained.history.pop("seed")
    trained.history["seed"] = 0
    search = read_applied_search("cnn_lstm", trained)
    assert search
    assert search["search_loss"] == pytest.approx((0.4 + 0.5) / 2)
    assert search["retrained_loss"] == pytest.approx((0.3 + 0.2) / 2)


@pytest.mark.parametrize("content", [{}, {"convlstm": APPLIED}, {"cnn_lstm": APPLIED | {"section": {"epochs": 41}}}])
def test_parameters_that_no_search_found_have_no_search(content: Any, applied: Path) -> None:
    write_json(applied, content)
    assert read_applied_search("cnn_lstm", training([0.1])) is None


@pytest.mark.parametrize(
    "content",
    [None, "", "{", "[]", '{"cnn_lstm": {}}', '{"cnn_lstm": 1}', json.dumps({"cnn_lstm": APPLIED | {"curve": []}})],
)
def test_a_damaged_file_of_searches_is_refused_in_one_line(content: str | None, applied: Path) -> None:
    if content is not None:
        applied.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match="write it again: make tune-apply MODEL=cnn_lstm") as refused:
        read_applied_search("cnn_lstm", training([0.1]))
    assert str(refused.value).startswith(str(applied))
    assert str(refused.value).isprintable()


SEARCH = Search(study="s", trials=40, number=7, validation_loss=0.1, search_loss=0.1, retrained_loss=0.2)
NONE: dict[str, Search | None] = {"cnn_lstm": None, "convlstm": None}
ONE, BOTH = NONE | {"cnn_lstm": SEARCH}, dict.fromkeys(NONE, SEARCH)


def test_the_effort_of_tuning_is_told() -> None:
    assert search_notes(NONE, 0) == [
        "Both models had the same effort of tuning: the parameters of neither come from a search."
    ]
    assert search_notes(BOTH, 0)[0].startswith("The models had the same effort of tuning")
    unequal, gap = search_notes(ONE, 0)
    assert unequal == "The models had not the same effort of tuning: cnn_lstm 40 trials and convlstm 0 trials."
    assert gap.startswith("The parameters of cnn_lstm are those of trial 7 of study s, the best of 40, with")
    assert "an optimism gap of +0.1000 nats" in gap
    [note] = search_notes(dict.fromkeys(THREE), 0)
    assert note == "All 3 models had the same effort of tuning: the parameters of none come from a search."
    efforts, *_ = search_notes({"cnn_lstm": SEARCH, "convlstm": None, "cnn3d": SEARCH}, 0)
    assert efforts.endswith(
        "not the same effort of tuning: cnn_lstm 40 trials and convlstm 0 trials and cnn3d 40 trials."
    )


def test_a_search_in_folds_has_seen_clips_of_the_others() -> None:
    seen = (
        "A search trains and validates on fold 0 alone. It has not seen the clips on which fold 0 is tested, but those "
        "of the other 4 folds, so that the accuracy over all folds may be too high."
    )
    assert search_notes(ONE, 5) == [*search_notes(ONE, 0), seen]
    assert search_notes(NONE, 5) == search_notes(NONE, 0), "no search, no note"


def test_folds_bad_files_and_warnings_are_told() -> None:
    assert clip_notes(DRAWN_DATASET, PLAIN) == []
    warnings = ["a.mp4: one frame only, so that nothing moves", "b.mp4: the frame rate varies"]
    skipped = {"bow/c.mp4": "no such file", "d.mp4": "no label"}
    changes = {"source": "folder", "folds": 5, "warnings": warnings, "skipped": skipped}
    assert clip_notes(DRAWN_DATASET.model_copy(update=changes), PLAIN) == [
        "Cross-validation over 5 folds: each clip is tested once per seed, by a replicate that has seen neither the "
        "clip nor another one of its group.",
        "Left out, since folder.on_bad is skip: bow/c.mp4 (no such file); d.mp4 (no label).",
        "Warning: a.mp4: one frame only, so that nothing moves.",
        "Warning: b.mp4: the frame rate varies.",
    ]


def test_it_is_told_what_counts_where_clips_are_in_groups() -> None:
    [note] = clip_notes(DRAWN_DATASET, PLAIN._replace(groups=GROUPS))
    assert note.startswith("The 80 test clips are in 10 groups of 8, and clips of a group are alike: ")
    assert "intervals and tests count whole groups. If one model errs on whole groups, and another" in note
    [note] = clip_notes(DRAWN_DATASET, PLAIN._replace(groups=np.arange(80) % 33))
    assert note.startswith("The 80 test clips are in 33 groups of 2 to 3, and")
    [note] = clip_notes(DRAWN_DATASET, PLAIN._replace(groups=np.zeros(80)))
    assert note.startswith("The 80 test clips are in 1 group of 80, and")
    assert " With fewer than 6 groups no difference can be shown. " in note


def test_it_is_told_that_groups_of_unequal_sizes_count_as_fewer() -> None:
    [note] = clip_notes(DRAWN_DATASET, PLAIN._replace(groups=np.repeat(np.arange(7), [50, 5, 5, 5, 5, 5, 5])))
    assert " Their sizes are so unequal that they count as 2.4 groups of one size: " in note


def test_it_is_told_what_one_seed_does_not_show() -> None:
    [note] = clip_notes(DRAWN_DATASET, PLAIN._replace(seeds=(0,)))
    assert note.startswith("One seed shows nothing of how much seeds differ: differences are those of these networks")
