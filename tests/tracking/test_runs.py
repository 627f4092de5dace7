import hashlib
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import requests
from mlflow.store.db.utils import _get_latest_schema_revision
from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH
from sqlalchemy import event
from sqlalchemy.engine import Engine

from motionbench.core.errors import UserError
from motionbench.core.files import file_md5, file_md5s, file_stem, path_md5, write_json
from motionbench.core.paths import ReplicateKey, fold_path
from motionbench.core.processes import git
from motionbench.tracking import errors, store
from motionbench.tracking.champion import version_in_use
from motionbench.tracking.record import Record, as_text, build_record, pending, spool
from motionbench.tracking.runs import log_run, stage_run
from motionbench.tracking.study_runs import study_run
from pipeline import mlflow_sync
from tests.conftest import ROOT, run
from tests.tracking.conftest import FOLD_LOSSES, Runs, clips_of_comparison, serving, write_comparison_of

PARAMS = {"synthetic.seed": 0}


@pytest.mark.usefixtures("generated")
def test_run_has_what_the_outputs_say_and_is_logged_once(runs: Runs) -> None:
    with stage_run("generate", PARAMS) as run:
        run_id = run.origin()["run_id"]
    assert pending() == ([], {})
    [stored] = runs().values()
    assert stored.info.run_id == run_id
    assert stored.info.status == "FINISHED"
    assert stored.data.params == {"synthetic.seed": "0"}
    assert stored.inputs
    assert [each.dataset.name for each in stored.inputs.dataset_inputs] == ["train", "validation", "test"]
    assert not log_run(build_record("generate", PARAMS))
    assert "restored" not in stored.data.tags


@pytest.mark.usefixtures("generated")
def test_run_restored_from_files_says_so(runs: Runs) -> None:
    assert log_run(build_record("generate", PARAMS))[0] == "run generate"
    assert runs()["generate"].data.tags["restored"] == "from files"


@pytest.mark.usefixtures("generated")
def test_run_logged_by_hand_stays_running(runs: Runs) -> None:
    experiment_id = store.open_store()
    mlflow.MlflowClient().create_run(experiment_id, run_name="by hand")
    with stage_run("generate", PARAMS):
        pass
    assert {name: run.info.status for name, run in runs().items()} == {"by hand": "RUNNING", "generate": "FINISHED"}


def test_block_that_raises_ends_its_runs_as_failed(runs: Runs) -> None:
    with pytest.raises(UserError), stage_run("train_convlstm", {}, [("convlstm", ReplicateKey(0))]):
        raise UserError("diverged")
    assert {name: run.info.status for name, run in runs().items()} == {
        "train_convlstm": "FAILED", "train_convlstm seed 0": "FAILED",
    }  # fmt: skip


@pytest.mark.usefixtures("folded")
def test_replicates_of_folds_are_child_runs_with_their_own_curves(runs: Runs) -> None:
    with stage_run("train_convlstm", PARAMS, [("convlstm", key) for key in FOLD_LOSSES]) as run:
        assert {name for name in runs() if name != "train_convlstm"} == {f"train_convlstm {key}" for key in FOLD_LOSSES}
        for key, losses in FOLD_LOSSES.items():
            epoch = {"seed": key.seed, "fold": key.fold, "epoch": 1, "validation_loss": losses[0]}
            run.log_epoch("convlstm", epoch)
        while_it_trains = runs()["train_convlstm fold 1 seed 4"].data
        assert while_it_trains.params == {"synthetic.seed": "0", "seed": "4", "fold": "1"}
        assert while_it_trains.metrics["validation_loss"] == 0.45
    client, logged = mlflow.MlflowClient(), runs()
    assert len(logged) == 1 + len(FOLD_LOSSES)
    for key, losses in FOLD_LOSSES.items():
        child = logged[f"train_convlstm {key}"]
        assert child.data.params == {"synthetic.seed": "0", "seed": str(key.seed), "fold": str(key.fold)}
        assert child.data.tags["mlflow.parentRunId"] == logged["train_convlstm"].info.run_id
        points = client.get_metric_history(child.info.run_id, "validation_loss")
        assert {point.step: point.value for point in points} == dict(enumerate(losses, start=1))
        assert not {"fold", "seed"} & child.data.metrics.keys()
    [version] = client.search_model_versions("name = 'convlstm'")
    assert version.source
    assert client.get_logged_model(version.source.removeprefix("models:/")).name == "convlstm fold-0-seed-0"
    assert not log_run(build_record("train_convlstm", PARAMS)), "nothing is missing"


NAMES = [
    "plain", "(brackets)", "it's", 'a "quote"', "a, b", "a & b", "100% sure", "%41", "%2e%2e", "a # b", "$HOME", "a; b",
    "a: b", "back\\slash", "a/b", "a_b", "a?b=c", "two words", " blanks ", "Übung",
    unicodedata.normalize("NFD", "Übung"), "张" * 90, "-leading", "dot.in.it", "..", ".hidden", "`tick`", "a*[b]<c>|",
    "🤸" * 100,
]  # fmt: skip
"""Names of classes that people give, and that MLflow, an address, a file system or a shell could choke on."""


@pytest.mark.usefixtures("folded", "runs")
@pytest.mark.parametrize("place", ["a file", pytest.param("a server", marks=pytest.mark.slow)])
def test_names_that_people_give_are_logged(
    place: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "a server":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", request.getfixturevalue("server"))
    for part in range(3):
        write_json(fold_path(part) / "class_names.json", NAMES)
    pictures = {Path("reports/samples", f"{file_stem(name, number)}.gif"): name for number, name in enumerate(NAMES)}
    assert len(pictures) == len(NAMES)
    for path, name in pictures.items():
        path.write_text(name, encoding="utf-8")
    same = [Path("reports/samples", f"{'same ' * 40}{number}.gif") for number in range(40)]  # more than a tag can hold
    for path in same:
        path.write_text("same", encoding="utf-8")
    pairs = [[f"{name} {number}", name] for number in range(20) for name in NAMES]
    params = {"folder.flipped_labels": pairs, "folder.group": "(`person' \"\\d+)"}
    assert max(map(len, as_text(params).values())) > MAX_PARAM_VAL_LENGTH
    # Over HTTP the files of six models take a minute, and none has a name that people give.
    stages: dict[str, list[tuple[str, ReplicateKey]]] = {"generate": []}
    if place == "a file":
        stages["train_convlstm"] = [("convlstm", key) for key in FOLD_LOSSES]
    for stage, replicates in stages.items():
        with stage_run(stage, params, replicates):
            pass
        assert pending() == ([], {})
        assert not log_run(build_record(stage, params)), "nothing is missing"
    [run] = store.find_runs({"record.content": build_record("generate", params).content})
    assert run.data.params["folder.group"] == params["folder.group"]
    assert run.data.params["folder.flipped_labels"].endswith("…")
    files = {md5: path for path, md5 in file_md5s(Path("reports/samples")).items()}
    for path in pictures:
        assert run.data.tags[f"file.{file_md5(path)}"] == files[file_md5(path)] == path.as_posix()
    assert run.data.tags[f"file.{file_md5(same[0])}"].startswith(f"{same[0]}\n{same[1]}\n")
    client = mlflow.MlflowClient()
    stored = {each.path: each.file_size for each in client.list_artifacts(run.info.run_id, "reports/samples")}
    assert stored == {path.as_posix(): path.stat().st_size for path in (*pictures, *same)}
    if place == "a server":
        return
    [version] = client.search_model_versions("name = 'convlstm'", max_results=1)
    model = mlflow.models.get_model_info(f"models:/convlstm/{version.version}")
    assert model.signature.outputs.input_names() == NAMES


@contextmanager
def silent_server() -> Iterator[str]:
    """Yield the address of a server that accepts connections and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.usefixtures("generated")
@pytest.mark.parametrize("uri", ["http://127.0.0.1:1", "postgresql://someone:secret@127.0.0.1:1/mlflow", "silent"])
def test_unavailable_store_costs_seconds_and_a_spooled_record(
    uri: str, runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with silent_server() as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", silent if uri == "silent" else uri)
        start = time.monotonic()
        with stage_run("generate", PARAMS):
            pass
        assert time.monotonic() - start < 25
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("warning: MLflow's store ")
        assert line.endswith("by: make mlflow-sync")
        assert "secret" not in line
        [record] = pending()[0]
        with pytest.raises(errors.OutOfReachError, match="does not answer") as refused:
            log_run(record)
        assert "secret" not in str(refused.value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert log_run(record)[0] == "run generate"
    assert not log_run(build_record("generate", PARAMS))
    assert runs()["generate"].info.status == "FINISHED"


def delete_experiment() -> None:
    mlflow.delete_experiment(store.open_store())


def undelete_experiment() -> None:
    mlflow.MlflowClient().restore_experiment("1")


def set_schema(version: str) -> None:
    with closing(sqlite3.connect("mlflow.db")) as database, database:
        assert database.execute("UPDATE alembic_version SET version_num = ?", (version,)).rowcount == 1


REVISION = _get_latest_schema_revision()  # type: ignore[no-untyped-call] # mlflow has no types there


@pytest.mark.usefixtures("generated", "runs")
@pytest.mark.parametrize(
    ("breaks", "repairs", "said"),
    [
        (delete_experiment, undelete_experiment, "restore it: mlflow experiments restore --experiment-id 1"),
        (
            partial(set_schema, "another"),
            partial(set_schema, REVISION),
            "another version of MLflow made it",
        ),
    ],
)
def test_stage_goes_on_whatever_the_store_answers(
    breaks: Callable[[], None], repairs: Callable[[], None], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    breaks()
    with stage_run("generate", PARAMS):
        pass
    [line] = capsys.readouterr().err.splitlines()
    assert re.match(f"warning: MLflow's store .*{said}.*; work goes on; what it misses .* by: make mlflow-sync$", line)
    with pytest.raises(UserError, match=f"{said}.*; then run the command again: nothing is lost"):
        mlflow_sync.main()
    [record] = pending()[0]
    repairs()
    assert log_run(record)[0] == "run generate"


@pytest.mark.usefixtures("generated", "runs")
@pytest.mark.parametrize("run", [partial(stage_run, "generate", PARAMS), partial(study_run, "name", "id", {})])
def test_address_that_can_be_no_store_is_refused_before_any_work(
    run: Callable[[], AbstractContextManager[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///params.yaml")
    worked = []
    with (
        pytest.raises(UserError, match=r"params\.yaml cannot be opened: .*; set MLFLOW_TRACKING_URI to another"),
        run(),
    ):
        worked.append(1)
    assert not worked


@pytest.mark.usefixtures("generated")
def test_experiment_deleted_during_a_stage_is_named_once(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    with stage_run("generate", PARAMS):
        delete_experiment()
    [line] = capsys.readouterr().err.splitlines()
    assert "restore it: mlflow experiments restore --experiment-id 1; work goes on" in line
    undelete_experiment()
    assert log_run(pending()[0][0])
    assert {name: run.info.status for name, run in runs().items()} == {"generate": "FINISHED"}


@pytest.mark.usefixtures("runs")
def test_what_is_refused_or_damaged_holds_up_nothing_else(generated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = build_record("generate", PARAMS)
    refused = record.model_copy(update={"id": "refused", "params": {"folder.(a)": "1"}})
    for number, each in enumerate((refused, record, record), start=1):
        spool(each.model_copy(update={"id": each.id or f"good{number}", "started": number, "content": str(number)}))
    (generated / "mlruns/pending/generate-cut off").mkdir()
    (generated / "mlruns/pending/generate-cut off/record.json").write_text("{", encoding="utf-8")
    (generated / "dvc.lock").write_text("stages: {}\n", encoding="utf-8")
    for logged in (["generate, pending: logged"] * 2, []):
        with pytest.raises(SystemExit) as ended:
            mlflow_sync.main()
        assert ended.value.code
        done = capsys.readouterr()
        assert done.out.splitlines() == logged
        named = [line for line in done.err.splitlines() if "pending" in line]
        assert [line.partition(",")[0] for line in named] == ["generate-cut off", "generate-refused"]
        folder = generated.resolve() / "mlruns/pending"
        assert "damaged, or of another version of this project (" in named[0]
        assert named[0].endswith(f"; to give it up: rm -r '{folder}/generate-cut off'")
        assert re.search(r"refuses this \(.*folder\.\(a\)", named[1])
        assert named[1].endswith(f"; to give it up: rm -r {folder}/generate-refused")
        assert {path.name for path in folder.iterdir()} == {"generate-cut off", "generate-refused"}
    assert [run.info.status for run in store.find_runs({"record.content": "2"})] == ["FINISHED"]


@pytest.mark.usefixtures("runs")
def test_a_record_at_which_the_store_fails_holds_up_nothing_else(
    generated: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail_at_the_first(record: Record) -> list[str]:
        if record.id == "first":
            raise errors.OutOfReachError("MLflow's store does not answer (INTERNAL_ERROR)")
        return log_run(record)

    for number, name in enumerate(("first", "second")):
        record = build_record("generate", PARAMS)
        spool(record.model_copy(update={"id": name, "started": number + 1, "content": name}))
    monkeypatch.setattr("motionbench.tracking.runs.log_run", fail_at_the_first)
    (generated / "dvc.lock").write_text("stages: {}\n", encoding="utf-8")
    with pytest.raises(SystemExit):
        mlflow_sync.main()
    done = capsys.readouterr()
    assert done.out.splitlines() == ["generate, pending: logged"]
    assert "generate-first, pending: not logged: MLflow's store does not answer (INTERNAL_ERROR); to give" in done.err


def test_record_that_cannot_be_kept_costs_no_stage(
    runs: Runs, generated: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    (generated / "mlruns").mkdir()
    (generated / "mlruns/pending").write_text("no folder", encoding="utf-8")
    with stage_run("generate", PARAMS):
        pass
    _, line = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: the record for MLflow cannot be kept: ")
    assert runs() == {}


def old_server(uri: str) -> AbstractContextManager[str]:
    """Yield the address of what answers as an MLflow 2 server does: a server behind it, without its newer routes."""

    class Old(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path == "/version":
                status, content = 200, b"2.22.1"
            elif "/logged-models" in self.path or "/runs/outputs" in self.path or "/api/3.0/" in self.path:
                status, content = 404, b"<!doctype html><title>404 Not Found</title>"
            else:
                kept = {name: self.headers[name] for name in ("Content-Type", "Accept") if name in self.headers}
                there = requests.request(self.command, f"{uri}{self.path}", data=body, headers=kept, timeout=60)
                status, content = there.status_code, there.content
            self.send_response(status)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815 # the names that http.server calls

        def log_message(self, *_: object) -> None:
            """Write nothing to the terminal."""

    return serving(Old)


@pytest.mark.slow
@pytest.mark.usefixtures("folded", "runs")
def test_server_that_is_too_old_is_named_with_its_version(
    server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "is too old: its server has MLflow 2.22.1, and logged models need a server of MLflow 3"
    with old_server(server) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with stage_run("train_convlstm", PARAMS, [("convlstm", key) for key in FOLD_LOSSES]) as run:
            run.log_epoch("convlstm", {"seed": 0, "fold": 0, "epoch": 1, "validation_loss": 0.5})
        [line] = capsys.readouterr().err.splitlines()
        assert said in line
        with pytest.raises(UserError, match=f"{said}.*; then run the command again"):
            mlflow_sync.main()
        assert capsys.readouterr() == ("", "")
    [record] = pending()[0]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    assert "model models/convlstm/fold-1-seed-4.keras" in log_run(record)


def in_use() -> str | None:
    """Return the archive in use, as what `write_comparison_of` wrote."""
    store.open_store()
    version = version_in_use()
    return version.tags["md5"] if version else None


def md5_of(content: str) -> str:
    return hashlib.md5(content.encode(), usedforsecurity=False).hexdigest()


@pytest.fixture
def checkouts(generated: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Two checkouts with comparisons of their own and one store; return their commits by the folders' names."""
    del runs  # whose store they share
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{generated}/mlflow.db")
    commits = {}
    for name in ("A", "B"):
        folder = generated / name
        folder.mkdir()
        for each in ("data", "metrics", "reports", "dvc.yaml", "params.yaml"):
            copy = shutil.copytree if (generated / each).is_dir() else shutil.copyfile
            copy(generated / each, folder / each)
        monkeypatch.chdir(folder)
        for arguments in (
            ["init", "--quiet"], ["add", "params.yaml"],
            ["-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", name],
        ):  # fmt: skip
            subprocess.run(["git", *arguments], check=True)
        commits[name] = git("rev-parse", "HEAD").strip()
        write_comparison_of("convlstm" if name == "A" else "cnn_lstm", name)
    assert commits["A"] != commits["B"]
    return commits


def compare_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with stage_run("compare", PARAMS):
        pass


def spool_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
        patch.setattr(store, "best_effort", store.BestEffort())
        with stage_run("compare", PARAMS):
            pass


def sync_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for record in pending()[0]:
        log_run(record)
    log_run(build_record("compare", PARAMS))


def test_the_alias_is_what_the_last_comparison_said_whoever_syncs(
    checkouts: dict[str, str], generated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool_in(generated / "A", monkeypatch)
    sync_in(generated / "B", monkeypatch)
    sync_in(generated / "A", monkeypatch)
    assert in_use() is None, "a record that was spooled or restored puts nothing in use"
    spool_in(generated / "A", monkeypatch)
    for step in "ABsABAsBA":  # every order of the three is in it
        before = in_use()
        if step == "s":
            sync_in(generated / "B", monkeypatch)
            sync_in(generated / "A", monkeypatch)
            spool_in(generated / "A", monkeypatch)
        else:
            compare_in(generated / step, monkeypatch)
        assert in_use() == (before if step == "s" else md5_of(step))
    version = version_in_use()
    assert version
    commit = checkouts["A" if version.tags["model"] == "convlstm" else "B"]
    assert version.tags["commit"] == commit
    assert {key: value for key, value in version.tags.items() if key.startswith("data.md5.")} == {
        f"data.md5.{name}": path_md5(generated / "data" / name) for name in ("train", "test")
    }
    assert version.tags["classes"] == "a, b, c, d"
    assert version.tags["source"] == "synthetic"
    started = datetime.fromisoformat(version.tags["started"])
    assert started.utcoffset() == timedelta(0)
    compared = {int(started.timestamp() * 1000), round(started.timestamp() * 1000)}
    assert compared & {each.info.start_time for each in mlflow.search_runs(["1"], output_format="list")}


@pytest.mark.usefixtures("checkouts")
def test_a_comparison_that_started_earlier_and_ends_later_leaves_the_alias(
    generated: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(generated / "A")
    with stage_run("compare", PARAMS) as comparison:
        assert comparison.old_champion(clips_of_comparison(), chosen=True) == []
        assert comparison.old_champion(clips_of_comparison(), chosen=False) == ["No champion is in use."]
        compare_in(generated / "B", monkeypatch)
        monkeypatch.chdir(generated / "A")
        [sentence] = comparison.old_champion(clips_of_comparison(), chosen=True)
        assert "which is of a later comparison; to use another: make promote." in sentence
        [sentence] = comparison.old_champion(clips_of_comparison(), chosen=False)
        assert sentence.endswith("which was made from the same clips.")
        np.save("data/test/labels.npy", np.zeros(4, int))
        [sentence] = comparison.old_champion(clips_of_comparison(), chosen=False)
        assert sentence.endswith("which was made from OTHER clips.")
    assert in_use() == md5_of("B")
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith(
        "version 2 of motionbench (convlstm; trained on synthetic clips: a, b, c, d; logged at commit "
    )
    assert line.endswith("is of a later comparison; to use it: make promote VERSION=2")


@pytest.mark.usefixtures("checkouts")
def test_a_comparison_says_of_a_store_that_it_cannot_see_that_nothing_is_put_in_use(
    generated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare_in(generated / "A", monkeypatch)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    with stage_run("compare", PARAMS) as comparison:
        assert comparison.old_champion(clips_of_comparison(), chosen=False) == []
        [line] = comparison.old_champion(clips_of_comparison(), chosen=True)
        assert line.startswith(
            "MLflow is unavailable. If it stays so, the champion is not in use; later: make mlflow-sync"
        )


@pytest.mark.usefixtures("generated", "runs")
def test_the_address_of_a_run_has_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:secret@127.0.0.1:1/")
    with stage_run("generate", PARAMS) as run:
        assert run.origin()["url"].startswith("http://127.0.0.1:1/#/runs/")


@pytest.mark.usefixtures("checkouts")
def test_a_comparison_whose_inputs_were_changed_promotes_nothing(
    generated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check() -> None:
        raise UserError("changed while it was logged")

    compare_in(generated / "A", monkeypatch)
    monkeypatch.chdir(generated / "B")
    with pytest.raises(UserError, match="changed while"), stage_run("compare", PARAMS, check=check):
        pass
    assert in_use() == md5_of("A")
    found = mlflow.search_runs(["1"], output_format="list")
    assert [each.info.status for each in found] == ["FAILED", "FINISHED"]
    with interrupt_after_insert("inputs"), pytest.raises(KeyboardInterrupt):
        compare_in(generated / "B", monkeypatch)
    assert in_use() == md5_of("A"), "dvc.lock has no record of an interrupted stage"


@pytest.mark.usefixtures("checkouts")
def test_a_kill_between_registering_and_alias_is_made_good_by_the_next_comparison(
    generated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare_in(generated / "B", monkeypatch)
    program = (
        "import os, sqlalchemy\n"
        "from motionbench.tracking.runs import stage_run\n"
        "@sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, 'before_cursor_execute')\n"
        "def kill(connection, cursor, statement, *others):\n"
        "    if 'registered_model_aliases' in statement and not statement.startswith('SELECT'):\n"
        "        os.kill(os.getpid(), 9)\n"
        f"with stage_run('compare', {PARAMS}): pass\n"
    )
    uri = f"sqlite:///{generated}/mlflow.db"
    done = run(generated / "A", "python", "-c", program, PYTHONPATH=str(ROOT / "src"), MLFLOW_TRACKING_URI=uri)
    assert done.returncode == -signal.SIGKILL, done.stderr
    client = mlflow.MlflowClient()
    assert {each.tags["md5"] for each in client.search_model_versions("name = 'motionbench'")} == {
        md5_of("A"), md5_of("B"),
    }  # fmt: skip
    assert in_use() == md5_of("B")
    sync_in(generated / "A", monkeypatch)
    assert in_use() == md5_of("B")
    compare_in(generated / "A", monkeypatch)
    assert in_use() == md5_of("A")
    assert len(client.search_model_versions("name = 'motionbench'")) == 2


@contextmanager
def interrupt_after_insert(table: str) -> Iterator[None]:
    """Interrupt this process each time that a row was written to a table."""

    def interrupt(method: str, cursor: Any, statement: str, parameters: Any, _context: Any) -> bool:
        if not statement.startswith(f"INSERT INTO {table} "):
            return False
        getattr(cursor, method)(statement, parameters)
        signal.raise_signal(signal.SIGINT)
        return True

    listeners = {f"do_{method}": partial(interrupt, method) for method in ("execute", "executemany")}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    for name, listener in listeners.items():
        event.listen(Engine, name, listener)
    try:
        yield
    finally:
        for name, listener in listeners.items():
            event.remove(Engine, name, listener)
        signal.signal(signal.SIGINT, before)


def train() -> None:
    with stage_run("train_convlstm", {}, [("convlstm", ReplicateKey(0))]) as run:
        run.log_epoch("convlstm", {"seed": 0, "epoch": 1, "loss": 0.5, "seconds": 0.1})


def search() -> None:
    with study_run("name", "id", {"space": 1}):
        pass


@pytest.mark.parametrize(
    ("command", "table", "expected"),
    [
        (train, "runs", {"train_convlstm": "KILLED", "train_convlstm seed 0": "KILLED"}),
        (train, "metrics", {"train_convlstm": "KILLED", "train_convlstm seed 0": "KILLED"}),
        (search, "params", {"tune name": "KILLED"}),
    ],
)
def test_interrupt_while_the_store_is_written_ends_the_runs(
    command: Callable[[], None], table: str, expected: dict[str, str], runs: Runs
) -> None:
    with interrupt_after_insert(table), pytest.raises(KeyboardInterrupt):
        command()
    assert {name: run.info.status for name, run in runs().items()} == expected


@pytest.mark.usefixtures("generated")
def test_interrupt_when_all_is_logged_leaves_the_run_finished(runs: Runs) -> None:
    with interrupt_after_insert("inputs"), pytest.raises(KeyboardInterrupt), stage_run("generate", PARAMS):
        pass
    assert {name: run.info.status for name, run in runs().items()} == {"generate": "FINISHED"}
