from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import pytest
from ruamel.yaml import YAML

from motionbench.core.dvc_files import read_lock
from motionbench.core.errors import UserError
from motionbench.core.files import path_md5, write_json
from motionbench.core.processes import git
from motionbench.provenance.lineage import commit_of, lineage
from motionbench.tracking import address, store


def record(outs: Mapping[str, str], **params: Any) -> None:
    """Write a dvc.lock of one stage."""
    entry = {
        "cmd": "python -m pipeline.train convlstm",
        "deps": [{"path": "data/train", "md5": "1.dir"}, {"path": "src/motionbench/core", "md5": "2.dir"}],
        "params": {"params.yaml": params},
        "outs": [{"path": path, "md5": md5} for path, md5 in outs.items()],
    }
    with Path("dvc.lock").open("w", encoding="utf-8") as stream:
        YAML().dump({"stages": {"train_convlstm": entry}}, stream)


def commit(message: str) -> str:
    git("add", "--all")
    git("commit", "--quiet", "--message", message)
    return git("rev-parse", "HEAD").strip()


@pytest.fixture
def repository(working_directory: Path) -> Path:
    """A git repository without a commit, with the output of a stage and without a store."""
    git("init", "--quiet")
    for key, value in (("user.name", "test"), ("user.email", "test@example.org")):
        git("config", key, value)
    (working_directory / "models/convlstm").mkdir(parents=True)
    (working_directory / "models/convlstm/seed-0.keras").write_text("a model", encoding="utf-8")
    return working_directory


def shown(what: str) -> dict[str, str]:
    return dict(lineage(what))


@pytest.mark.usefixtures("repository")
def test_commit_is_the_one_that_added_what_dvc_lock_has() -> None:
    outs = {"models/convlstm": "1.dir"}
    record(outs, synthetic={"seed": 0})
    commit("first")
    record(outs, synthetic={"seed": 1})
    uncommitted = read_lock()["train_convlstm"]
    assert commit_of(uncommitted) is None
    added = commit("second")
    Path("other").write_text("other", encoding="utf-8")
    commit("of something else")
    with Path("dvc.lock").open("a", encoding="utf-8") as stream:
        stream.write("# a comment\n")
    commit("of dvc.lock, in a comment")
    assert commit_of(read_lock()["train_convlstm"]) == added


@pytest.mark.usefixtures("repository")
def test_path_and_md5_lead_to_the_same_lines() -> None:
    out = "models/convlstm"
    md5 = path_md5(Path(out))
    record({out: md5}, synthetic={"seed": 0})
    added = commit("recorded")
    lines = shown(out)
    assert lines[out] == f"{md5}, as recorded"
    assert lines["made by"] == "stage train_convlstm: python -m pipeline.train convlstm"
    assert lines["commit"].startswith(f"{added}, ")
    assert lines["from data"] == "data/train 1.dir"
    assert lines["from code"] == "1 files and folders, by md5 in dvc.lock"
    assert lines["parameters"] == "synthetic.seed=0"
    assert "make mlflow-sync" in lines["MLflow"]
    for what in (str(Path.cwd() / out), md5, md5.removesuffix(".dir")):
        assert shown(what) == lines
    file = f"{out}/seed-0.keras"
    assert shown(file)[file] == f"{path_md5(Path(file))}, in {out} {md5}, as recorded"
    assert shown(path_md5(Path(file))) == shown(file)
    assert not Path("mlflow.db").exists()


@pytest.mark.usefixtures("repository")
def test_difference_from_dvc_lock_is_shown() -> None:
    out, file = "models/convlstm", "models/convlstm/seed-0.keras"
    Path("README.md").write_text("A commit before dvc.lock.", encoding="utf-8")
    head = commit("first")
    recorded = f"{'a' * 32}.dir"
    record({out: recorded})
    assert shown(out)["commit"] == f"none yet: this dvc.lock is not committed; HEAD is {head}"
    assert f", DIFFERS from the recorded {recorded}" in shown(out)[out]
    assert f", in {out}, which DIFFERS from the recorded {recorded}" in shown(file)[file]
    # DVC's cache has the md5s of the files.
    listing = Path(".dvc/cache/files/md5/aa", recorded.removeprefix("aa"))
    listing.parent.mkdir(parents=True)
    write_json(listing, [{"relpath": "seed-0.keras", "md5": path_md5(Path(file))}])
    assert shown(file)[file].endswith(f", as recorded; other files in {out} differ")
    write_json(listing, [{"relpath": "seed-0.keras", "md5": "b"}])
    assert ", DIFFERS from the recorded b;" in shown(file)[file]
    Path(file).unlink()
    assert shown(file)[file] == f"not here; dvc.lock records {out} as {recorded}; get it: dvc pull"


@pytest.mark.usefixtures("repository")
def test_environment_is_that_of_the_recorded_timings() -> None:
    timing = Path("metrics/training_timing/convlstm.json")
    timing.parent.mkdir(parents=True)
    write_json(timing, {"environment": ["a processor", "2 cores"]})
    record({"models/convlstm": path_md5(Path("models/convlstm")), str(timing): path_md5(timing)})
    added = commit("recorded")
    expected = f"a processor, 2 cores; requirements.lock of {added[:10]}"
    assert shown("models/convlstm")["environment"] == expected
    write_json(timing, {"environment": ["another"]})
    assert shown("models/convlstm")["environment"] == expected
    record({"models/convlstm": path_md5(Path("models/convlstm")), str(timing): "never seen"})
    assert shown("models/convlstm")["environment"] == f"{timing} is not here as recorded; requirements.lock"


@pytest.mark.usefixtures("repository")
def test_earlier_md5_leads_to_the_commit_that_recorded_it() -> None:
    old = f"{'a' * 32}.dir"
    record({"models/convlstm": old}, synthetic={"seed": 0})
    added = commit("old")
    record({"models/convlstm": path_md5(Path("models/convlstm"))}, synthetic={"seed": 1})
    commit("new")
    git("rm", "--quiet", "dvc.lock")
    commit("without dvc.lock")
    record({"models/convlstm": path_md5(Path("models/convlstm"))}, synthetic={"seed": 1})
    for what in (old, old.removesuffix(".dir")):
        assert shown(what)["commit"].startswith(f"{added}, ")
        assert shown(what)["parameters"] == "synthetic.seed=0"


@pytest.mark.usefixtures("repository")
def test_md5_of_a_file_that_only_the_store_knows_leads_to_its_run() -> None:
    record({"models/convlstm": "2"})
    commit("recorded")
    names = ["reports/samples/(it's).gif", "reports/samples/the same.gif"]
    tags = {"dvc.stage": "generate", "md5.reports/samples": f"{'3' * 32}.dir", f"file.{'4' * 32}": "\n".join(names)}
    client = mlflow.MlflowClient(address.store_uri())
    run_id = client.create_run(store.open_store(), tags={**tags, "md5.models/old.keras": "5" * 32}).info.run_id
    for md5 in ("4" * 32, f"{'3' * 32}.dir", "5" * 32):  # the last as earlier versions tagged files
        lines = list(lineage(md5))
        assert lines[0][1].startswith(run_id)
        files = [text for label, text in lines if label == "file"]
        assert files == [
            f"models/old.keras {'5' * 32}, not here",
            f"reports/samples {'3' * 32}.dir, not here",
            *(f"{name} {'4' * 32}, not here" for name in names),
        ]


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("1" * 32, r"no md5 of an output here .* and no store at sqlite:.*: make mlflow-sync"),
        ("README.md", r"README\.md: not an output of a stage .*: git log -- README\.md"),
        ("", r"nothing: no output of a stage, md5 or run id; name one, as in make lineage FILE=models/\S+$"),
        ("$(touch x)", r"\$\(touch x\): not an output of a stage .*: git log -- '\$\(touch x\)'$"),
        ("models", r"models: not an output of a stage"),
    ],
)
def test_unknown_things_are_refused(what: str, message: str) -> None:
    for name in ("README.md", "$(touch x)"):
        Path(name).write_text("text", encoding="utf-8")
    record({"models/convlstm": "2"})
    commit("recorded")
    with pytest.raises(UserError, match=f"FILE: .*{message}"):
        shown(what)
