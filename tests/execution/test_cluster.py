"""The engine of a cluster, on a real one: two nodes on this machine, each with one core."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from motionbench.core.errors import UserError
from motionbench.core.files import file_md5
from motionbench.core.processes import RAY_ADDRESS
from motionbench.execution.cluster import MIXED, PIECE_BYTES, ClusterEngine, open_engine, put_file
from motionbench.execution.engine import FileTask, LocalEngine, run_tasks
from tests.conftest import ROOT, clean_environment, free_port
from tests.execution import tasks
from tests.execution.conftest import STORE_BYTES, TOKEN, needs_ray, on_cluster

CLIPS = bytes(PIECE_BYTES) + b"the next piece"


@pytest.fixture
def engine(cluster: Any) -> Iterator[ClusterEngine]:  # noqa: ARG001
    with open_engine() as engine:
        assert isinstance(engine, ClusterEngine)
        yield engine


def test_without_an_address_tasks_run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RAY_ADDRESS, raising=False)
    with open_engine() as engine:
        assert isinstance(engine, LocalEngine)


def test_a_file_that_is_replaced_while_it_is_sent_is_known_by_the_md5_of_what_was_sent(tmp_path: Path) -> None:
    (tmp_path / "clips.npy").write_bytes(b"old")

    def put(piece: bytes) -> bytes:
        (tmp_path / "clips.npy").write_bytes(b"new")
        return piece

    md5, pieces = put_file(tmp_path / "clips.npy", put)
    (tmp_path / "sent").write_bytes(b"".join(pieces))
    assert md5 == file_md5(tmp_path / "sent")


@on_cluster
def test_slots_are_those_of_all_nodes(engine: ClusterEngine) -> None:
    assert engine.slots(1) == 2
    too_many = r"^training.threads: 2: no node of the cluster has as many cores, the largest has 1; lower it, or add a "
    with pytest.raises(UserError, match=too_many):
        engine.slots(2)


@on_cluster
@pytest.mark.usefixtures("working_directory")
def test_files_come_once_by_content_and_go_back(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RAY_ADDRESS, cluster.address)
    contents = {"data/train/clips.npy": CLIPS, "data/train/same.npy": CLIPS, "data/b": b"b"}
    for name, content in contents.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content)
    outputs = [Path(f"models/{number}.keras") for number in range(4)]
    some = [
        FileTask(partial(tasks.read_and_describe, Path("data"), output), inputs=[Path("data")], outputs=[output])
        for output in outputs
    ]
    with open_engine() as engine:
        results = run_tasks(engine, some, 1)
    for result, output in zip(results, outputs, strict=True):
        assert result["names"] == sorted(contents)
        assert output.read_text(encoding="utf-8") == str([file_md5(Path(name)) for name in sorted(contents)])
        assert len(result["places"]) == 2, "the same content is one file"
        assert not result["folder"].exists(), "nothing is left behind"
    assert len({tuple(result["places"]) for result in results}) == 2, "a copy for each node"
    assert sorted(Path("models").iterdir()) == outputs, "and no temporary file"


@on_cluster
def test_the_folder_of_a_task_that_was_killed_is_removed_by_the_next(engine: ClusterEngine) -> None:
    killed = [engine.start(tasks.tell_folder_and_sleep) for _ in range(engine.slots(1))]
    folders: list[Path] = []
    while len(folders) < len(killed):
        folders += [message.content for _, message in engine.wait()]
    for task in killed:
        engine.kill(task)
    run_tasks(engine, [partial(tasks.wait_and_describe_machine, 2.0)] * 2, 1)  # one on each node
    assert not [folder for folder in folders if folder.exists()]


@on_cluster
def test_a_task_that_is_lost_again_and_again_is_given_up(engine: ClusterEngine) -> None:
    with pytest.raises(
        UserError, match=r"^a process was killed on node .* \(WorkerCrashedError\), perhaps because memory ran out"
    ):
        run_tasks(engine, [partial(tasks.signal_itself, signal.SIGKILL)], 1)


@on_cluster
def test_a_file_without_room_for_it_is_refused(engine: ClusterEngine, tmp_path: Path) -> None:
    clips = tmp_path / "clips.npy"
    with clips.open("wb") as file:
        file.truncate(3 * STORE_BYTES)
    with pytest.raises(
        UserError, match=rf"^{clips}: no room for it in Ray's object store on this machine; start Ray h"
    ):
        run_tasks(engine, [FileTask(tasks.process_id, inputs=[clips])], 1)


@on_cluster
def test_a_node_with_other_versions_is_refused_unless_allowed(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "keras-0.0.1.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: keras\nVersion: 0.0.1\n", encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path))
        node = cluster.add_node(**cluster.node)
    some = [partial(tasks.wait_and_describe_machine, 1.0)] * 3
    refused = r"^node \S+ \([\d.]+\): keras 0.0.1 instead of keras 3\S+: results may differ .*: export " + MIXED
    try:
        with open_engine() as engine, pytest.raises(UserError, match=refused):
            run_tasks(engine, some, 1)
        monkeypatch.setenv(MIXED, "allow")
        with open_engine() as engine:
            machines = run_tasks(engine, some, 1)
        assert ["keras 0.0.1" in machine for machine in sorted(machines)] == [True, False, False], "and recorded"
    finally:
        cluster.remove_node(node, allow_graceful=False)


def refusal_here(address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in ((RAY_ADDRESS, address), ("RAY_AUTH_MODE", "token")):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as refused:
        open_engine()
    return str(refused.value).removeprefix(f"RAY_ADDRESS: {address}: ")


def test_without_ray_a_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    said = refusal_here("127.0.0.1:6379", monkeypatch)
    assert said == "Ray is not installed here; run: make .venv/cluster, or unset RAY_ADDRESS"


@needs_ray
def test_an_address_without_an_answer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusal_here(f"127.0.0.1:{free_port()}", monkeypatch)
    assert said == ("no answer (Connection refused); start the cluster there: make cluster-head, or unset RAY_ADDRESS")


@pytest.mark.parametrize("address", ["auto", "ray://127.0.0.1:10001", "127.0.0.1", "127.0.0.1:port"])
def test_an_address_of_another_form_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusal_here(address, monkeypatch)
    assert said == "must be HOST:PORT of the cluster's head, as in 192.168.0.10:6379"


DRIVER = """
from motionbench.core.commands import run_command
from motionbench.execution.cluster import open_engine

run_command(open_engine)
"""


def refusal(program: str = DRIVER, apart: Sequence[str] = (), **environment: str) -> str:
    """Return the line with which a command ends in a process of its own."""
    variables = clean_environment() | {"PYTHONPATH": str(ROOT / "src")} | environment
    done = subprocess.run(
        [*apart, sys.executable, "-c", program], env=variables, capture_output=True, text=True, timeout=600, check=False
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.removeprefix("error: ").rstrip("\n")


@on_cluster
def test_a_missing_token_a_wrong_one_and_no_membership_are_refused(cluster: Any, tmp_path: Path) -> None:
    refused = (
        f"RAY_ADDRESS: {cluster.address}: this machine is no member of that cluster, or ~/.ray/auth_token is missing "
        f"or not its token; copy it from the head, and run: make cluster-join ADDRESS={cluster.address}"
    )
    assert refusal(RAY_AUTH_TOKEN="", HOME=str(tmp_path)) == refused
    assert refusal(RAY_AUTH_TOKEN=TOKEN[::-1]) == refused
    # Ray looks for its processes, and processes of another namespace are not seen.
    apart = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    if not subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:  # namespaces are allowed
        assert refusal(apart=apart) == refused


@on_cluster
def test_another_version_of_ray_is_refused(cluster: Any) -> None:
    other = f"import ray; ray.__version__ = '2.0.0'\n{DRIVER}"
    assert re.match(rf"RAY_ADDRESS: {cluster.address}: Version mismatch: The cluster .*2\.0\.0", refusal(other))
