"""What runs on a node of a cluster: a task, in a folder of its own with copies of the files that it reads."""

import os
import shutil
import socket
from collections.abc import Generator, Iterator, Sequence
from contextlib import chdir
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any, NamedTuple

import psutil
from filelock import FileLock

from motionbench.core.files import atomic_outputs
from motionbench.core.processes import describe_machine
from motionbench.execution.engine import FileTask, Message, run_task

Input = tuple[str, str, Sequence[Any]]
"""Path, md5, and the content in pieces, as Ray's references."""


class Sent(NamedTuple):
    """What a node sends: first where the task runs, then messages, each with the files that belong to it."""

    node: str = ""  # Ray's name for it
    host: str = ""
    about: Sequence[str] = ()
    message: Message | None = None
    kept: bytes | None = None  # None: not changed
    outputs: Sequence[bytes] = ()


def run_on_node(task: FileTask[Any], inputs: Sequence[Input], kept: bytes | None) -> Iterator[Sent]:
    """Run a task, and yield what it sends."""
    import ray

    context = ray.get_runtime_context()
    node = context.get_node_id()
    yield Sent(node=node, host=f"{socket.gethostname()} ({ray.util.get_node_ip_address()})", about=describe_machine())
    home = Path(context.get_temp_dir(), context.get_session_name(), "motionbench", node)
    home.mkdir(parents=True, exist_ok=True)
    for left in home.glob("task.*.*"):  # by a process that was killed; another may have its number, even this one
        process = int(left.name.split(".")[1])
        if process == os.getpid() or not psutil.pid_exists(process):
            shutil.rmtree(left, ignore_errors=True)  # Another task may be removing it too.
    with TemporaryDirectory(dir=home, prefix=f"task.{os.getpid()}.") as folder, chdir(folder):
        for name, md5, pieces in inputs:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).symlink_to(_fetch(home / "inputs" / f"{md5}.file", pieces))
        for path in (*task.outputs, *filter(None, [task.kept])):
            path.parent.mkdir(parents=True, exist_ok=True)
        if task.kept and kept is not None:
            task.kept.write_bytes(kept)
        last = yield from _events(task)
    yield last  # once the folder is removed, since whoever waits for it may end this process


def _events(task: FileTask[Any]) -> Generator[Sent, None, Sent]:
    """Run a task in a thread, since it reports by calls and Ray asks; yield its events, and return how it ended."""
    queue: SimpleQueue[Sent] = SimpleQueue()
    sent_before = read_kept(task)

    def send(message: Message) -> None:
        nonlocal sent_before
        kept = read_kept(task)
        outputs = [path.read_bytes() for path in task.outputs] if message.kind == "completed" else []
        queue.put(Sent(message=message, kept=kept if kept != sent_before else None, outputs=outputs))
        sent_before = kept

    Thread(target=lambda: send(run_task(task, lambda event: send(Message("event", event)))), daemon=True).start()
    while True:
        sent = queue.get()
        if sent.message and sent.message.kind != "event":
            return sent
        yield sent


def read_kept(task: FileTask[Any]) -> bytes | None:
    """Return the checkpoint of a task, None if there is none."""
    return task.kept.read_bytes() if task.kept and task.kept.exists() else None


def _fetch(file: Path, pieces: Sequence[Any]) -> Path:
    """Return a file of this node, fetched by the first task that needs it."""
    import ray

    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_suffix(".lock")):
        if not file.exists():
            with atomic_outputs(file) as (new,), new.open("wb") as stream:
                stream.writelines(ray.get(piece) for piece in pieces)
            file.chmod(0o444)  # shared by tasks
    return file
