from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest

from motionbench.core.errors import UserError
from motionbench.core.files import file_md5, write_json
from motionbench.core.paths import COMPARISON_TIMING
from motionbench.tracking.champion import (
    list_versions,
    load_champion,
    old_champion,
    promote,
    use_version,
    version_in_use,
)
from motionbench.tracking.model_registry import log_model
from motionbench.tracking.record import REGISTERED, ModelRecord
from motionbench.tracking.serving import describe_classes, describe_model
from motionbench.tracking.store import open_store


@pytest.mark.usefixtures("runs")
def test_missing_champion_is_named_with_what_makes_one() -> None:
    with pytest.raises(
        UserError, match=r"no champion in MLflow's store sqlite:.*: make repro; .*: make promote; .*: make mlflow-sync"
    ):
        load_champion()


def archive(folder: Path, content: str) -> ModelRecord:
    path = folder / "seed-0.keras"
    folder.mkdir()
    path.write_text(content, encoding="utf-8")
    return ModelRecord(
        name=REGISTERED, path=path, md5=file_md5(path), clip_shape=(1, 2, 2, 1), class_names=("a", "b"), best=True
    )


@pytest.mark.usefixtures("runs")
def test_a_run_can_have_two_champions_one_after_the_other(working_directory: Path) -> None:
    # Where no difference is shown, measured times choose: two runs with the same results may choose differently.
    experiment_id = open_store()
    run_id = mlflow.MlflowClient().create_run(experiment_id).info.run_id
    one, other = archive(working_directory / "one", "one"), archive(working_directory / "other", "the other")
    for model, missing in (
        (one, [f"model {one.path}", "version of motionbench"]),
        (other, [f"model {other.path}", "version of motionbench"]),
        (one, []),
    ):
        assert log_model(run_id, model, Path(), {}) == missing
        promote(model, Path(), "")
        used = version_in_use()
        assert used
        assert used.tags["md5"] == model.md5
    names = [each.name for each in mlflow.MlflowClient().search_logged_models([experiment_id])]
    assert names == ["motionbench seed-0"] * 2
    for version, content in (("1", "one"), ("2", "the other")):
        folder = Path(mlflow.artifacts.download_artifacts(f"models:/{REGISTERED}/{version}"))
        assert (folder / "data/seed-0.keras").read_text(encoding="utf-8") == content


def compared(model: ModelRecord, day: int, commit: str = "abcdef0123") -> None:
    """Log a champion that a comparison of this day has chosen, and promote it."""
    experiment_id = open_store()
    run_id = mlflow.MlflowClient().create_run(experiment_id).info.run_id
    started = f"2026-01-{day:02}T10:00:00.000+00:00"
    log_model(run_id, model, Path(), {"commit": commit, "git.dirty": "false", "started": started})
    promote(model, Path(), started)


def number_in_use() -> int | None:
    used = version_in_use()
    return int(used.version) if used else None


@pytest.mark.usefixtures("runs")
def test_the_alias_moves_forward_in_time_of_the_comparison(
    working_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = archive(working_directory / "one", "one"), archive(working_directory / "other", "the other")
    compared(one, 2)
    compared(other, 4)
    assert number_in_use() == 2
    assert capsys.readouterr().out == ""
    compared(one, 3, "9999999999")  # It started earlier and ended later.
    assert number_in_use() == 2
    assert capsys.readouterr().out == (
        "version 1 of motionbench (unknown model; trained on unknown clips: a, b; logged at commit 99999999; 2026-01-03"
        " 10:00:00 UTC) is not in use: version 2 of motionbench (unknown model; trained on unknown clips: a, b; logged"
        " at commit abcdef01; 2026-01-04 10:00:00 UTC) is of a later comparison; to use it: make promote VERSION=1\n"
    )
    assert old_champion("2026-01-03T10:00:00.000+00:00", None) == [
        "The champion in use is still version 2 of motionbench (unknown model; trained on unknown clips: a, b; logged "
        "at commit abcdef01; 2026-01-04 10:00:00 UTC), which is of a later comparison; to use another: make promote."
    ]
    assert old_champion("2026-01-05T10:00:00.000+00:00", None) == []
    compared(one, 6)
    compared(one, 5)
    compared(other, 5)
    assert number_in_use() == 1, "an archive that is chosen again has the time of that comparison"


@pytest.mark.usefixtures("runs")
def test_a_version_without_a_time_gives_way(working_directory: Path) -> None:
    one, other = archive(working_directory / "one", "one"), archive(working_directory / "other", "the other")
    experiment_id = open_store()
    run_id = mlflow.MlflowClient().create_run(experiment_id).info.run_id
    log_model(run_id, one, Path(), {})
    use_version("1")
    compared(other, 1)
    assert number_in_use() == 2


@pytest.mark.usefixtures("runs")
def test_a_version_is_put_in_use_by_its_number_whatever_its_time(working_directory: Path) -> None:
    with pytest.raises(UserError, match=r"no version of motionbench in MLflow's store sqlite:.*: make mlflow-sync$"):
        list_versions()
    compared(archive(working_directory / "one", "one"), 1)
    compared(archive(working_directory / "other", "the other"), 2)
    described = "unknown model; trained on unknown clips: a, b; logged at commit abcdef01; 2026-01-01 10:00:00 UTC"
    assert use_version("1") == f"in use: version 1 of motionbench ({described})"
    assert number_in_use() == 1
    for wrong in ("3", "x"):
        with pytest.raises(UserError, match=f"^VERSION: {wrong}: motionbench has no such version; list them: make"):
            use_version(wrong)
    assert list_versions() == [
        f"version 2 of motionbench ({described.replace('01-01', '01-02')})",
        f"version 1 of motionbench ({described}) IN USE",
    ]
    assert number_in_use() == 1
    compared(archive(working_directory / "third", "a third"), 3)
    assert number_in_use() == 3


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("made_from", "said"),
    [
        ({"data.md5.train": "1", "data.md5.test": "2"}, "the same clips."),
        ({"data.md5.train": "1", "data.md5.test": "3"}, "OTHER clips."),
        ({"data.md5.folds": "1"}, "OTHER clips."),
        ({}, "clips that are not recorded."),
    ],
)
def test_the_old_champion_is_named_with_what_it_was_made_from(
    made_from: dict[str, str], said: str, working_directory: Path
) -> None:
    open_store()
    data = {"data.md5.train": "1", "data.md5.test": "2"}
    assert old_champion("", data) == ["No champion is in use."]
    facts = {"model": "convlstm", "source": "folder", **made_from}
    compared(archive(working_directory / "one", "one").model_copy(update={"facts": facts}), 1)
    [sentence] = old_champion("", data)
    assert sentence == (
        "The champion in use is still version 1 of motionbench (convlstm; trained on folder clips: a, b; logged at "
        f"commit abcdef01; 2026-01-01 10:00:00 UTC), which was made from {said}"
    )


def test_a_sentence_names_the_first_of_many_classes() -> None:
    assert describe_classes([str(number) for number in range(101)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 91 more"
    assert describe_model({}) == "unknown model; trained on unknown clips"
    assert describe_model({"commit": "unknown", "git.dirty": "true"}).endswith(
        "; logged at commit unknown with uncommitted changes"
    )


@pytest.mark.usefixtures("runs")
def test_another_champion_than_the_comparison_here_has_chosen_is_named(
    working_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = archive(working_directory / "one", "one"), archive(working_directory / "other", "the other")
    compared(one, 1)
    facts = SimpleNamespace(metadata={"clip_shape": (4, 2, 2, 1), "class_names": ["a", "b"]})
    monkeypatch.setattr(mlflow.pyfunc, "load_model", lambda _: SimpleNamespace(metadata=facts))
    COMPARISON_TIMING.parent.mkdir(exist_ok=True)
    for chosen, said in ((one, False), (other, True)):
        write_json(COMPARISON_TIMING, {"champion": chosen.path.as_posix()})
        assert load_champion().what.endswith(": ANOTHER champion than the comparison here has chosen") == said
