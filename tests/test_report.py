import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motionbench.data.splits import Split
from motionbench.errors import UserError
from motionbench.figures import confusions, contact_sheet
from motionbench.files import replaced_whole
from motionbench.report import verdict, write_reports
from motionbench.results import ModelResult, Search, Training, describe_model, read_training

HOSTILE = "<b>![x](http://127.0.0.1/y)|`"


def result(*correct: int, clips: int = 80) -> ModelResult:
    scores: Any = [
        {
            "correct": number,
            "clips": clips,
            "accuracy": number / clips,
            "classes": {HOSTILE: SCORES},
            "confusion": [[1]],
            "predicted": [0] * number + [1] * (clips - number),
        }
        for number in correct
    ]
    training = Training(13_039, [1] * len(correct), None, 1.0)  # type: ignore[arg-type] # the curves play no part
    return describe_model(training, scores, {"latency_milliseconds": 1.0, "clips_per_second": 2.0})


SPLIT = Split(np.zeros((80, 1, 1, 1, 1), dtype=np.uint8), np.zeros(80, dtype=np.int64), (HOSTILE,))
SCORES = {"precision": 1.0, "recall": 1.0, "f1": 1.0}


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        (result(80, 80), result(80, 80), "No difference shown: every replicate of both models"),
        (result(80, 79), result(80, 80), "No difference shown: accuracy cnn_lstm less convlstm -0.006"),
        (result(80, 80), result(40, 44), "cnn_lstm is better than convlstm: accuracy cnn_lstm less convlstm +0.475"),
        (result(40, 44), result(80, 80), "convlstm is better than cnn_lstm: accuracy cnn_lstm less convlstm -0.475"),
        (result(80, 40), result(20, 70), "No difference shown: accuracy cnn_lstm less convlstm +0.188"),
    ],
)
def test_the_verdict_claims_a_difference_only_where_it_is_shown(
    ours: ModelResult, theirs: ModelResult, said: str
) -> None:
    assert verdict({"cnn_lstm": ours, "convlstm": theirs}, SPLIT.labels).startswith(said)


def test_class_names_cannot_inject_html(tmp_path: Path) -> None:
    models = {"cnn_lstm": result(80), "convlstm": result(80)}
    models["convlstm"]["search"] = Search(
        study=HOSTILE, trials=1, number=0, validation_loss=0.1, promised=0.1, retrained=0.1
    )
    write_reports(tmp_path, models, SPLIT, {})
    for file in ("report.html", "report.md"):
        text = (tmp_path / file).read_text(encoding="utf-8")
        assert "&lt;b&gt;" in text
        assert "<b>" not in text, file
    assert not re.search(r"[^\\]\]\(http", text), "a picture from elsewhere"


def test_class_names_are_drawn_as_they_are(tmp_path: Path) -> None:
    matrices = {"cnn_lstm": [[1, 0], [0, 1]]}
    confusions(matrices, [HOSTILE, "$\\bad$"]).savefig(tmp_path / "confusion.png")
    clips, labels = np.zeros((1, 1, 8, 8, 1), dtype=np.uint8), np.zeros(1, dtype=np.int64)
    contact_sheet(Split(clips, labels, ("$\\bad$",))).savefig(tmp_path / "contact_sheet.png")


def test_damaged_results_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train again: dvc repro --force train_convlstm"):
        read_training("convlstm", tmp_path, tmp_path / "timing.json")


def test_outputs_are_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    folder, file = tmp_path / "models", tmp_path / "timing" / "model.json"
    for content in ("old", "new"):
        with replaced_whole(folder, file) as (new_folder, new_file):
            (new_folder / content).touch()
            new_file.write_text(content, encoding="utf-8")
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert file.read_text(encoding="utf-8") == "new"

    def write_half() -> None:
        with replaced_whole(folder, file) as (new_folder, _):
            (new_folder / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models", "timing"]
    assert [path.name for path in file.parent.iterdir()] == ["model.json"]
