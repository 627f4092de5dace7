"""The engine of a cluster, on a real one: two nodes on this machine's loopback, each with one core."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from motionbench.core.errors import UserError
from motionbench.core.files import file_md5
from motionbench.execution.cluster import ADDRESS, MIXED, PIECE_BYTES, ClusterEngine, open_engine
from motionbench.execution.engine import Engine, FileTask, LocalEngine, local_engine, run_tasks
from tests.conftest import ROOT, allow_interrupts, clean_environment, free_port
from tests.execution import tasks
from tests.execution.clusters import STORE_BYTES, TOKEN, needs_ray, on_cluster, two_nodes
from tests.execution.test_engine import eventually, lives

CLIPS = bytes(PIECE_BYTES) + b"the next piece"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with two_nodes() as cluster:
        yield cluster


@pytest.fixture
def engine(cluster: Any) -> Iterator[ClusterEngine]:  # noqa: ARG001
    with open_engine() as engine:
        assert isinstance(engine, ClusterEngine)
        yield engine


def test_without_an_address_tasks_run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ADDRESS, raising=False)
    with open_engine() as engine:
        assert isinstance(engine, LocalEngine)


@on_cluster
def test_results_have_the_order_of_the_tasks_and_each_event_comes_once(engine: ClusterEngine) -> None:
    events: list[Any] = []
    some = [partial(tasks.tell_and_return, number, 0.1) for number in range(4)]
    assert run_tasks(engine, some, 1, events.append) == [0, 1, 2, 3]
    assert sorted(events) == sorted((number, what) for number in range(4) for what in ("started", "done"))


@on_cluster
def test_slots_are_those_of_all_nodes(engine: ClusterEngine) -> None:
    assert engine.slots(1) == 2
    with pytest.raises(
        UserError, match=r"^training.threads: 2: no node of the cluster has as many cores, the largest h"
    ):
        engine.slots(2)


@on_cluster
def test_processes_are_reused_and_a_fresh_one_ran_nothing(engine: ClusterEngine) -> None:
    kept = run_tasks(engine, [tasks.process_id] * 6, 1)
    assert len(set(kept)) <= 2
    fresh = []
    for _ in range(2):
        engine.start(tasks.process_id, fresh=True)
        [(_, message)] = engine.wait()
        fresh.append(message.content)
    assert len({*kept, *fresh}) == len(set(kept)) + 2


@on_cluster
def test_waiting_ends_at_its_timeout_and_a_task_ends_within_a_second(engine: ClusterEngine) -> None:
    assert engine.wait(0.0) == []
    task = engine.start(tasks.tell_process_id_and_sleep)
    [(told, message)] = engine.wait()
    assert (told, message.kind) == (task, "event")
    assert engine.wait(0.05) == []
    process = psutil.Process(message.content)
    engine.kill(task)
    eventually(lambda: not lives(process), seconds=1)
    assert engine.wait(0.5) == [], "a task that was ended says nothing"


@on_cluster
@pytest.mark.usefixtures("working_directory")
def test_files_come_once_by_content_and_go_back(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ADDRESS, cluster.address)
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
def test_a_task_that_is_lost_again_and_again_is_given_up(engine: ClusterEngine) -> None:
    with pytest.raises(
        UserError, match=r"^a process was killed on node .* \(WorkerCrashedError\), perhaps because memory ran out"
    ):
        run_tasks(engine, [partial(tasks.signal_itself, signal.SIGKILL)], 1)


@on_cluster
def test_failures_are_those_of_this_machine(engine: ClusterEngine) -> None:
    def failure(engine: Engine, task: Any) -> tuple[type, str]:
        engine.start(task)
        [(_, message)] = engine.wait()
        assert message.kind == "failed"
        return type(message.content), str(message.content).splitlines()[0]

    with local_engine() as local:
        for task in (tasks.divide_by_zero, tasks.open_missing_file, partial(tasks.refuse_after, 0.0)):
            assert failure(engine, task) == failure(local, task)


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
    refused = r"^node \S+ \(127.0.0.1\): keras 0.0.1 instead of keras 3\S+: results may differ .*: export " + MIXED
    try:
        with open_engine() as engine, pytest.raises(UserError, match=refused):
            run_tasks(engine, some, 1)
        monkeypatch.setenv(MIXED, "allow")
        with open_engine() as engine:
            machines = run_tasks(engine, some, 1)
        assert ["keras 0.0.1" in machine for machine in sorted(machines)] == [True, False, False], "and recorded"
    finally:
        cluster.remove_node(node, allow_graceful=False)


DRIVER = """
import sys
from motionbench.core.commands import run_command
from motionbench.execution.cluster import open_engine
from motionbench.execution.engine import run_tasks

def main():
    with open_engine() as engine:
        from ray import cloudpickle
        from tests.execution import tasks
        cloudpickle.register_pickle_by_value(tasks)
        run_tasks(engine, [tasks.tell_until_ended] * 2, 1, lambda process: print(process, flush=True))

if __name__ == "__main__":
    run_command(main)
"""


def driver(program: str = DRIVER, apart: Sequence[str] = (), **environment: str) -> "subprocess.Popen[str]":
    variables = clean_environment() | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])} | environment
    return subprocess.Popen(
        [*apart, sys.executable, "-c", program],
        env=variables,
        preexec_fn=allow_interrupts,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@on_cluster
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_task_outlives_its_driver(number: signal.Signals) -> None:
    with driver() as ended:
        assert ended.stdout is not None
        processes: set[int] = set()
        while len(processes) < 2:
            processes.add(int(ended.stdout.readline()))
        running = [psutil.Process(process) for process in processes]
        assert all(lives(process) for process in running)
        ended.send_signal(number)
        ended.communicate(timeout=30)
    assert ended.returncode == (-number if number == signal.SIGKILL else 130)
    eventually(lambda: not any(lives(process) for process in running))


def refusal(program: str = DRIVER, apart: Sequence[str] = (), **environment: str) -> str:
    """Return the line with which a driver ends."""
    with driver(program, apart, **environment) as ended:
        stdout, stderr = ended.communicate(timeout=60)
    assert (ended.returncode, stdout) == (2, ""), stderr
    assert stderr.count("\n") == 1, stderr
    return stderr.removeprefix("error: ").rstrip("\n")


def test_without_ray_a_line_says_how_to_install_it() -> None:
    hidden = f"import sys; sys.modules['ray'] = None\n{DRIVER}"
    assert refusal(hidden, RAY_ADDRESS="127.0.0.1:6379") == (
        "RAY_ADDRESS: 127.0.0.1:6379: Ray is not installed here; run: make .venv/cluster, or unset RAY_ADDRESS"
    )


@needs_ray
def test_an_address_without_an_answer_is_refused() -> None:
    address = f"127.0.0.1:{free_port()}"
    assert refusal(RAY_ADDRESS=address) == (
        f"RAY_ADDRESS: {address}: no answer (Connection refused); start the cluster there: make cluster-head, "
        "or unset RAY_ADDRESS"
    )


@pytest.mark.parametrize("address", ["auto", "ray://127.0.0.1:10001", "127.0.0.1", "127.0.0.1:port"])
def test_an_address_of_another_form_is_refused(address: str) -> None:
    assert refusal(RAY_ADDRESS=address) == (
        f"RAY_ADDRESS: {address}: must be HOST:PORT of the cluster's head, as in 192.168.0.10:6379"
    )


@on_cluster
def test_a_wrong_or_missing_token_is_refused(cluster: Any, tmp_path: Path) -> None:
    assert refusal(RAY_AUTH_TOKEN=TOKEN[::-1]) == (
        f"~/.ray/auth_token: not the token of the cluster at {cluster.address}; copy it from the head"
    )
    assert refusal(RAY_AUTH_TOKEN="", HOME=str(tmp_path)) == (
        f"~/.ray/auth_token: missing, the token of the cluster at {cluster.address}; copy it from the head"
    )


@on_cluster
def test_a_machine_that_is_no_member_is_refused(cluster: Any) -> None:
    # Ray looks for its processes, and processes of another namespace are not seen.
    apart = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system allows no namespaces")
    assert refusal(apart=apart) == (
        f"RAY_ADDRESS: {cluster.address}: this machine is no member of that cluster; run: make cluster-join "
        f"ADDRESS={cluster.address}"
    )


@on_cluster
def test_another_version_of_ray_is_refused(cluster: Any) -> None:
    other = f"import ray; ray.__version__ = '2.0.0'\n{DRIVER}"
    assert re.match(rf"RAY_ADDRESS: {cluster.address}: Version mismatch: The cluster .*2\.0\.0", refusal(other))
