import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from motionbench.core import inputs
from motionbench.core.dvc_files import flatten, read_lock
from motionbench.core.errors import UserError
from motionbench.core.files import path_md5, read_json
from motionbench.core.inputs import Inputs, check_recorded, code_md5s, inputs_digest, read_inputs
from motionbench.core.paths import cached_path, stage_inputs_path

DVC_YAML = """
stages:
  draw:
    cmd: python -m draw
    deps: [src/code.py, data]
    params: [drawing]
    outs: [drawn, {metrics/inputs/draw.json: {cache: false}}]
  train:
    cmd: python -m train
    deps: [drawn]
    outs: [model, metrics/inputs/train.json]
"""
PARAMS = "drawing: {seed: 0, sizes: [1, 2]}\nother: 1\n"


@pytest.fixture
def repository(working_directory: Path) -> Path:
    """Two stages in the working directory, of which the first has not run."""
    for path, text in {
        "dvc.yaml": DVC_YAML,
        "params.yaml": PARAMS,
        "src/code.py": "code",
        "data/a": "one",
        "data/b": "two",
        "drawn/picture": "a picture",
        ".dvcignore": "*.swp\n",
    }.items():
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text(text, encoding="utf-8")
    return working_directory


def started() -> Inputs:
    return read_inputs("draw", {"drawing.seed": 0, "drawing.sizes": (1, 2)}, time.time())


def record(params: object, **deps: str) -> None:
    """Write a dvc.lock of the first stage."""
    outs = [{"path": path, "md5": path_md5(Path(path))} for path in ("drawn", "metrics/inputs/draw.json")]
    entry = {
        "cmd": "python -m draw",
        "deps": [{"path": path, "md5": deps.get(path, path_md5(Path(path)))} for path in ("src/code.py", "data")],
        "params": {"params.yaml": {"drawing": params}},
        "outs": outs,
    }
    with Path("dvc.lock").open("w", encoding="utf-8") as stream:
        YAML().dump({"schema": "2.0", "stages": {"draw": entry}}, stream)


def write_param() -> None:
    Path("params.yaml").write_text(PARAMS.replace("seed: 0", "seed: 1"), encoding="utf-8")


def undo_in_between() -> None:
    code = Path("src/code.py").read_bytes()
    Path("src/code.py").write_text("other code", encoding="utf-8")
    Path("src/code.py").write_bytes(code)


def swap() -> None:
    """Give a file older content of the same size, as `mv` does."""
    Path("data/c").write_text("six", encoding="utf-8")
    os.utime("data/c", (1, 1))
    Path("data/c").rename("data/a")


EDITS: dict[str, tuple[Callable[[], object], str]] = {
    "a parameter": (write_param, "params.yaml: drawing.seed: 0 became 1"),
    "a section": (lambda: Path("params.yaml").write_text("other: 1\n"), "drawing.seed: 0 became none"),
    "params.yaml, in the middle of an edit": (lambda: Path("params.yaml").write_text("drawing: {"), "not readable"),
    "code": (lambda: Path("src/code.py").write_text("other code"), "src/code.py"),
    "code that is changed back": (undo_in_between, "src/code.py"),
    "a clip": (swap, "data/a"),
    "a new clip": (lambda: Path("data/c").touch(), "data/c"),
    "a clip that is removed": (lambda: Path("data/b").unlink(), "data/b"),
    "all clips": (lambda: shutil.rmtree("data"), "data/a; data/b"),
    "dvc.yaml": (lambda: Path("dvc.yaml").write_text(DVC_YAML.replace(" data]", " drawn]")), "dvc.yaml: draw"),
    "a command": (lambda: Path("dvc.yaml").write_text(DVC_YAML.replace("-m draw", "-v -m draw")), "dvc.yaml: draw"),
    "a stage that is gone": (lambda: Path("dvc.yaml").write_text("stages: {}"), "dvc.yaml: draw"),
}


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize("edit", EDITS)
def test_what_is_changed_while_a_stage_runs_is_named_and_nothing_is_written(edit: str) -> None:
    used = started()
    change, named = EDITS[edit]
    change()
    for call in (used.check, used.write):
        with pytest.raises(UserError, match="draw: changed while the stage ran: ") as refused:
            call()
        assert named in str(refused.value)
    assert not Path("metrics").exists()


@pytest.mark.usefixtures("repository")
def test_what_a_stage_does_not_use_may_change() -> None:
    used = started()
    Path("params.yaml").write_text(f"# a comment\n{PARAMS.replace('other: 1', 'other: 2')}", encoding="utf-8")
    Path("dvc.yaml").write_text(DVC_YAML.replace("model", "network"), encoding="utf-8")
    Path("src/other.py").touch()
    Path("data/.a.swp").touch()  # an editor's, which .dvcignore names
    Path("drawn/picture").write_text("another", encoding="utf-8")
    used.write()
    used.check()
    written = read_json(stage_inputs_path("draw"))
    assert written["params"] == {"drawing.seed": 0, "drawing.sizes": [1, 2]}
    assert written["md5s"] == {path: path_md5(Path(path)) for path in ("src/code.py", "data")}


@pytest.mark.usefixtures("repository")
def test_code_that_is_newer_than_the_process_is_refused() -> None:
    with pytest.raises(UserError, match=r"draw: src/code\.py: changed while the stage started"):
        read_inputs("draw", {}, time.time() - 60)
    ahead = time.time() + 3600  # by a clock that is
    os.utime("src/code.py", (ahead, ahead))
    started()


@pytest.mark.usefixtures("repository")
def test_a_stage_without_the_output_that_says_what_it_used_is_refused() -> None:
    Path("dvc.yaml").write_text(DVC_YAML.replace(", metrics/inputs/train.json", ""), encoding="utf-8")
    with pytest.raises(UserError, match=r"dvc\.yaml: train: outs lacks metrics/inputs/train\.json, .*; add it$"):
        read_inputs("train", {}, time.time())


@pytest.mark.usefixtures("repository")
def test_a_path_into_the_repository_is_relative_as_in_dvc_lock() -> None:
    Path("dvc.yaml").write_text(DVC_YAML.replace(" data]", f" {Path.cwd()}/data]"), encoding="utf-8")
    assert [*started().md5s] == ["src/code.py", "data"]


@pytest.mark.usefixtures("repository")
def test_dvc_lock_that_records_what_was_not_used_is_refused() -> None:
    started().write()
    used = {"seed": 0, "sizes": [1, 2]}
    lies = [
        ({"seed": 1, "sizes": [1, 2]}, {}, "drawing.seed: 1 is recorded, but the stage used 0"),
        (used, {"data": "1.dir"}, "data: 1.dir is recorded"),
    ]
    for params, deps, named in lies:
        record(params, **deps)
        with pytest.raises(UserError, match=r"dvc repro --single-item --force draw") as refused:
            check_recorded(list(read_lock().values()))
        assert named in str(refused.value)
        with pytest.raises(UserError, match=f"{named}.*; the record is removed: run the command again$"):
            read_inputs("train", {}, time.time())
        assert read_lock() == {}
        started()  # The stage itself may run, which puts it right.
    record(used)
    check_recorded(list(read_lock().values()))
    read_inputs("train", {}, time.time())


@pytest.mark.usefixtures("repository")
def test_dvc_lock_of_other_outputs_than_those_here_is_not_judged() -> None:
    started().write()
    record({"seed": 1, "sizes": [1, 2]})
    write_param()
    read_inputs("draw", flatten({"drawing": {"seed": 1, "sizes": [1, 2]}}), time.time()).write()
    check_recorded(list(read_lock().values()))
    stage_inputs_path("draw").unlink()
    check_recorded(list(read_lock().values()))


@pytest.mark.usefixtures("repository")
def test_what_an_earlier_run_used_is_read_from_the_cache() -> None:
    started().write()
    record({"seed": 1, "sizes": [1, 2]})
    md5 = path_md5(stage_inputs_path("draw"))
    kept = cached_path(md5)
    kept.parent.mkdir(parents=True)
    stage_inputs_path("draw").rename(kept)
    with pytest.raises(UserError, match=r"drawing\.seed: 1 is recorded"):
        check_recorded(list(read_lock().values()))


@pytest.mark.usefixtures("repository")
def test_code_and_data_are_current_until_they_are_touched() -> None:
    used = started()
    write_param()
    assert used.are_current(), "parameters are those that the stage has read"
    undo_in_between()
    assert not used.are_current()
    Path("dvc.yaml").unlink()
    assert used.are_current(), "a node of a cluster has copies of its own"


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize("cache", [".dvc/cache", "elsewhere"])
def test_false_runs_are_removed_wherever_the_cache_is_and_whatever_else_lies_there(cache: str) -> None:
    Path(".dvc").mkdir()
    Path(".dvc/config.local").write_text(f"[cache]\n    dir = {Path(cache).resolve()}\n", encoding="utf-8")
    started().write()
    run = Path(cache, "runs/aa/aab")
    run.mkdir(parents=True)
    for seed in (0, 1):
        record({"seed": seed, "sizes": [1, 2]})
        entry = YAML(typ="safe").load(Path("dvc.lock"))["stages"]["draw"]
        with (run / f"seed{seed}").open("w", encoding="utf-8") as stream:
            YAML().dump(entry, stream)
    (run / "empty").touch()
    with pytest.raises(UserError, match="the record is removed"):
        read_inputs("train", {}, time.time())
    assert [path.name for path in run.iterdir()] == ["seed0"]
    assert read_lock() == {}


def test_the_digest_follows_parameters_clips_code_and_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    def digest(clip: str = "1", **params: int) -> str:
        return inputs_digest(params, {**code_md5s("core"), "clip": clip})

    digests = [digest(a=1), digest(a=2), digest("2", a=1)]
    assert digests[0] == digest(a=1)
    monkeypatch.setattr(inputs, "_versions", lambda: {"av": "99"})
    digests.append(digest(a=1))
    monkeypatch.setattr(inputs, "file_md5", lambda _file: "other code")
    digests.append(digest(a=1))
    assert len(set(digests)) == 5


def test_code_is_all_files_of_the_packages_named() -> None:
    found = code_md5s("core", "data")
    assert found["core/inputs.py"] == path_md5(Path(inputs.__file__))
    assert {path.partition("/")[0] for path in found} == {"core", "data"}
    assert {Path(path).suffix for path in found} == {".py"}
