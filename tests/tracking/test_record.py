from pathlib import Path

import numpy as np
import pytest

from motionbench.core.dvc_files import StageLock
from motionbench.core.errors import UserError
from motionbench.core.files import path_md5, read_json, write_json
from motionbench.core.paths import COMPARISON_METRICS, COMPARISON_TIMING, ReplicateKey, fold_path, stage_inputs_path
from motionbench.data.splits import read_source
from motionbench.tracking.record import Record, as_text, build_record, content_md5, pending, restored_record, spool
from motionbench.training.replicates import leave_untrained
from tests.tracking.conftest import FOLD_LOSSES, write_comparison_of

PARAMS = {"synthetic.seed": 0, "synthetic.jitter": 1.0}


def test_content_ignores_timings_and_the_type_of_whole_numbers() -> None:
    md5s = {
        "models/convlstm": "1",
        "metrics/training_timing/convlstm.json": "2",
        "metrics/inputs/train_convlstm.json": "2",
    }
    content = content_md5("train_convlstm", PARAMS, md5s)
    assert (
        content_md5(
            "train_convlstm", {"synthetic.seed": 0.0, "synthetic.jitter": 1}, {**md5s, [*md5s][1]: "3", [*md5s][2]: "3"}
        )
        == content
    )
    assert content_md5("train_convlstm", PARAMS, {**md5s, "models/convlstm": "3"}) != content
    assert content_md5("train_convlstm", {**PARAMS, "synthetic.seed": 1}, md5s) != content
    assert content_md5("train_cnn_lstm", PARAMS, md5s) != content


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
        (f"folds/{part}", path_md5(Path("data/folds", str(part))), (4 + part, 3, 2, 2, 3)) for part in range(3)
    ]
    assert {f"data.md5.{each.name}": each.md5 for each in record.datasets}.items() <= record.tags.items()


@pytest.mark.usefixtures("folded")
def test_trainings_on_other_clips_are_other_runs_even_if_their_outputs_are_equal() -> None:
    before = build_record("train_convlstm", PARAMS).content
    np.save(fold_path(1) / "labels.npy", np.zeros(5))
    assert build_record("train_convlstm", PARAMS).content != before


@pytest.mark.usefixtures("folded")
def test_record_has_each_replicate_of_each_fold() -> None:
    record = build_record("train_convlstm", PARAMS)
    assert [each.name for each in record.replicates] == [
        f"train_convlstm fold {fold} seed {seed}" for fold in range(3) for seed in (0, 4)
    ]
    for each, (key, losses) in zip(record.replicates, FOLD_LOSSES.items(), strict=True):
        assert each.key == key
        assert each.params == {"seed": str(key.seed), "fold": str(key.fold)}
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
    assert [each.key for each in record.replicates if each.model and each.model.best] == [ReplicateKey(seed=0, fold=0)]
    assert Record.model_validate_json(record.model_dump_json()) == record


@pytest.mark.parametrize(("clips", "folders"), [("generated", ["train", "test"]), ("folded", ["folds"])])
def test_champion_names_the_clips_that_the_comparison_used(
    clips: str, folders: list[str], request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(clips)
    write_comparison_of("convlstm", "an archive")
    used = {f"data.md5.{folder}": path_md5(Path("data", folder)) for folder in folders}
    for folder in folders:
        (Path("data", folder) / "later").write_text("what is here now is not what was used", encoding="utf-8")
    champion = build_record("compare", PARAMS).champion
    assert champion
    assert champion.facts == {"model": "convlstm", "source": read_source().source, **used}
    write_comparison_of(None, "")
    assert build_record("compare", PARAMS).champion is None


@pytest.mark.usefixtures("generated")
def test_the_verdict_is_the_description_of_the_comparisons_run() -> None:
    write_comparison_of("convlstm", "an archive")
    assert "mlflow.note.content" not in build_record("compare", PARAMS).tags, "an earlier version wrote no verdict"
    (COMPARISON_METRICS / "verdict.txt").write_text("a is better than b.\nNo evidence.\n", encoding="utf-8")
    timing = read_json(COMPARISON_TIMING)
    write_json(COMPARISON_TIMING, {**timing, "reason": "Champion: a."})
    tags = build_record("compare", PARAMS).tags
    assert tags["mlflow.note.content"] == "a is better than b.\n\nNo evidence.\n\nChampion: a."
    assert "mlflow.note.content" not in build_record("generate", PARAMS).tags


@pytest.mark.usefixtures("generated")
def test_record_of_a_model_that_is_switched_off_has_no_replicates() -> None:
    leave_untrained("cnn3d")
    write_json(stage_inputs_path("train_cnn3d"), {"params": {}, "md5s": {}})
    record = build_record("train_cnn3d", PARAMS)
    assert (record.replicates, record.metrics) == ([], {})
    assert [each.name for each in record.datasets] == ["train", "validation"]
    assert record.tags["md5.models/cnn3d"] == path_md5(Path("models/cnn3d"))
    assert "cores" in record.tags["environment"]


def test_missing_output_is_named(generated: Path) -> None:
    (generated / "data/test/class_names.json").unlink()
    (generated / "data/train/class_names.json").unlink()
    with pytest.raises(UserError, match=r"generate: an output is not readable .*: dvc repro --force generate"):
        build_record("generate", PARAMS)


def test_outputs_are_restored_only_as_dvc_lock_has_them(generated: Path) -> None:
    outs = {
        out: path_md5(Path(out))
        for out in ("data/train", "data/validation", "data/test", "data/folds", "reports/samples")
    }
    write_json(stage_inputs_path("generate"), {"params": PARAMS, "md5s": {}})
    outs["metrics/inputs/generate.json"] = path_md5(stage_inputs_path("generate"))
    entry = StageLock("generate", "a command", {}, outs, PARAMS)
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
    for number, started in (("one", 2), ("two", 1)):
        spool(record.model_copy(update={"id": number, "started": started}))
    for _ in range(2):  # Reading removes nothing.
        records, damaged = pending()
        assert [each.id for each in records] == ["two", "one"]
        assert damaged == {}
    assert records[0].content == record.content
    assert (records[0].folder / "reports/samples/a.gif").read_bytes() == b"GIF"


@pytest.mark.usefixtures("generated")
@pytest.mark.parametrize(
    "damage", ["cut off", "another version", "a lacking file", "a file that is cut off", "no record", "not UTF-8"]
)
def test_damaged_record_is_named_and_hides_no_other(damage: str) -> None:
    record = build_record("generate", PARAMS)
    for number in ("bad", "good"):
        spool(record.model_copy(update={"id": number}))
    folder = next(Path("mlruns/pending").glob("*-bad")).resolve()
    file = folder / "record.json"
    content = file.read_text(encoding="utf-8")
    if damage == "cut off":
        file.write_text(content[:-10], encoding="utf-8")
    elif damage == "another version":
        file.write_text(content.replace('"stage":', '"what later versions record": 1,\n  "stage":'), encoding="utf-8")
    elif damage == "a lacking file":
        (folder / "reports/samples/a.gif").unlink()
        (folder / "reports/samples").rmdir()
    elif damage == "a file that is cut off":
        (folder / "reports/samples/a.gif").write_bytes(b"GI")
    elif damage == "no record":
        file.unlink()
    else:
        file.write_bytes(b"\xff" + content.encode())
    records, damaged = pending()
    assert [each.id for each in records] == ["good"]
    assert [*damaged] == [folder]
    assert damaged[folder].startswith("damaged, or of another version of this project (")
