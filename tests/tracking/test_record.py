from collections.abc import Iterator
from pathlib import Path

import pytest

from motionbench.core.dvc_files import StageLock
from motionbench.core.errors import UserError
from motionbench.core.files import path_md5
from motionbench.tracking.record import Record, as_text, build_record, content_md5, pending, restored_record, spool

PARAMS = {"synthetic.seed": 0, "synthetic.jitter": 1.0}


def test_content_ignores_timings_and_the_type_of_whole_numbers() -> None:
    md5s = {"models/convlstm": "1", "metrics/training_timing/convlstm.json": "2"}
    content = content_md5("train_convlstm", PARAMS, md5s)
    assert (
        content_md5("train_convlstm", {"synthetic.seed": 0.0, "synthetic.jitter": 1}, {**md5s, [*md5s][1]: "3"})
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
    assert record.tags["md5.reports/samples/a.gif"] == path_md5(Path("reports/samples/a.gif"))
    assert record.artifacts == [Path("reports/samples")]
    assert record.params == {"synthetic.seed": "0", "synthetic.jitter": "1.0"}


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
    entry = StageLock("generate", "a command", {}, outs, PARAMS)
    record = restored_record(entry, "a commit")
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
def test_spooled_records_come_back_oldest_first_until_logged() -> None:
    record = build_record("generate", PARAMS)
    for number, started in (("one", 2), ("two", 1)):
        spool(record.model_copy(update={"id": number, "started": started}))
    first = next(pending())  # and no more, as when the store fails
    assert (first.id, first.content) == ("two", record.content)
    assert (first.folder / "reports/samples/a.gif").read_bytes() == b"GIF"
    assert ids(pending()) == ["two", "one"]
    assert ids(pending()) == []


def ids(records: Iterator[Record]) -> list[str]:
    return [record.id for record in records]
