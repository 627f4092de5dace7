import re
from pathlib import Path

import onnx
import pytest

from motionbench.core.errors import UserError
from motionbench.core.files import file_md5, write_json
from motionbench.core.paths import COMPARISON_METRICS, COMPARISON_TIMING, MODELS, ONNX, onnx_path
from motionbench.models.onnx_runtime import read_onnx, with_metadata
from motionbench.reporting.export import chosen_archive, export_model, write_card

pytestmark = pytest.mark.usefixtures("working_directory")
SAID = {
    "class_names": '["wave", "bow"]', "clip_shape": "[16, 64, 48, 3]", "resize": "crop", "source": "folder",
    "seconds": "1.25", "md5": "12ab", "commit": "34cd", "data.md5.folds": "56ef",
}  # fmt: skip # what belongs together on one line


def test_an_onnx_file_counts_with_its_archive_alone(tmp_path: Path) -> None:
    archive = MODELS / "convlstm/seed-0.keras"
    file, refused = onnx_path(ONNX, archive), "missing, or of another model than is there now; write it: dvc repro"
    for path in (archive, file):
        path.parent.mkdir(parents=True)
    archive.write_text("weights", encoding="utf-8")
    assert read_onnx(archive) is None
    with pytest.raises(UserError, match=f"^{re.escape(str(file))}: {refused}"):
        export_model(tmp_path, archive)
    empty = onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], []))
    file.write_bytes(content := with_metadata(empty.SerializeToString(), {"md5": file_md5(archive)}))
    assert read_onnx(archive) == content
    archive.write_text("other weights", encoding="utf-8")
    assert read_onnx(archive) is None
    with pytest.raises(UserError, match=refused):
        export_model(tmp_path, archive)


def test_what_cannot_be_exported_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"^MODEL: lstm: no such model; there are cnn_lstm, "):
        chosen_archive("lstm")
    refused = r"^the comparison here has no champion; name a model: make export MODEL=cnn_lstm$"
    with pytest.raises(UserError, match=refused):
        chosen_archive("")
    COMPARISON_TIMING.parent.mkdir()
    write_json(COMPARISON_TIMING, {"champion": None})
    with pytest.raises(UserError, match=refused):
        chosen_archive("")


def test_the_card_says_what_goes_in_the_verdict_and_whose_the_backbone_is() -> None:
    COMPARISON_METRICS.mkdir(parents=True)
    write_json(COMPARISON_TIMING, {"reason": "Champion: convlstm."})
    figures = {"accuracy": 0.875, "low": 0.75, "high": 0.9375}
    write_json(COMPARISON_METRICS / "summary.json", dict.fromkeys(("convlstm", "pretrained_lstm"), figures))
    (COMPARISON_METRICS / "verdict.txt").write_text("Nothing is shown.\n", encoding="utf-8")
    card = write_card(MODELS / "convlstm/seed-0.keras", SAID)
    assert "shape (clips, 16, 64, 48, 3): 16 RGB frames at equal distances, cut to 48x64 pixels" in card
    assert "source is `folder`, median duration 1.2 s, of the classes wave, bow. md5 of the clips: folds 56ef." in card
    assert "Accuracy 0.875, 95 % interval 0.750 to 0.938.\n\nNothing is shown.\n\nChampion: convlstm.\n" in card
    assert "backbone" not in card
    assert "## Licence of the backbone\n" in write_card(MODELS / "pretrained_lstm/seed-0.keras", SAID)
