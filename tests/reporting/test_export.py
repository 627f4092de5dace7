import re
import shutil
from pathlib import Path

import onnx
import pytest

from motionbench.core.errors import UserError
from motionbench.core.files import file_md5, write_json
from motionbench.core.paths import COMPARISON_METRICS, COMPARISON_TIMING, MODELS, ONNX, onnx_path, stage_inputs_path
from motionbench.models.onnx_runtime import read_onnx, with_metadata
from motionbench.reporting.export import chosen_archive, export_model, write_card
from tests.conftest import ROOT, run

pytestmark = pytest.mark.usefixtures("working_directory")
SAID = {
    "class_names": '["wave", "bow"]', "clip_shape": "[16, 64, 48, 3]", "resize": "crop", "source": "folder",
    "seconds": "1.25", "md5": "12ab", "commit": "34cd", "data.md5.folds": "56ef",
}  # fmt: skip # what belongs together on one line


def test_an_onnx_file_counts_with_its_archive_alone(tmp_path: Path) -> None:
    archive = MODELS / "convlstm/seed-0.keras"
    file, refused = onnx_path(ONNX, archive), "missing, damaged or of another archive; write it: dvc repro"
    for path in (archive, file):
        path.parent.mkdir(parents=True)
    archive.write_text("weights", encoding="utf-8")
    assert read_onnx(archive) is None
    with pytest.raises(UserError, match=f"^{re.escape(str(file))}: {refused}"):
        export_model(tmp_path, archive)
    empty = onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], []))
    file.write_bytes(content := with_metadata(empty.SerializeToString(), {"md5": file_md5(archive)}))
    assert read_onnx(archive) == content
    file.write_bytes(b"half a file")
    assert read_onnx(archive) is None
    file.write_bytes(content)
    archive.write_text("other weights", encoding="utf-8")
    assert read_onnx(archive) is None
    with pytest.raises(UserError, match=refused):
        export_model(tmp_path, archive)
    archive.unlink()
    assert read_onnx(archive) is None


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
    COMPARISON_TIMING.write_text("<<<<<<< HEAD\n", encoding="utf-8")
    damaged = r"^metrics/comparison_timing\.json: not readable \(JSONDecodeError\); make it again: make repro$"
    with pytest.raises(UserError, match=damaged):
        chosen_archive("")


def test_the_card_says_what_goes_in_the_verdict_and_whose_the_backbone_is() -> None:
    COMPARISON_METRICS.mkdir(parents=True)
    write_json(COMPARISON_TIMING, {"reason": "Champion: convlstm."})
    figures = {"accuracy": 0.875, "low": 0.75, "high": 0.9375}
    write_json(COMPARISON_METRICS / "summary.json", dict.fromkeys(("convlstm", "pretrained_lstm"), figures))
    (COMPARISON_METRICS / "verdict.txt").write_text("Nothing is shown.\n", encoding="utf-8")
    (COMPARISON_METRICS / "replicates.csv").write_text("md5\n12ab\n", encoding="utf-8")
    card = write_card(MODELS / "convlstm/seed-0.keras", SAID)
    assert "shape (clips, 16, 64, 48, 3): 16 RGB frames at equal distances, cut to 48x64 pixels" in card
    assert "source is `folder`, median duration 1.2 s, of the classes wave, bow. md5 of the clips: folds 56ef." in card
    assert "Accuracy 0.875, 95 % interval 0.750 to 0.938.\n\nNothing is shown.\n\nChampion: convlstm.\n" in card
    assert "backbone" not in card
    assert "## Licence of the backbone\n" in write_card(MODELS / "pretrained_lstm/seed-0.keras", SAID)


def test_the_card_of_a_model_that_was_not_compared_has_no_verdict() -> None:
    none = "## Verdict\n\nNone: no comparison of this archive is there. `make repro` makes one.\n\n## Limits"
    assert none in write_card(MODELS / "convlstm/seed-0.keras", SAID)
    COMPARISON_METRICS.mkdir(parents=True)
    (COMPARISON_METRICS / "replicates.csv").write_text("md5\n78ab\n", encoding="utf-8")
    assert none in write_card(MODELS / "convlstm/seed-0.keras", SAID)


def test_the_clips_are_those_that_the_model_was_trained_on(working_directory: Path) -> None:
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, working_directory)
    run(working_directory, "git", "init", "-q")
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.org")
    assert run(working_directory, "git", *identity, "commit", "-q", "--allow-empty", "-m", "start").returncode == 0
    archive, inputs = MODELS / "convlstm/seed-0.keras", stage_inputs_path("train_convlstm")
    for path in (archive, onnx_path(ONNX, archive), inputs):
        path.parent.mkdir(parents=True)
    archive.write_text("weights", encoding="utf-8")
    onnx_path(ONNX, archive).write_bytes(with_metadata(b"", {**SAID, "md5": file_md5(archive)}))
    write_json(inputs, {"md5s": {"data/train": "12cd", "src/motionbench/core": "34ef"}})
    lock = "schema: '2.0'\nstages: {generate: {cmd: a, outs: [{path: data/train, hash: md5, md5: 56ab}]}}\n"
    Path("dvc.lock").write_text(lock, encoding="utf-8")  # of clips that were made since
    export_model(working_directory, archive)
    assert "md5 of the clips: folds 56ef, train 12cd. Archive" in Path("README.md").read_text(encoding="utf-8")
