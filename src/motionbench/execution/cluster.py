"""Run tasks on the machines of a Ray cluster, which share no files: what a task reads and writes travels with it.

Ray (https://docs.ray.io) is optional. Each task is a streaming generator of Ray's, whose items are its messages.
"""

import hashlib
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import motionbench
from motionbench.core.errors import UserError, one_line
from motionbench.core.files import atomic_outputs, files_below
from motionbench.core.processes import RAY_ADDRESS, describe_machine
from motionbench.execution.engine import FileTask, Message, Task, local_engine
from motionbench.execution.node import Sent, read_kept, run_on_node
from motionbench.execution.runtime import discarded_stderr

MIXED = "MOTIONBENCH_MIXED_CLUSTER"
LOOK_SECONDS = 5.0  # how often the nodes are asked for: a task on one that is gone would say nothing for a minute
ANSWER_SECONDS = 5
PIECE_BYTES = 32 * 2**20  # of a file, in one object of Ray's


def open_engine() -> closing[Any]:
    """Return the engine of the cluster that RAY_ADDRESS names, else that of this machine, as a context manager.

    Raises:
        UserError: if the cluster cannot be used.
    """
    return closing(ClusterEngine(os.environ[RAY_ADDRESS])) if os.environ.get(RAY_ADDRESS) else local_engine()


class RemoteTask:
    """A task that runs on the cluster, and the stream of what it sends."""

    def __init__(self, files: FileTask[Any], stream: Any) -> None:
        self.files = files
        self.stream = stream
        self.node = self.host = ""  # where it runs: Ray's name, and ours


class ClusterEngine:
    """The machines of a Ray cluster. Ray keeps their processes from one task to the next."""

    retries = 3

    def __init__(self, address: str) -> None:
        """Connect to the cluster.

        Raises:
            UserError: if Ray is missing or has another version, or if the cluster does not answer or refuses.
        """
        self._ray = _connect(address)
        # Another environment, so that Ray does not take a process that ran a task of the other kind.
        options = {"max_retries": 0, "num_returns": "streaming", "enable_task_events": False}
        fresh = {"max_calls": 1, "runtime_env": {"env_vars": {"MOTIONBENCH_FRESH": "1"}}}
        self._remote = {
            False: self._ray.remote(**options)(run_on_node),
            True: self._ray.remote(**options, **fresh)(run_on_node),
        }
        self._busy: dict[Any, RemoteTask] = {}  # by stream
        self._inputs: dict[tuple[Any, ...], tuple[str, list[Any]]] = {}  # md5 and pieces, by path, time and size
        self._looked = 0.0
        self._nodes: dict[str, dict[str, Any]] = {}

    def slots(self, threads: int) -> int:
        """Return how many tasks of `threads` threads each can run at once.

        Raises:
            UserError: if no machine has that many cores.
        """
        self._look()
        cores = [int(node["Resources"].get("CPU", 0)) for node in self._nodes.values()]
        if max(cores, default=0) < threads:
            raise UserError(
                f"training.threads: {threads}: no node of the cluster has as many cores, the largest has "
                f"{max(cores, default=0)}; lower it, or add a node: make cluster-join"
            )
        return sum(each // threads for each in cores)

    def prepare(self, imports: Task[None], workers: int) -> None:
        """Do nothing: a process imports what its first task needs, and is kept."""

    def start(self, task: Task[Any], *, threads: int = 1, fresh: bool = False) -> RemoteTask:
        """Start a task on a machine with as many idle cores, in a process that ran no other if `fresh`.

        Raises:
            UserError: if its inputs find no room in the memory that Ray shares.
        """
        files = task if isinstance(task, FileTask) else FileTask(task)
        inputs = [(path.as_posix(), *self._send(path)) for each in files.inputs for path in files_below(each)]
        stream = self._remote[fresh].options(num_cpus=threads).remote(files, inputs, read_kept(files))
        self._busy[stream] = RemoteTask(files, stream)
        return self._busy[stream]

    def wait(self, timeout: float | None = None) -> list[tuple[RemoteTask, Message]]:
        """Return the next messages of running tasks, none if `timeout` seconds pass without one.

        Files that come with a message are written before it is returned.

        Raises:
            UserError: if a node cannot run tasks, or may not.
        """
        deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
        while True:
            self._look()
            gone = [each for each in self._busy.values() if each.node and each.node not in self._nodes]
            for each in gone:
                self.kill(each)
            if gone:
                return [(each, Message("lost", f"node {each.host} is gone")) for each in gone]
            seconds = max(0.0, min(LOOK_SECONDS, deadline - time.monotonic()))
            if not self._busy:
                time.sleep(seconds)
                return []
            ready, _ = self._ray.wait(list(self._busy), timeout=seconds)
            messages = [(self._busy[stream], self._receive(self._busy[stream])) for stream in ready]
            told = [(each, message) for each, message in messages if message]
            if told or time.monotonic() >= deadline:
                return told

    def kill(self, task: RemoteTask) -> None:
        """End a task and its process."""
        del self._busy[task.stream]
        self._ray.cancel(task.stream, force=True)

    def close(self) -> None:
        """End all tasks and leave the cluster."""
        for task in list(self._busy.values()):
            self.kill(task)
        self._ray.shutdown()

    def _look(self) -> None:
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._nodes = {node["NodeID"]: node for node in self._ray.nodes() if node["Alive"]}
            self._looked = time.monotonic()

    def _send(self, path: Path) -> tuple[str, list[Any]]:
        """Put a file where all nodes can fetch it, once; return its md5 and its pieces."""
        version = (path, path.stat().st_mtime_ns, path.stat().st_size)
        if version not in self._inputs:
            exceptions = self._ray.exceptions
            try:
                self._inputs[version] = put_file(path, self._ray.put)
            except (exceptions.ObjectStoreFullError, exceptions.OutOfDiskError) as error:
                raise UserError(
                    f"{path}: no room for it in Ray's object store on this machine; start Ray here with more, as in "
                    "ray start --object-store-memory=BYTES, or free some space on the disk that it spills to"
                ) from error
        return self._inputs[version]

    def _receive(self, task: RemoteTask) -> Message | None:
        """Read what a task sent, write its files, and return its message."""
        exceptions = self._ray.exceptions
        try:
            sent: Sent = self._ray.get(next(task.stream))
        except exceptions.RayTaskError as error:  # from outside the task
            raise UserError(f"a node of the cluster cannot run tasks: {one_line(error.cause)}") from error
        except (StopIteration, exceptions.RayError) as error:
            del self._busy[task.stream]
            where = f" on node {task.host}" if task.host else ""
            return Message("lost", f"a process was killed{where} ({type(error).__name__})")
        if sent.message is None:
            task.node, task.host = sent.node, sent.host
            _check_machine(sent)
            return None
        if task.files.kept and sent.kept is not None:
            _write(task.files.kept, sent.kept)
        for path, content in zip(task.files.outputs, sent.outputs, strict=False):
            _write(path, content)
        if sent.message.kind != "event":
            del self._busy[task.stream]
        return sent.message


def put_file(path: Path, put: Callable[[bytes], Any]) -> tuple[str, list[Any]]:
    """Put a file in pieces; return the md5 of what was put, as the file may be replaced meanwhile, and the pieces."""
    digest, pieces = hashlib.md5(usedforsecurity=False), []
    with path.open("rb") as file:
        for piece in iter(partial(file.read, PIECE_BYTES), b""):
            digest.update(piece)
            pieces.append(put(piece))
    return digest.hexdigest(), pieces


def _check_machine(sent: Sent) -> None:
    """Refuse a node that may compute other results than this machine.

    Raises:
        UserError: if it is not allowed.
    """
    here = describe_machine()
    differences = [f"{there} instead of {ours}" for there, ours in zip(sent.about, here, strict=True) if there != ours]
    if differences and os.environ.get(MIXED) != "allow":
        raise UserError(
            f"node {sent.host}: {', '.join(differences)}: results may differ in their last bits; stop Ray "
            f"there, or allow it: export {MIXED}=allow"
        )


def _write(path: Path, content: bytes) -> None:
    with atomic_outputs(path) as (new,):
        new.write_bytes(content)


def _connect(address: str) -> Any:
    """Connect to a cluster and return Ray's module.

    Raises:
        UserError: if that is not possible.
    """
    host, _, port = address.rpartition(":")
    if not host or "/" in address or not port.isdecimal():
        raise UserError(f"{RAY_ADDRESS}: {address}: must be HOST:PORT of the cluster's head, as in 192.168.0.10:6379")
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    # How long Ray looks for a process of the cluster on this machine, by default a minute.
    os.environ.setdefault("RAY_gcs_server_request_timeout_seconds", str(ANSWER_SECONDS))
    if host in ("127.0.0.1", "localhost"):
        # Else Ray takes the machine's other address for 127.0.0.1, at which a head on the loopback does not answer.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise UserError(
            f"{RAY_ADDRESS}: {address}: Ray is not installed here; run: make .venv/cluster, or unset {RAY_ADDRESS}"
        ) from error
    try:  # Ray would wait for minutes.
        socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
    except OSError as error:
        raise UserError(
            f"{RAY_ADDRESS}: {address}: no answer ({error.strerror or error}); start the cluster there: make "
            f"cluster-head, or unset {RAY_ADDRESS}"
        ) from error
    interrupt = signal.getsignal(signal.SIGTERM)
    try:
        with discarded_stderr():
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level="ERROR",
                runtime_env={
                    "py_modules": [str(Path(motionbench.__file__).parent)],
                    "env_vars": {"TF_CPP_MIN_LOG_LEVEL": "3"},
                },
            )
    except (ConnectionError, ray.exceptions.AuthenticationError) as error:
        raise UserError(
            f"{RAY_ADDRESS}: {address}: this machine is no member of that cluster, or ~/.ray/auth_token is missing or "
            f"not its token; copy it from the head, and run: make cluster-join ADDRESS={address}"
        ) from error
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise UserError(f"{RAY_ADDRESS}: {address}: {one_line(error.__cause__ or error)}") from error
    finally:
        signal.signal(signal.SIGTERM, interrupt)  # which Ray replaces
    return ray
