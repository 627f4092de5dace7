"""What lies outside the repository, or where it lies, changes no result and breaks nothing."""

import json
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import requests

from motionbench.core.files import path_md5
from tests.conftest import ROOT, run
from tests.integration.test_pipeline import LOGGED
from tests.integration.test_tracking import contents, sync
from tests.tracking.servers import Server

pytestmark = pytest.mark.slow  # they train for real

KERAS_JSON = {
    "backend": "torch",
    "floatx": "float16",
    "image_data_format": "channels_first",
    "epsilon": 0.1,
    "max_epochs": 1,
}
OTHER_WORK = {
    "KERAS_BACKEND": "jax",
    "KERAS_MAX_EPOCHS": "1",
    "KERAS_MAX_STEPS_PER_EPOCH": "1",
    "MLFLOW_EXPERIMENT_NAME": "other work",
    "MLFLOW_REGISTRY_URI": "sqlite:///elsewhere.db",
    "OMP_NUM_THREADS": "7",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "PYTHONHASHSEED": "7",
    "TF_DETERMINISTIC_OPS": "0",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_NUM_INTRAOP_THREADS": "7",
    "TF_USE_LEGACY_KERAS": "1",
    "TF_XLA_FLAGS": "--tf_xla_auto_jit=2",
    "LC_ALL": "C",
}


NO_LOCKS = """
import errno, fcntl
def refuse(*_):
    raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = fcntl.lockf = refuse
"""


def test_on_a_disk_without_locks_dvc_works_as_the_documentation_says(tmp_path: Path) -> None:
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    [remedy] = re.findall(r"(?m)^    (dvc config .*hardlink_lock.*)$", page)
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(NO_LOCKS, encoding="utf-8")
    (tmp_path / "dvc.yaml").write_text("stages: {one: {cmd: echo text > out, outs: [out]}}", encoding="utf-8")
    for command in ("git init -q", "dvc init -q"):
        assert run(tmp_path, *command.split()).returncode == 0
    site = str(tmp_path / "site")
    assert "Unable to acquire lock" in run(tmp_path, "dvc", "repro", PYTHONPATH=site).stderr
    assert run(tmp_path, "sh", "-c", remedy).returncode == 0
    done = run(tmp_path, "dvc", "repro", PYTHONPATH=site)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").read_text(encoding="utf-8") == "text\n"


def test_a_merge_conflict_in_dvc_lock_ends_as_the_documentation_says(tmp_path: Path) -> None:
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    [remedy] = re.findall(r"(?m)^    (git checkout HEAD dvc.lock metrics)$", page)
    metrics = "outs: [{metrics/one: {cache: false}}]"
    stage = f"{{cmd: mkdir -p metrics && cp params.yaml metrics/one, params: [number], {metrics}}}"
    (tmp_path / "dvc.yaml").write_text(f"stages: {{one: {stage}}}", encoding="utf-8")

    def record(number: int, branch: str) -> None:
        assert run(tmp_path, "git", "checkout", "-qb", branch, "main").returncode == 0
        (tmp_path / "params.yaml").write_text(f"number: {number}\n", encoding="utf-8")
        for command in ("dvc repro -q", "git add --all", "git commit -qm results"):
            done = run(tmp_path, *command.split(), **identity)
            assert done.returncode == 0, done.stderr

    identity = {f"GIT_{who}_{what}": "a@b.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    (tmp_path / "params.yaml").write_text("number: 0\n", encoding="utf-8")
    for command in ("git init -qb main", "dvc init -q", "git add --all", "git commit -qm start"):
        assert run(tmp_path, *command.split(), **identity).returncode == 0
    record(1, "theirs")
    record(2, "ours")
    assert run(tmp_path, "git", "merge", "theirs", **identity).returncode != 0
    (tmp_path / "params.yaml").write_text("number: 2\n", encoding="utf-8")
    assert run(tmp_path, "dvc", "repro").returncode != 0
    assert run(tmp_path, "sh", "-c", remedy).returncode == 0
    done = run(tmp_path, "dvc", "repro")
    assert done.returncode == 0, done.stderr
    assert run(tmp_path, "git", "commit", "-qam", "merged", **identity).returncode == 0
    assert "number: 2" in (tmp_path / "dvc.lock").read_text(encoding="utf-8")


def test_mlflow_behind_a_proxy_answers_to_the_name_that_the_documentation_sets(tmp_path: Path) -> None:
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    settings = dict(re.findall(r"(MLFLOW_SERVER_\w+)=(\S+)(?= .*make ui$| make ui$)", page, re.MULTILINE))
    files = ("--workers", "1", "--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db")
    with Server(tmp_path, "ui", *files, **settings) as server:
        search = f"{server.uri}/ajax-api/2.0/mlflow/experiments/search"
        said = []
        for host in (settings["MLFLOW_SERVER_ALLOWED_HOSTS"], "other.example.org"):
            headers = {"Host": host, "Origin": settings["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"]}
            answer = requests.post(search, json={"max_results": 1}, headers=headers, timeout=600)
            said.append((answer.status_code, "Invalid Host header" in answer.text))
    assert said == [(200, False), (403, True)]


def test_settings_for_other_work_change_no_weight(copy_of_reproduced: Path, tmp_path: Path) -> None:
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras/keras.json").write_text(json.dumps(KERAS_JSON), encoding="utf-8")
    before = path_md5(copy_of_reproduced / "models/convlstm")
    shutil.rmtree(copy_of_reproduced / "models/convlstm")
    done = run(copy_of_reproduced, "python", "-m", "pipeline.train", "convlstm", HOME=str(tmp_path), **OTHER_WORK)
    assert done.returncode == 0, done.stderr
    assert path_md5(copy_of_reproduced / "models/convlstm") == before
    assert not (copy_of_reproduced / "elsewhere.db").exists()


def test_a_moved_repository_keeps_its_runs_and_leaves_nothing_behind(reproduced: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "Übung"
    shutil.copytree(reproduced, old, symlinks=True)
    assert sync(old).returncode == 0  # Its paths are those of the copy.
    before = contents(f"sqlite:///{old}/mlflow.db")
    old.rename(new)
    done = run(new, "python", "-m", "pipeline.predict", "reports/samples/sine.gif")
    assert done.returncode == 0, done.stderr
    assert f"MLflow's store was moved here from {old}: its paths are changed" in done.stderr
    assert "motionbench version 1" in done.stdout
    done = sync(new)
    assert done.stdout.count(": there already") == len(LOGGED), done.stdout + done.stderr
    assert done.stderr == ""
    assert contents(f"sqlite:///{new}/mlflow.db") == before
    assert run(new, "python", "-m", "pipeline.generate").returncode == 0
    assert not old.exists()
    (new / "experiments/short.yaml").write_text("training:\n  patience: 1\n", encoding="utf-8")
    done = run(new, "python", "-m", "pipeline.experiment", "short")
    assert done.returncode == 2
    assert done.stderr == f"error: {new}: DVC's temporary copies need a path of ASCII letters; move the repository\n"


def test_a_copied_repository_leaves_the_original_and_others_alone(
    reproduced: Path, copy_of_reproduced: Path, tmp_path: Path
) -> None:
    before = path_md5(reproduced / "mlruns"), path_md5(reproduced / "mlflow.db")
    (tmp_path / "other").mkdir()
    done = run(copy_of_reproduced, "python", "-m", "pipeline.generate", DVC_ROOT=str(tmp_path / "other"))
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "other").iterdir()) == []
    assert (path_md5(reproduced / "mlruns"), path_md5(reproduced / "mlflow.db")) == before
    with closing(sqlite3.connect(copy_of_reproduced / "mlflow.db")) as store:
        assert str(reproduced) not in "".join(store.iterdump())
