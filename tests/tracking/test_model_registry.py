import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import mlflow
import numpy as np
import pytest
from mlflow.exceptions import MlflowException

from motionbench.core.errors import UserError
from motionbench.core.files import file_md5, write_json
from motionbench.core.paths import DVC_LOCK
from motionbench.data.params import Preprocessing
from motionbench.data.synthetic.frames import FRAME_SECONDS
from motionbench.tracking.champion import (
    CHALLENGER,
    CHAMPION,
    challenge,
    champion_not_in_use,
    describe_champion_in_use,
    list_versions,
    load_champion,
    promote,
    use_version,
    version_in_use,
)
from motionbench.tracking.model_registry import log_model
from motionbench.tracking.record import REGISTERED, ModelRecord
from motionbench.tracking.serving import describe_classes, describe_model
from motionbench.tracking.store import open_store

pytestmark = pytest.mark.usefixtures("runs")


def archive(name: str) -> ModelRecord:
    path = Path(name, "seed-0.keras")
    path.parent.mkdir()
    path.write_text(name, encoding="utf-8")
    return ModelRecord(
        name=REGISTERED, path=path, md5=file_md5(path), clip_shape=(1, 2, 2, 1), class_names=("a", "b"), best=True
    )


def compared(model: ModelRecord, day: int, commit: str = "abcdef0123") -> list[str]:
    """Log a champion that a comparison of this day has chosen, and promote it; return what was missing of it."""
    experiment_id = open_store()
    run_id = mlflow.MlflowClient().create_run(experiment_id).info.run_id
    started = f"2026-01-{day:02}T10:00:00.000+00:00"
    missing = log_model(run_id, model, {}, Path(), {"commit": commit, "git.dirty": "false", "started": started})
    promote(model.md5, started)
    return missing


def number_in_use() -> int | None:
    used = version_in_use()
    return int(used.version) if used else None


def named(
    version: int, day: int, commit: str = "abcdef01", model: str = "unknown model", source: str = "unknown"
) -> str:
    return (
        f"version {version} of motionbench ({model}; trained on {source} clips: a, b; logged at commit {commit}; "
        f"2026-01-{day:02} 10:00:00 UTC)"
    )


def test_a_run_can_have_two_champions_one_after_the_other() -> None:
    # Where no difference is shown, measured times choose: two runs with the same results may choose differently.
    experiment_id = open_store()
    run_id = mlflow.MlflowClient().create_run(experiment_id).info.run_id
    one, other = archive("one"), archive("other")
    for model, missing in (
        (one, [f"model {one.path}", "version of motionbench"]),
        (other, [f"model {other.path}", "version of motionbench"]),
        (one, []),
    ):
        assert log_model(run_id, model, {"accuracy": 0.5}, Path(), {}) == missing
        promote(model.md5, "")
        used = version_in_use()
        assert used
        assert used.tags["md5"] == model.md5
    logged = mlflow.MlflowClient().search_logged_models([experiment_id])
    assert [each.name for each in logged] == ["motionbench seed-0"] * 2
    assert [(each.key, each.value) for each in logged[0].metrics or []] == [("accuracy", 0.5)]
    for version, content in (("1", "one"), ("2", "other")):
        folder = Path(mlflow.artifacts.download_artifacts(f"models:/{REGISTERED}/{version}"))
        assert (folder / "data/seed-0.keras").read_text(encoding="utf-8") == content


def test_the_alias_moves_forward_in_time_of_the_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    one, other = archive("one"), archive("other")
    compared(one, 2)
    compared(other, 4)
    assert number_in_use() == 2
    assert capsys.readouterr().out == ""
    assert compared(one, 3, "9999999999")[1] == "tags of motionbench version 1"  # It started earlier and ended later.
    assert number_in_use() == 2
    assert capsys.readouterr().out == (
        f"{named(1, 3, '99999999')} is not in use: {named(2, 4)} is of a later comparison; to use it: make promote "
        "VERSION=1\n"
    )
    assert describe_champion_in_use("2026-01-03T10:00:00.000+00:00", None) == [
        f"The champion in use is still {named(2, 4)}, which is of a later comparison; to use another: make promote."
    ]
    assert describe_champion_in_use("2026-01-05T10:00:00.000+00:00", None) == []
    assert champion_not_in_use(other.md5) is None
    hint = "is registered and not in use, version 2 is; to use it: make promote VERSION=1"
    assert champion_not_in_use(one.md5) == f"{named(1, 3, '99999999')} {hint}"
    compared(one, 6)
    compared(one, 5)
    compared(other, 5)
    assert number_in_use() == 1, "an archive that is chosen again has the time of that comparison"


def test_the_challenger_is_the_latest_that_is_not_in_use() -> None:
    one, other = archive("one"), archive("other")
    compared(one.model_copy(update={"description": "Champion: one."}), 2)
    compared(other, 1)

    def challenger() -> int | None:
        found = version_in_use(CHALLENGER)
        return int(found.version) if found else None

    assert mlflow.MlflowClient().get_model_version(REGISTERED, "1").description == "Champion: one."
    challenge(one.md5, "")
    assert challenger() is None, "it is the champion"
    challenge(other.md5, "")
    assert challenger() == 2
    third = archive("third")
    compared(third, 3)
    challenge(one.md5, "2026-01-03T10:00:00.000+00:00")
    challenge(other.md5, "2026-01-01T10:00:00.000+00:00")
    assert challenger() == 1, "the other comparison started earlier"
    use_version("1")
    assert (number_in_use(), challenger()) == (1, None)


def test_a_version_is_put_in_use_by_its_number_whatever_its_time() -> None:
    with pytest.raises(UserError, match=r"no champion in .* sqlite:.*: make repro; .*: make promote; .*: make mlflow-"):
        load_champion()
    with pytest.raises(UserError, match=r"no version of motionbench in MLflow's store sqlite:.*: make mlflow-sync$"):
        list_versions()
    compared(archive("one"), 1)
    compared(archive("other"), 2)
    assert use_version("1") == f"in use: {named(1, 1)}"
    for wrong in ("3", "x"):
        with pytest.raises(UserError, match=f"^VERSION: {wrong}: motionbench has no such version; list them: make"):
            use_version(wrong)
    assert list_versions() == [named(2, 2), f"{named(1, 1)} IN USE"]
    run_id = mlflow.MlflowClient().create_run("1").info.run_id
    log_model(run_id, archive("restored"), {}, Path(), {})
    use_version("3")
    compared(archive("fourth"), 3)
    assert number_in_use() == 4, "a version without a time gives way"


@pytest.mark.parametrize("gone", ["files", "model", "files of another run's model"])
def test_a_champion_whose_files_are_gone_is_named_and_logged_again(gone: str) -> None:
    model = archive("one")
    compared(model, 1)
    client, in_use = mlflow.MlflowClient(), version_in_use()
    assert in_use
    model_id = str(in_use.source).removeprefix("models:/")
    run_id = str(in_use.run_id)
    if gone == "model":
        client.delete_logged_model(model_id)
    elif gone != "files":
        run_id = client.create_run("1").info.run_id
    shutil.rmtree(f"mlruns/models/{model_id}/artifacts")
    said = r"cannot be loaded: .*No such artifact: ''.*; .*: make mlflow-sync; to use another version: make promote$"
    with pytest.raises(UserError, match=rf"^{re.escape(named(1, 1))} {said}"):
        load_champion()
    missing = [f"model {model.path}", *(["version of motionbench"] if gone != "files" else [])]
    assert log_model(run_id, model, {}, Path(), {}) == missing
    if gone != "files":
        hint = "is registered and not in use, version 1 is; to use it: make promote VERSION=2"
        assert str(champion_not_in_use(model.md5)).endswith(hint)
        use_version("2")
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{REGISTERED}@{CHAMPION}"))
    assert (folder / "data/seed-0.keras").read_text(encoding="utf-8") == "one"


def test_champion_is_loaded_with_what_its_clips_were(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> NoReturn:
        raise MlflowException("another shape")

    compared(archive("one").model_copy(update={"facts": {"data.md5.train": "1"}}), 1)
    # As an earlier version of this project logged it.
    described = SimpleNamespace(metadata={"clip_shape": (4, 2, 3, 1), "class_names": ["a", "b"]})
    monkeypatch.setattr(
        mlflow.pyfunc, "load_model", lambda *_, **__: SimpleNamespace(metadata=described, predict=refuse)
    )
    for recorded, said in ((None, ""), ("1", ""), ("2", ": OTHER clips than dvc.lock records here")):
        if recorded:
            outs = [{"path": "data/train", "md5": recorded}]
            write_json(DVC_LOCK, {"stages": {"generate": {"cmd": "", "outs": outs}}})  # which is YAML too
        champion = load_champion()
        assert champion.what == f"{named(1, 1)}{said}"
    assert champion.preprocessing == Preprocessing(4, 2, 3, "grey", "pad")
    assert champion.seconds == 4 * FRAME_SECONDS
    with pytest.raises(UserError, match="the champion refuses the clip: another shape"):
        champion.predict(np.zeros((1, 4, 2, 3, 1), np.uint8))


@pytest.mark.parametrize(
    ("made_from", "said"),
    [
        ({"data.md5.train": "1", "data.md5.test": "2"}, "the same clips."),
        ({"data.md5.train": "1", "data.md5.test": "3"}, "OTHER clips."),
        ({"data.md5.folds": "1"}, "OTHER clips."),
        ({}, "clips that are not recorded."),
    ],
)
def test_the_old_champion_is_named_with_what_it_was_made_from(made_from: dict[str, str], said: str) -> None:
    open_store()
    data = {"data.md5.train": "1", "data.md5.test": "2"}
    assert describe_champion_in_use("", data) == ["No champion is in use."]
    facts = {"model": "convlstm", "source": "folder", **made_from}
    compared(archive("one").model_copy(update={"facts": facts}), 1)
    [sentence] = describe_champion_in_use("", data)
    shown = named(1, 1, model="convlstm", source="folder")
    assert sentence == f"The champion in use is still {shown}, which was made from {said}"


def test_a_sentence_names_the_first_of_many_classes() -> None:
    assert describe_classes([str(number) for number in range(101)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 91 more"
    assert describe_model({}) == "unknown model; trained on unknown clips"
    assert describe_model({"commit": "unknown", "git.dirty": "true"}).endswith(
        "; logged at commit unknown with uncommitted changes"
    )
