import hashlib
import re
import shlex
import shutil
import signal
import socket
import sqlite3
import subprocess
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from datetime import datetime, timedelta
from functools import partial
from getpass import getuser
from pathlib import Path
from threading import Thread
from typing import Any

import mlflow
import pytest
from click.testing import CliRunner
from mlflow import experiments
from mlflow.entities import Run

from motionbench.core.errors import UserError
from motionbench.core.files import file_md5, file_stem, path_md5, read_json, write_json
from motionbench.core.paths import (
    COMPARISON_METRICS,
    COMPARISON_TIMING,
    DVC_LOCK,
    MODELS,
    ReplicateKey,
    part_path,
    replicate_path,
    stage_inputs_path,
    training_paths,
)
from motionbench.core.processes import git
from motionbench.tracking import store
from motionbench.tracking.champion import version_in_use
from motionbench.tracking.description import COLOURS
from motionbench.tracking.errors import OutOfReachError
from motionbench.tracking.from_files import build_record
from motionbench.tracking.record import Record, pending, read_spooled, spool
from motionbench.tracking.runs import log_run, stage_run
from motionbench.tracking.study_runs import study_run
from motionbench.training.replicates import leave_untrained
from pipeline import mlflow_sync
from tests.tracking.conftest import FOLD_LOSSES, Runs, clips_of_comparison, write_comparison_of
from tests.tracking.servers import answering, mlflow_server

PARAMS = {"synthetic.seed": 0}
AWAY = "http://127.0.0.1:1"  # where nothing answers


def generate() -> None:
    """Run the stage `generate`, whose outputs are there."""
    with stage_run("generate", PARAMS):
        pass


def run_named(name: str) -> str:
    """Return the id of the newest run with this name."""
    return str(mlflow.search_runs(["1"], f"run_name = '{name}'", output_format="list")[0].info.run_id)


def statuses(runs: Runs) -> dict[str, str]:
    return {name: run.info.status for name, run in runs().items()}


@pytest.mark.usefixtures("generated")
def test_run_has_what_the_outputs_say_and_is_logged_once(runs: Runs) -> None:
    for command in ("init", "commit --allow-empty --message empty"):
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        subprocess.run(["git", *identity, *command.split(), "--quiet"], check=True)
    experiment_id = store.open_store()
    mlflow.MlflowClient().create_run(experiment_id, run_name="by hand")
    with stage_run("generate", PARAMS) as run:
        run_id = run.origin()["run_id"]
    assert pending() == []
    assert statuses(runs) == {"by hand": "RUNNING", "generate": "FINISHED"}
    stored = runs()["generate"]
    assert stored.info.run_id == run_id
    assert stored.data.params == {"synthetic.seed": "0"}
    assert stored.data.tags["mlflow.source.git.commit"] == git("rev-parse", "HEAD").strip()
    assert stored.data.tags["git.dirty"] == "true"
    assert stored.inputs
    assert [each.dataset.name for each in stored.inputs.dataset_inputs] == ["train", "validation", "test"]
    assert not log_run(build_record("generate", PARAMS))
    assert "restored" not in stored.data.tags
    told = {"mlflow.source.name": "pipeline/generate.py", "mlflow.source.type": "LOCAL", "mlflow.user": getuser()}
    assert told.items() <= stored.data.tags.items()
    assert stored.data.tags["mlflow.source.git.branch"] == git("branch", "--show-current").strip() != ""
    assert stored.data.tags["mlflow.note.content"].startswith("Draws the clips, or makes them from video files.\n\n")


def test_block_that_raises_ends_its_runs_as_failed(runs: Runs) -> None:
    with pytest.raises(UserError), stage_run("train_convlstm", {}, [("convlstm", ReplicateKey(0))]):
        raise UserError("diverged")
    assert statuses(runs) == {"train_convlstm": "FAILED", "train_convlstm seed 0": "FAILED"}


@pytest.mark.usefixtures("generated", "runs")
@pytest.mark.parametrize("ran_well", [True, False])
def test_a_sync_leaves_the_run_of_a_failed_check(ran_well: bool) -> None:
    def changed() -> None:
        raise UserError("changed while it was logged")

    if ran_well:
        generate()
    with pytest.raises(UserError, match="changed while"), stage_run("generate", PARAMS, check=changed):
        pass
    assert log_run(build_record("generate", PARAMS)) == ([] if ran_well else ["run generate"])
    found = mlflow.search_runs(["1"], output_format="list")
    assert sorted(each.info.status for each in found) == ["FAILED", "FINISHED"]


def check_folded(runs: dict[str, Run]) -> None:
    """Check that the runs are those of `folded`, with their own parameters and curves, each point once."""
    client = mlflow.MlflowClient()
    assert len(runs) == 1 + len(FOLD_LOSSES)
    for key, losses in FOLD_LOSSES.items():
        child = runs[f"train_convlstm {key}"]
        assert child.info.status == "FINISHED"
        identity = {"model": "convlstm", "seed": str(key.seed), "fold": str(key.fold)}
        assert child.data.params == {"synthetic.seed": "0", **identity}
        assert child.data.tags["mlflow.parentRunId"] == runs["train_convlstm"].info.run_id
        points = client.get_metric_history(child.info.run_id, "validation_loss")
        assert sorted((point.step, point.value) for point in points) == list(enumerate(losses, start=1))
        assert len(client.get_metric_history(child.info.run_id, "training_seconds")) == 1
        assert child.outputs
        assert len(child.outputs.model_outputs) == 1
        assert not {"fold", "seed"} & child.data.metrics.keys()
    [version] = client.search_model_versions("name = 'convlstm'")
    assert client.get_logged_model(str(version.source).removeprefix("models:/")).name == "convlstm fold-0-seed-0"


@pytest.mark.usefixtures("folded")
def test_replicates_of_folds_are_child_runs_with_their_own_curves(runs: Runs) -> None:
    with stage_run("train_convlstm", PARAMS, [("convlstm", key) for key in FOLD_LOSSES]) as run:
        for key, losses in FOLD_LOSSES.items():
            epoch = {"seed": key.seed, "fold": key.fold, "epoch": 1, "validation_loss": losses[0]}
            run.log_epoch("convlstm", epoch)
        while_it_trains = runs()["train_convlstm fold 1 seed 4"].data
        assert while_it_trains.params == {"synthetic.seed": "0", "model": "convlstm", "seed": "4", "fold": "1"}
        assert while_it_trains.tags["mlflow.runColor"] == COLOURS[1]
        assert while_it_trains.metrics["validation_loss"] == 0.45
    check_folded(runs())
    assert not log_run(build_record("train_convlstm", PARAMS)), "nothing is missing"


@pytest.mark.usefixtures("folded", "runs")
def test_a_comparison_logs_scores_to_the_models_that_it_compared() -> None:
    write_comparison_of(None, "")
    compared = build_record("compare", PARAMS)
    key, digest = ReplicateKey(4, 1), path_md5(part_path(1))
    md5 = file_md5(replicate_path(MODELS / "convlstm", key))
    table = f"model,seed,fold,clips,accuracy,low,high,md5\nconvlstm,4,1,5,0.8,0.5,0.9,{md5}\n"
    (COMPARISON_METRICS / "replicates.csv").write_text(table, encoding="utf-8")
    write_json(COMPARISON_TIMING, read_json(COMPARISON_TIMING) | {"latency_milliseconds": {"convlstm": 2.5}})
    log_run(build_record("train_convlstm", PARAMS))
    assert log_run(compared) == ["run compare"], "an earlier version of this project wrote no scores"
    record = build_record("compare", PARAMS)
    assert log_run(record) == ["run compare", "scores of convlstm fold-1-seed-4"]
    expected = {"test_accuracy": 0.8, "test_accuracy_low": 0.5, "test_accuracy_high": 0.9, "latency_milliseconds": 2.5}
    client, child = mlflow.MlflowClient(), mlflow.MlflowClient().get_run(run_named("train_convlstm fold 1 seed 4"))
    assert expected.items() <= child.data.metrics.items()
    assert child.outputs
    [output] = child.outputs.model_outputs
    scores = [each for each in client.get_logged_model(output.model_id).metrics or [] if each.key in expected]
    assert {each.key: each.value for each in scores} == expected
    assert {(each.dataset_name, each.dataset_digest) for each in scores} == {("folds/1", digest)}
    inputs = client.get_run(run_named("compare")).inputs
    assert inputs
    assert [each.model_id for each in inputs.model_inputs] == [output.model_id]
    assert log_run(record) == []


@pytest.mark.usefixtures("folded")
@pytest.mark.parametrize("call", ["log_batch", "log_artifact", "log_model_artifacts", "set_terminated"])
def test_what_was_logged_in_part_is_completed(call: str, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    original, calls = getattr(mlflow.MlflowClient, call), []

    def fail_at_the_second(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise OSError("no answer")
        return original(*arguments, **options)

    record = build_record("train_convlstm", PARAMS)
    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, call, fail_at_the_second)
        with pytest.raises(OutOfReachError):
            log_run(record)
    assert runs()["train_convlstm"].info.status == "RUNNING", "it ends last: what has ended is complete"
    assert log_run(record)
    check_folded(runs())
    assert runs()["train_convlstm"].data.tags["restored"] == "from files"
    mlflow.MlflowClient().delete_registered_model("convlstm")
    mlflow.MlflowClient().delete_run(runs()["train_convlstm fold 1 seed 4"].info.run_id)
    assert log_run(record) == [
        "version of convlstm", "run train_convlstm fold 1 seed 4", "model models/convlstm/fold-1-seed-4.keras",
    ]  # fmt: skip # short items
    check_folded(runs())
    assert log_run(record) == []


@pytest.mark.usefixtures("generated")
def test_what_changes_while_it_is_logged_fails_the_stage(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    original, params = mlflow.MlflowClient.log_artifacts, Path("params.yaml").read_bytes()

    def edit_meanwhile(*arguments: Any) -> None:
        Path("params.yaml").write_text("edited", encoding="utf-8")
        original(*arguments)

    def check() -> None:
        if Path("params.yaml").read_bytes() != params:
            raise UserError("changed while it was logged")

    monkeypatch.setattr(mlflow.MlflowClient, "log_artifacts", edit_meanwhile)
    with pytest.raises(UserError, match="changed while"), stage_run("generate", PARAMS, check=check):
        pass
    assert statuses(runs) == {"generate": "FAILED"}


@pytest.mark.usefixtures("generated")
def test_a_spooled_record_completes_the_run_that_was_taken_for_dead(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **_options: object) -> None:
        raise OSError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "log_inputs", fail)
        generate()
    mlflow.MlflowClient().set_terminated(runs()["generate"].info.run_id, "KILLED")
    [folder] = pending()
    assert log_run(read_spooled(folder)) == ["run generate"]
    run = runs()["generate"]
    assert run.info.status == "FINISHED"
    assert run.inputs
    assert len(run.inputs.dataset_inputs) == 3


NAMES = [
    "plain", "(brackets)", "it's", 'a "quote"', "a, b", "a & b", "100% sure", "%41", "%2e%2e", "a # b", "$HOME", "a; b",
    "a: b", "back\\slash", "a/b", "a_b", "a?b=c", "two words", " blanks ", "Übung",
    unicodedata.normalize("NFD", "Übung"), "张" * 90, "-leading", "dot.in.it", "..", ".hidden", "`tick`", "a*[b]<c>|",
    "🤸" * 100,
]  # fmt: skip # short items
"""Names of classes that people give, and that MLflow, an address, a file system or a shell could choke on."""


@pytest.mark.usefixtures("folded", "runs")
@pytest.mark.parametrize("place", ["a file", pytest.param("a server", marks=pytest.mark.slow)])
def test_names_that_people_give_are_logged(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in range(3):
        write_json(part_path(part) / "class_names.json", NAMES)
    pictures = {Path("reports/samples", f"{file_stem(name, number)}.gif"): name for number, name in enumerate(NAMES)}
    same = {Path("reports/samples", f"{'same ' * 40}{number}.gif"): "same" for number in range(40)}  # more than a tag
    for path, text in (pictures | same).items():
        path.write_text(text, encoding="utf-8")
    pairs = [[f"{name} {number}", name] for number in range(20) for name in NAMES]
    params = {"folder.flipped_labels": pairs, "folder.group": "(`person' \"\\d+)"}
    with mlflow_server(tmp_path / "server") if place == "a server" else nullcontext() as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri if server else "")
        # Over HTTP the files of six models take a minute, and none has a name that people give.
        for stage in ["generate"] if server else ["generate", "train_convlstm"]:
            with stage_run(stage, params, [("convlstm", key) for key in FOLD_LOSSES] if stage != "generate" else []):
                pass
            assert pending() == []
            assert not log_run(build_record(stage, params)), "nothing is missing"
        [run] = store.find_runs({"record.content": build_record("generate", params).content})
        client = mlflow.MlflowClient()
        stored = {each.path: each.file_size for each in client.list_artifacts(run.info.run_id, "reports/samples")}
    assert stored == {path.as_posix(): path.stat().st_size for path in pictures | same}
    assert run.data.params["folder.group"] == params["folder.group"]
    assert run.data.params["folder.flipped_labels"].endswith("…")
    assert {run.data.tags[f"file.{file_md5(path)}"] for path in pictures} == {path.as_posix() for path in pictures}
    first, second, *_ = same
    assert run.data.tags[f"file.{file_md5(first)}"].startswith(f"{first}\n{second}\n")
    if place == "a file":
        signature = mlflow.models.get_model_info("models:/convlstm/1").signature
        assert signature.outputs.input_names() == NAMES


@contextmanager
def silent_server() -> Iterator[tuple[str, list[socket.socket]]]:
    """Yield the address of a server that accepts connections and never answers, and the connections."""
    connections = []

    def accept() -> None:
        with suppress(OSError):  # raised when it is closed
            while True:
                connections.append(listening.accept()[0])

    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", connections


@pytest.mark.usefixtures("generated")
@pytest.mark.parametrize(
    "uri", ["http://someone:secret@127.0.0.1:1", "postgresql://someone:secret@127.0.0.1:1/mlflow", "silent"]
)
def test_unavailable_store_costs_seconds_and_a_spooled_record(
    uri: str, runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with silent_server() as (silent, connections):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", silent if uri == "silent" else uri)
        with stage_run("generate", PARAMS) as run:
            url = run.origin()["url"]
        assert len(connections) <= 6, "of a second each"
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/#/runs/\w{32}", url)
        [line] = capsys.readouterr().err.splitlines()
        assert re.match("warning: MLflow's store .* does not answer .*by: make mlflow-sync$", line)
        assert "secret" not in line
        with pytest.raises(OutOfReachError, match="does not answer") as refused:
            mlflow_sync.main()
        assert "secret" not in str(refused.value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    [folder] = pending()
    assert log_run(read_spooled(folder)) == ["run generate"]
    assert not log_run(build_record("generate", PARAMS))
    assert statuses(runs) == {"generate": "FINISHED"}


@contextmanager
def another_mlflow(_: pytest.MonkeyPatch) -> Iterator[str]:
    shutil.copy("mlflow.db", "copy.db")
    with closing(sqlite3.connect("mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'another'")
    yield (
        "another version of MLflow made it: its tables are of version another, .*; keep a copy and run: mlflow db "
        f"upgrade sqlite:///{Path.cwd()}/mlflow.db; .*: make mlflow-sync"
    )
    shutil.copy("copy.db", "mlflow.db")  # MLflow has it open


@contextmanager
def deleted_experiment(_: pytest.MonkeyPatch) -> Iterator[str]:
    mlflow.delete_experiment(store.open_store())
    command = "experiments restore --experiment-id 1"
    yield f"its experiment motionbench was deleted; restore it: mlflow {command}"
    assert CliRunner().invoke(experiments.commands, command.split()[1:]).exit_code == 0


@contextmanager
def old_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with answering(404, version="2.22.1") as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        yield f"is too old: its server has MLflow 2.22.1, .* MLflow 3; upgrade it to {mlflow.__version__}, as here, or "
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")


@pytest.mark.usefixtures("generated")
@pytest.mark.parametrize("answer", [another_mlflow, deleted_experiment, old_server])
def test_stage_goes_on_whatever_the_store_answers(
    answer: Callable[[pytest.MonkeyPatch], AbstractContextManager[str]],
    runs: Runs,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with answer(monkeypatch) as said:
        generate()
        [line] = capsys.readouterr().err.splitlines()
        end = "; work goes on; what it misses is logged at the end, or by: make mlflow-sync$"
        assert re.match(f"warning: MLflow's store .*{said}.*{end}", line)
        with pytest.raises(UserError, match=said):
            mlflow_sync.main()
    [folder] = pending()
    assert log_run(read_spooled(folder)) == ["run generate"]
    assert statuses(runs) == {"generate": "FINISHED"}


@pytest.mark.usefixtures("generated", "runs")
@pytest.mark.parametrize("uri", ["nowhere://", "sqlite:///params.yaml"])
@pytest.mark.parametrize("run", [partial(stage_run, "generate", PARAMS), partial(study_run, "name", "id", {})])
def test_address_that_can_be_no_store_is_refused_before_any_work(
    run: Callable[[], AbstractContextManager[Any]], uri: str, working_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    before, worked = Path("params.yaml").read_bytes(), []
    named = uri.replace("///", f"///{working_directory}/")
    with pytest.raises(UserError, match=rf"{named} cannot be opened: .*; set MLFLOW_TRACKING_URI to another"), run():
        worked.append(1)
    assert not worked
    assert Path("params.yaml").read_bytes() == before


@pytest.mark.usefixtures("runs")
def test_what_cannot_be_logged_holds_up_nothing_else(
    generated: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail_at_one(record: Record) -> list[str]:
        if record.id == "failing":
            raise OutOfReachError("MLflow's store does not answer (INTERNAL_ERROR)")
        return log_run(record)

    monkeypatch.setattr("motionbench.tracking.runs.log_run", fail_at_one)
    record = build_record("generate", PARAMS)
    for number, name in enumerate(("failing", "good1", "good2", "refused"), start=1):
        params = {"folder.(a)": "1"} if name == "refused" else record.params
        spool(record.model_copy(update={"id": name, "started": number, "content": name, "params": params}))
    (generated / "mlruns/pending/generate-cut off").mkdir()
    (generated / "mlruns/pending/generate-cut off/record.json").write_text("{", encoding="utf-8")
    (generated / "dvc.lock").write_text("stages: {}\n", encoding="utf-8")
    folder = generated.resolve() / "mlruns/pending"
    reasons = {
        "generate-1-failing": r"MLflow's store does not answer \(INTERNAL_ERROR\)",
        "generate-4-refused": r"MLflow's store .* refuses this \(.*folder\.\(a\).*\)",
        "generate-cut off": r"damaged, or of another version of this project \(.*\)",
    }
    for logged in (["generate-2-good1, pending: logged", "generate-3-good2, pending: logged"], []):
        with pytest.raises(SystemExit) as ended:
            mlflow_sync.main()
        assert ended.value.code
        done = capsys.readouterr()
        assert done.out.splitlines() == logged
        named = [line for line in done.err.splitlines() if "pending" in line]
        for line, (name, reason) in zip(named, reasons.items(), strict=True):
            give_up = f"rm -r {shlex.quote(str(folder / name))}"
            assert re.fullmatch(f"{name}, pending: not logged: {reason}; to give it up: {give_up}", line)
        assert {path.name for path in folder.iterdir()} == reasons.keys()
    assert [run.info.status for run in store.find_runs({"record.content": "good2"})] == ["FINISHED"]


@pytest.mark.usefixtures("generated", "runs")
def test_a_stage_that_trained_nothing_is_named_and_a_record_of_it_is_logged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    leave_untrained("cnn3d")
    write_json(stage_inputs_path("train_cnn3d"), {"params": {}, "md5s": {}})
    outs = [*(path.as_posix() for path in training_paths("cnn3d")), stage_inputs_path("train_cnn3d").as_posix()]
    entry = {"cmd": "", "outs": [{"path": out, "md5": path_md5(Path(out))} for out in outs]}
    write_json(DVC_LOCK, {"stages": {"train_cnn3d": entry}})  # which is YAML too
    monkeypatch.setattr(mlflow_sync, "commit_of", lambda _: None)
    spool(build_record("train_cnn3d", {}).model_copy(update={"id": "one", "started": 1}))
    capsys.readouterr()
    with pytest.raises(SystemExit):  # Other stages have not run.
        mlflow_sync.main()
    said = ["train_cnn3d-1-one, pending: logged", "train_cnn3d: nothing was trained"]
    assert capsys.readouterr().out.splitlines() == said
    assert pending() == []


def test_record_that_cannot_be_kept_costs_no_stage(
    runs: Runs, generated: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
    (generated / "mlruns").mkdir()
    (generated / "mlruns/pending").write_text("no folder", encoding="utf-8")
    generate()
    _, line = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: the record for MLflow cannot be kept: ")
    assert runs() == {}


def in_use() -> str | None:
    """Return the archive in use, as what `write_comparison_of` wrote."""
    store.open_store()
    version = version_in_use()
    return version.tags["md5"] if version else None


def md5_of(content: str) -> str:
    return hashlib.md5(content.encode(), usedforsecurity=False).hexdigest()


@pytest.fixture
def checkouts(generated: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two checkouts, A and B, that have comparisons of their own and one store."""
    del runs  # whose store they share
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{generated}/mlflow.db")
    for name, champion in (("A", "convlstm"), ("B", "cnn_lstm")):
        for each in ("data", "metrics", "reports"):
            shutil.copytree(each, generated / name / each)
        for each in ("dvc.yaml", "params.yaml"):
            shutil.copyfile(each, generated / name / each)
        with monkeypatch.context() as patch:
            patch.chdir(generated / name)
            write_comparison_of(champion, name)
    return generated


def compare_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with stage_run("compare", PARAMS):
        pass


def spool_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", AWAY)
        patch.setattr(store, "best_effort", store.BestEffort())
        compare_in(folder, monkeypatch)


def sync_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for spooled in pending():
        log_run(read_spooled(spooled))
    log_run(build_record("compare", PARAMS))


def test_the_alias_is_what_the_last_comparison_said_whoever_syncs(
    checkouts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in "sABsABAsBA":  # every order of the three is in it
        before = in_use()
        if step == "s":
            spool_in(checkouts / "A", monkeypatch)
            sync_in(checkouts / "B", monkeypatch)
            sync_in(checkouts / "A", monkeypatch)
        else:
            compare_in(checkouts / step, monkeypatch)
        assert in_use() == (before if step == "s" else md5_of(step)), "what was spooled or restored puts none in use"
    version = version_in_use()
    assert version
    assert {key: value for key, value in version.tags.items() if key != "started"} == {
        **{f"data.md5.{name}": path_md5(checkouts / "data" / name) for name in ("train", "test")},
        "classes": "a, b, c, d", "commit": "unknown", "gate.passed": "true", "git.dirty": "false", "md5": md5_of("A"),
        "model": "convlstm", "source": "synthetic",
    }  # fmt: skip # short items
    started = datetime.fromisoformat(version.tags["started"])
    assert started.utcoffset() == timedelta(0)
    times = {
        each.info.start_time for each in store.find_runs({"record.content": build_record("compare", PARAMS).content})
    }
    assert round(started.timestamp() * 1000) in times


def test_a_comparison_that_started_earlier_and_ends_later_leaves_the_alias(
    checkouts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(checkouts / "A")
    with stage_run("compare", PARAMS) as comparison:
        assert comparison.describe_champion_in_use(clips_of_comparison(), chosen=True) == []
        assert comparison.describe_champion_in_use(clips_of_comparison(), chosen=False) == ["No champion is in use."]
        compare_in(checkouts / "B", monkeypatch)
        monkeypatch.chdir(checkouts / "A")
        [sentence] = comparison.describe_champion_in_use(clips_of_comparison(), chosen=True)
        assert "which is of a later comparison; to use another: make promote." in sentence
        [sentence] = comparison.describe_champion_in_use(clips_of_comparison(), chosen=False)
        assert sentence.endswith("which was made from the same clips.")
    assert in_use() == md5_of("B")
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("version 2 of motionbench (convlstm; trained on synthetic clips: a, b, c, d; logged at ")
    assert line.endswith("is of a later comparison; to use it: make promote VERSION=2")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
    with stage_run("compare", PARAMS) as comparison:
        assert comparison.describe_champion_in_use(clips_of_comparison(), chosen=False) == []
        [line] = comparison.describe_champion_in_use(clips_of_comparison(), chosen=True)
        assert line.startswith("MLflow is unavailable. If it stays so, the champion is not in use; later: make mlflow-")


def test_a_comparison_that_does_not_end_well_promotes_nothing(checkouts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def changed() -> None:
        raise UserError("changed while it was logged")

    def fail(*_: object) -> None:
        raise OSError("no answer")

    compare_in(checkouts / "A", monkeypatch)
    monkeypatch.chdir(checkouts / "B")
    with pytest.raises(UserError, match="changed while"), stage_run("compare", PARAMS, check=changed):
        pass
    assert in_use() == md5_of("A")
    found = mlflow.search_runs(["1"], output_format="list")
    assert [each.info.status for each in found] == ["FAILED", "FINISHED"]
    with interrupt_after("log_inputs"), pytest.raises(KeyboardInterrupt):
        compare_in(checkouts / "B", monkeypatch)
    assert in_use() == md5_of("A"), "dvc.lock has no record of an interrupted stage"
    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "set_registered_model_alias", fail)
        compare_in(checkouts / "B", monkeypatch)
    sync_in(checkouts / "B", monkeypatch)
    assert in_use() == md5_of("A"), "its version is registered, and the next comparison puts it in use"
    compare_in(checkouts / "B", monkeypatch)
    assert in_use() == md5_of("B")
    assert len(mlflow.MlflowClient().search_model_versions("name = 'motionbench'")) == 2


@contextmanager
def interrupt_after(method: str) -> Iterator[None]:
    """Interrupt this process at each call of a method of MLflow's client, when it has done its work."""
    original = getattr(mlflow.MlflowClient, method)

    def interrupting(*arguments: Any, **options: Any) -> Any:
        result = original(*arguments, **options)
        signal.raise_signal(signal.SIGINT)
        return result

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mlflow.MlflowClient, method, interrupting)
            yield
    finally:
        signal.signal(signal.SIGINT, before)


def train() -> None:
    with stage_run("train_convlstm", {}, [("convlstm", ReplicateKey(0))]) as run:
        run.log_epoch("convlstm", {"seed": 0, "epoch": 1, "loss": 0.5, "seconds": 0.1})


def search() -> None:
    with study_run("name", "id", {"space": 1}):
        pass


TRAINED = ("train_convlstm", "train_convlstm seed 0")


@pytest.mark.usefixtures("generated")
@pytest.mark.parametrize(
    ("command", "method", "expected"),
    [
        (train, "create_run", dict.fromkeys(TRAINED, "KILLED")),
        (train, "log_batch", dict.fromkeys(TRAINED, "KILLED")),
        (search, "log_batch", {"tune name": "KILLED"}),
        (generate, "log_inputs", {"generate": "FINISHED"}),  # when all is logged
    ],
)
def test_interrupt_while_the_store_is_written_ends_the_runs(
    command: Callable[[], None], method: str, expected: dict[str, str], runs: Runs
) -> None:
    with interrupt_after(method), pytest.raises(KeyboardInterrupt):
        command()
    assert statuses(runs) == expected
