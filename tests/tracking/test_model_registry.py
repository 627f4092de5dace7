from pathlib import Path

import mlflow
import pytest

from motionbench.core.errors import UserError
from motionbench.core.files import file_md5
from motionbench.tracking.model_registry import load_champion, promote
from motionbench.tracking.record import REGISTERED, ModelRecord
from motionbench.tracking.store import open_store


@pytest.mark.usefixtures("runs")
def test_missing_champion_is_named_with_what_makes_one() -> None:
    with pytest.raises(UserError, match=r"no champion in MLflow's store sqlite:.*: make repro; .*: make mlflow-sync"):
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
        (one, [f"model {one.path}", "version of motionbench", "alias champion of motionbench"]),
        (other, [f"model {other.path}", "version of motionbench", "alias champion of motionbench"]),
        (one, ["alias champion of motionbench"]),
        (one, []),
    ):
        assert promote(run_id, model, Path()) == missing
    names = [each.name for each in mlflow.MlflowClient().search_logged_models([experiment_id])]
    assert names == ["motionbench seed-0"] * 2
    for version, content in (("1", "one"), ("2", "the other")):
        folder = Path(mlflow.artifacts.download_artifacts(f"models:/{REGISTERED}/{version}"))
        assert (folder / "data/seed-0.keras").read_text(encoding="utf-8") == content
