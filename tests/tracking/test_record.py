from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from motionbench.core.dvc_files import StageLock
from motionbench.core.errors import UserError
from motionbench.core.files import path_md5, read_json, write_json
from motionbench.core.paths import COMPARISON_REPORT, COMPARISON_TIMING, ReplicateKey, part_path, stage_inputs_path
from motionbench.data.splits import read_dataset_info
from motionbench.tracking.description import COLOURS
from motionbench.tracking.from_files import as_text, build_record, restored_record
from motionbench.tracking.record import Record, pending, read_spooled, spool
from motionbench.training.replicates import leave_untrained
from tests.tracking.conftest import FOLD_LOSSES, write_comparison_of

PARAMS = {"synthetic.seed": 0, "synthetic.jitter": 1.0}


def content(params: Mapping[str, float] = PARAMS, stage: str = "train_convlstm") -> str:
    return build_record(stage, params).content


@pytest.mark.usefixtures("folded")
def test_content_is_that_of_stage_parameters_clips_and_results() -> None:
    before = content()
    write_json(stage_inputs_path("train_convlstm"), {"params": {}, "md5s": {"src": "other code"}})
    timing = Path("metrics/training_timing/convlstm.json")
    timing.write_text(f"{timing.read_text(encoding='utf-8')}\n", encoding="utf-8")
    assert content({"synthetic.seed": 0.0, "synthetic.jitter": 1}) == before, "timings, and the type of whole numbers"
    assert content({**PARAMS, "synthetic.seed": 1}) != before
    assert content(stage="generate") != before
    np.save(part_path(1) / "clips.npy", np.load(part_path(1) / "clips.npy") + 1)
    other_clips = content()
    assert other_clips != before
    Path("models/convlstm/fold-0-seed-0.keras").write_text("another model", encoding="utf-8")
    assert content() != other_clips


def test_parameters_read_the_same_from_both_files() -> None:
    assert as_text({"a": [1, 2], "b": 0.5}) == as_text({"a": (1, 2), "b": 0.5}) == {"a": "(1, 2)", "b": "0.5"}


@pytest.mark.usefixtures("generated")
def test_record_names_the_content_of_all_outputs() -> None:
    record = build_record("generate", PARAMS)
    md5s = {name: path_md5(Path("data", name)) for name in ("train", "validation", "test")}
    assert {dataset.name: dataset.md5 for dataset in record.datasets} == md5s
    assert {dataset.shape for dataset in record.datasets} == {(4, 3, 2, 2, 1)}
    for name, md5 in md5s.items():
        assert record.tags[f"data.md5.{name}"] == record.tags[f"md5.data/{name}"] == md5
    assert record.tags[f"file.{path_md5(Path('reports/samples/a.gif'))}"] == "reports/samples/a.gif"
    assert record.artifacts == [stage_inputs_path("generate"), Path("reports/samples")]
    assert record.params == {"synthetic.seed": "0", "synthetic.jitter": "1.0"}


@pytest.mark.usefixtures("folded")
@pytest.mark.parametrize("stage", ["generate", "train_convlstm"])
def test_record_names_the_parts_of_folds_instead_of_empty_splits(stage: str) -> None:
    record = build_record(stage, PARAMS)
    assert [(each.name, each.md5, each.shape) for each in record.datasets] == [
        (f"folds/{part}", path_md5(part_path(part)), (4 + part, 3, 2, 2, 3)) for part in range(3)
    ]
    assert {f"data.md5.{each.name}": each.md5 for each in record.datasets}.items() <= record.tags.items()


@pytest.mark.usefixtures("folded")
def test_record_has_each_replicate_of_each_fold() -> None:
    record = build_record("train_convlstm", PARAMS)
    for each, (key, losses) in zip(record.replicates, FOLD_LOSSES.items(), strict=True):
        assert each.name == f"train_convlstm fold {key.fold} seed {key.seed}"
        assert each.params == {**record.params, "model": "convlstm", "seed": str(key.seed), "fold": str(key.fold)}
        assert each.tags["mlflow.runColor"] == COLOURS[1]
        assert each.tags["mlflow.note.content"].startswith(f"convlstm, {key}: one network of this contender, which")
        assert [(point["epoch"], point["validation_loss"]) for point in each.curves] == list(enumerate(losses, start=1))
        assert {*each.curves[0]} == {"epoch", "loss", "accuracy", "validation_loss", "validation_accuracy"}
        assert each.metrics["best_validation_loss"] == min(losses)
        assert each.metrics["training_seconds"] == len(losses)
        assert not {"best_fold", "best_seed"} & each.metrics.keys()
        assert each.model
        assert each.model.path == Path(f"models/convlstm/fold-{key.fold}-seed-{key.seed}.keras")
        assert each.model.md5 == path_md5(each.model.path)
        assert (each.model.clip_shape, each.model.class_names) == ((3, 2, 2, 3), ("bow", "wave"))
        assert (each.model.resize, each.model.seconds) == ("crop", 1.5)
        assert each.model.best == (key == ReplicateKey(seed=0, fold=0))
    assert Record.model_validate_json(record.model_dump_json()) == record


@pytest.mark.parametrize(("clips", "folders"), [("generated", ["train", "test"]), ("folded", ["folds"])])
def test_comparison_names_its_verdict_and_the_clips_that_its_champion_was_made_from(
    clips: str, folders: list[str], request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(clips)
    write_comparison_of("convlstm", "an archive")
    used = {f"data.md5.{folder}": path_md5(Path("data", folder)) for folder in folders}
    for folder in folders:
        (Path("data", folder) / "later").write_text("what is here now is not what was used", encoding="utf-8")
    (COMPARISON_REPORT / "cost.png").write_text("a picture", encoding="utf-8")
    params = {"gate.margin": 0.02, "data.source": "synthetic"}
    record = build_record("compare", params)
    assert record.tags["mlflow.note.content"] == (
        "Compares the models by their predictions, and chooses the champion.\n\na is better than b.\n\nNo evidence.\n\n"
        "Champion: a.\n\nPictures, among the artifacts: `reports/comparison` (cost.png)\n\n"
        "To repeat it: `dvc repro --single-item --force compare`"
    )
    gate = {"gate.margin": "0.02", "gate.passed": "true"}
    assert record.model
    assert record.model.facts == {"model": "convlstm", "source": read_dataset_info().source, **gate, **used}
    assert record.challenger is None, "an earlier version of this project chose none"
    write_comparison_of(None, "")
    challenged = {"challenger": "models/convlstm/seed-0.keras", "challenger_fault": "latency is 2 ms, above 1"}
    write_json(COMPARISON_TIMING, read_json(COMPARISON_TIMING) | challenged)
    record = build_record("compare", params)
    assert record.model is None
    assert record.challenger
    assert {"model": "convlstm", "gate.passed": "false"}.items() <= record.challenger.facts.items()
    assert record.challenger.description.endswith("It fails the gate: latency is 2 ms, above 1.")


@pytest.mark.usefixtures("generated")
def test_a_champion_has_the_backbone_that_made_its_features_and_no_other() -> None:
    write_comparison_of("pretrained_linear", "an archive")
    archive = Path("data/backbone/own.keras")
    archive.parent.mkdir()
    archive.write_text("a backbone", encoding="utf-8")
    used = {"backbone.path": str(archive.parent), "backbone.side": 64, "backbone.grid": 2}
    md5s = {str(archive.parent): path_md5(archive.parent)}
    write_json(stage_inputs_path("embed"), {"params": used, "md5s": md5s})
    model = build_record("compare", PARAMS).model
    assert model
    assert (model.backbone, model.backbone_md5, model.side) == (archive, path_md5(archive), 64)
    archive.write_text("another backbone", encoding="utf-8")
    with pytest.raises(UserError, match=r"^data/backbone: not the backbone that made the features; put that one back"):
        build_record("compare", PARAMS)


@pytest.mark.usefixtures("generated")
def test_record_of_a_model_that_is_switched_off_has_no_replicates() -> None:
    leave_untrained("cnn3d")
    write_json(stage_inputs_path("train_cnn3d"), {"params": {}, "md5s": {}})
    record = build_record("train_cnn3d", PARAMS)
    assert (record.replicates, record.metrics) == ([], {})
    assert [each.name for each in record.datasets] == ["train", "validation"]
    assert record.tags["md5.models/cnn3d"] == path_md5(Path("models/cnn3d"))
    assert "cores" in record.tags["environment"]
    assert "Pictures" not in record.tags["mlflow.note.content"]


def test_missing_output_is_named(generated: Path) -> None:
    (generated / "data/train/class_names.json").unlink()
    with pytest.raises(UserError, match=r"data/train/class_names.json: missing; .*: dvc repro --force generate"):
        build_record("generate", PARAMS)


def test_outputs_are_restored_only_as_dvc_lock_has_them(generated: Path) -> None:
    outs = [*(f"data/{name}" for name in ("train", "validation", "test", "folds")), "reports/samples"]
    write_json(stage_inputs_path("generate"), {"params": PARAMS, "md5s": {}})
    outs.append(stage_inputs_path("generate").as_posix())
    entry = StageLock("generate", "a command", {}, {out: path_md5(Path(out)) for out in outs}, PARAMS)
    record = restored_record(entry, "a commit")
    with pytest.raises(UserError, match=r"dvc\.lock: generate: data\.source: other is recorded, but"):
        restored_record(entry._replace(params={**PARAMS, "data.source": "other"}), None)
    assert record.content == build_record("generate", PARAMS).content
    assert record.id == ""
    assert record.tags["mlflow.source.git.commit"] == "a commit"
    (generated / "reports/samples/a.gif").write_bytes(b"another")
    with pytest.raises(UserError, match=r"reports/samples differs from dvc\.lock"):
        restored_record(entry, None)
    (generated / "reports/samples").rename(generated / "elsewhere")
    with pytest.raises(UserError, match="reports/samples is missing; get it: dvc pull"):
        restored_record(entry, None)


@pytest.mark.usefixtures("generated")
def test_spooled_records_come_back_oldest_first() -> None:
    record = build_record("generate", PARAMS)
    for number, started, name in (("one", 2, "a"), ("two", 1, "b"), ("three", 3, "a")):
        spool(record.model_copy(update={"id": number, "started": 1_790_000_000_000 + started, "name": name}))
    assert [read_spooled(folder).id for folder in pending()] == ["two", "one", "three"]


@pytest.mark.usefixtures("generated")
def test_spooled_record_comes_back_unless_it_is_damaged() -> None:
    record = build_record("generate", PARAMS).model_copy(update={"id": "1"})
    spool(record)
    [folder] = pending()
    again = read_spooled(folder)
    assert again == record.model_copy(update={"folder": folder})
    assert (folder / "reports/samples/a.gif").read_bytes() == b"GIF"
    file = folder / "record.json"
    content = file.read_bytes()
    newer = content.replace(b'"name":', b'"what later versions record": 1, "name":', 1)
    for damaged in (content[:-10], newer, b"\xff" + content, None):
        file.unlink()
        if damaged:
            file.write_bytes(damaged)
        with pytest.raises(UserError, match=r"^damaged, or of another version of this project \("):
            read_spooled(folder)
    file.write_bytes(content)
    (folder / "reports/samples/a.gif").write_bytes(b"GI")
    with pytest.raises(UserError, match="reports/samples is not as it was written"):
        read_spooled(folder)
