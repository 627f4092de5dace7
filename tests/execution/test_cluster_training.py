"""Training for real on a cluster: the same bytes as on this machine, whatever dies meanwhile."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from motionbench.core.files import file_md5s, write_json
from motionbench.core.paths import CHECKPOINTS, DATA, DATASET_INFO, MODELS, TRAINING_METRICS, part_path
from motionbench.data.folds import training_folders
from motionbench.data.splits import SPLITS, write_split
from motionbench.data.synthetic.frames import draw_split
from motionbench.execution.cluster import ClusterEngine, RemoteTask
from motionbench.execution.engine import Engine, FileTask, Message, local_engine
from motionbench.params.schema import Params
from motionbench.training.replicates import train_model
from motionbench.tuning.objective import run_trial
from tests.conftest import DRAWN_DATASET, ROOT, TINY, allow_interrupts, clean_environment, clone_with, drawing, run
from tests.execution.conftest import STORE_BYTES, Link, on_cluster
from tests.execution.test_engine import eventually, lives

Load = Callable[[dict[str, Any]], Params]
FOLDS = 3
EPOCHS = 10  # so many that a training can be hit in the middle
CHANGES = TINY | {
    **{f"{name}.filters": [2] for name in ("cnn_lstm", "convlstm")},  # one layer: building a network takes longest
    **{f"{name}.kernel_sizes": [3] for name in ("cnn_lstm", "convlstm")},
    "training.seeds": [0],
    "training.target_loss": 0.0,
    "training.patience": EPOCHS,
    "convlstm.epochs": EPOCHS,
}


# Of this machine's files it has the system's and those of the Python environment.
NODE_APART = """
hostname apart
for folder in "$@"; do mount -t tmpfs tmpfs "$folder"; done
cd /
exec ray start --block \
  --address="$RAY_ADDRESS" --node-ip-address="$HOST" --num-cpus=1 --object-store-memory="$STORE_BYTES"
"""


@pytest.fixture
def apart(cluster: Any, link: Link | str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[psutil.Process]:
    """The process of a node in namespaces of its own, which is a machine to Ray and to the tasks there."""
    if isinstance(link, str):
        pytest.skip(f"this system allows no namespaces: {link}")
    temporary = [tmp_path_factory.getbasetemp(), cluster.head_node.get_temp_dir_path(), "/dev/shm"]  # noqa: S108
    hidden = map(str, [*ROOT.glob("[!.]*/"), *temporary])
    namespaces = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command = ["ip", "netns", "exec", link.namespace, *namespaces, "sh", "-euc", NODE_APART, "sh", *hidden]
    settings = {"HOST": link.there, "STORE_BYTES": str(STORE_BYTES)}
    with subprocess.Popen(command, env=clean_environment() | settings) as unshare:
        try:
            eventually(lambda: number_of_nodes(cluster) == 3)
            [node] = psutil.Process(unshare.pid).children()
            yield node
            node.terminate()  # so that the cluster knows at once
            unshare.wait(300)
        finally:
            unshare.kill()  # and with it all processes of its namespace
    eventually(lambda: number_of_nodes(cluster) == 2)


def number_of_nodes(cluster: Any) -> int:
    return sum(node["Alive"] for node in cluster.global_state.node_table())


@pytest.fixture(scope="module")
def params(params_with: Load) -> Params:
    return params_with(CHANGES)


@pytest.fixture(scope="module")
def clips(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the clips of three folds."""
    folder = tmp_path_factory.mktemp("clips")
    with chdir(folder):
        for part, split in enumerate(SPLITS):
            (DATA / split).mkdir(parents=True)  # empty where there are folds
            part_path(part).mkdir(parents=True)
            write_split(part_path(part), draw_split(split, drawing(params)))
        write_json(DATASET_INFO, DRAWN_DATASET.model_copy(update={"folds": FOLDS}).model_dump())
    return folder / DATA


Outputs = dict[str, str]


def train(
    engine: Engine, params: Params, model_name: str, on_epoch: Callable[[Any], None] = lambda _epoch: None
) -> Outputs:
    """Train all replicates of a model in the working directory and return the md5s of its outputs."""
    train_model(engine, model_name, params, "digest", on_epoch, partial(bool, 1))
    return outputs(Path(), model_name)


def outputs(folder: Path, model_name: str) -> Outputs:
    with chdir(folder):
        return file_md5s(MODELS / model_name) | file_md5s(TRAINING_METRICS / model_name)


def losses_of_trials(engine: Engine, params: Params, trials: int) -> list[tuple[float, ...]]:
    """Run the same trial several times at once, each in a process that ran nothing before."""
    call = partial(run_trial, "cnn_lstm", params.model("cnn_lstm"), params.training, [3])
    task = FileTask(call, inputs=[DATASET_INFO, *training_folders(0)])
    losses: dict[Any, list[float]] = {engine.start(task, fresh=True): [] for _ in range(trials)}
    running = len(losses)
    while running:
        for each, message in engine.wait():
            assert message.kind in ("event", "completed"), message.content
            running -= message.kind == "completed"
            if "validation_loss" in message.content:
                losses[each] += [message.content["validation_loss"], message.content["validation_accuracy"]]
    return [tuple(each) for each in losses.values()]


@pytest.fixture(scope="module")
def local(params: Params, clips: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What this machine computes."""
    with chdir(tmp_path_factory.mktemp("local")), local_engine() as engine:
        DATA.symlink_to(clips)
        trained = {name: train(engine, params, name) for name in ("cnn_lstm", "convlstm")}
        return trained | {"trials": losses_of_trials(engine, params, 1)}


class WatchedEngine(ClusterEngine):
    """An engine that shows each message before it is heeded."""

    def __init__(self, address: str, watch: Callable[[RemoteTask, Message], None]) -> None:
        super().__init__(address)
        self.watch = watch

    def wait(self, timeout: float | None = None) -> list[tuple[RemoteTask, Message]]:
        told = super().wait(timeout)
        for task, message in told:
            self.watch(task, message)
        return told


@on_cluster
@pytest.mark.usefixtures("working_directory")
def test_a_node_that_sees_neither_code_nor_clips_computes_the_same(
    cluster: Any, apart: psutil.Process, params: Params, clips: Path, local: dict[str, Any]
) -> None:
    def seen(path: Path) -> Path:
        return Path(f"/proc/{apart.pid}/root", path.relative_to("/"))

    assert not list(seen(ROOT / "src").iterdir())
    assert not seen(clips).exists()
    completed: list[str] = []

    def watch(task: RemoteTask, message: Message) -> None:
        if message.kind == "completed":
            completed.append(task.host.split()[0])

    DATA.symlink_to(clips)
    homes = partial(seen(Path(cluster.head_node.get_temp_dir_path())).glob, "session_*/motionbench/*")
    before = set(homes())  # of other tests
    with closing(WatchedEngine(cluster.address, watch)) as engine:
        assert engine.slots(1) == 3
        for name in ("cnn_lstm", "convlstm"):
            assert train(engine, params, name) == local[name]
        assert "apart" in completed
        completed.clear()
        assert losses_of_trials(engine, params, 3) == 3 * local["trials"]
    assert sorted(completed) == sorted(["apart", *[socket.gethostname()] * 2])
    received = [file for home in set(homes()) - before for file in home.glob("inputs/*.file")]
    assert {file.stem for file in received} == set(file_md5s(clips).values())


@on_cluster
@pytest.mark.usefixtures("working_directory")
def test_a_training_whose_node_dies_goes_on_from_its_checkpoint(
    cluster: Any, params: Params, clips: Path, local: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    third = cluster.add_node(**cluster.node)
    raylet = psutil.Process(third.all_processes["raylet"][0].process.pid)
    lost: dict[Path, list[float]] = {}
    killed = False

    def watch(task: RemoteTask, message: Message) -> None:
        nonlocal killed
        if message.kind == "lost":
            assert task.files.kept
            lost[task.files.kept] = epoch_seconds(task.files.kept)
        elif not killed and task.node == third.node_id and message.content["epoch"] == 2:
            for process in (raylet, *raylet.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):  # ended with the raylet
                    process.kill()
            killed = True

    DATA.symlink_to(clips)
    epochs: list[tuple[int, int]] = []
    try:
        with closing(WatchedEngine(cluster.address, watch)) as engine:
            trained = train(engine, params, "convlstm", lambda epoch: epochs.append((epoch["fold"], epoch["epoch"])))
    finally:
        cluster.remove_node(third, allow_graceful=False)
    assert trained == local["convlstm"]
    assert sorted(epochs) == [(fold, epoch) for fold in range(FOLDS) for epoch in range(1, EPOCHS + 1)], "each once"
    [(checkpoint, before)] = lost.items()
    assert 2 <= len(before) < EPOCHS
    assert epoch_seconds(checkpoint)[: len(before)] == before, "nothing before the checkpoint is trained again"
    time.sleep(1.0)  # Ray's word of the node comes later than the engine's
    assert re.fullmatch(r".* node \S+ \(.*\).*: its task is started again\n", capfd.readouterr().err)


def epoch_seconds(checkpoint: Path) -> list[float]:
    """Return how long each epoch took, which no other run of it would take."""
    with np.load(checkpoint) as archive:
        _, _, seconds, _ = json.loads(archive["arr_0"].item())
    return list(seconds)


@on_cluster
def test_a_training_goes_on_after_each_signal_to_its_driver(
    cluster: Any, clips: Path, local: dict[str, Any], tmp_path: Path
) -> None:
    clone = clone_with(CHANGES, tmp_path)
    for folder in clips.iterdir():
        shutil.copytree(folder, clone / DATA / folder.name)
    command = [sys.executable, "-m", "pipeline.train", "convlstm"]
    shown: set[str] = set()
    seconds: dict[Path, list[float]] = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        with subprocess.Popen(
            command,
            cwd=clone,
            env=clean_environment(),
            preexec_fn=allow_interrupts,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as driver:
            assert driver.stdout
            assert driver.stderr
            # An epoch before its checkpoint is shown again, and Ray says which nodes of earlier tests have gone.
            while (line := driver.stdout.readline()) and (line in shown or " epoch " not in line):
                pass
            assert line, driver.stderr.read()
            running = running_tasks(cluster)
            assert running
            driver.send_signal(number)
            rest, messages = driver.communicate(timeout=600)
        assert driver.returncode == (-number if number == signal.SIGKILL else 130), messages
        eventually(partial(have_ended, running))
        shown |= {line, *rest.splitlines(keepends=True)}
        for checkpoint, before in seconds.items():
            assert epoch_seconds(checkpoint)[: len(before)] == before, "nothing before it is trained again"
        seconds = {path: epoch_seconds(path) for path in (clone / CHECKPOINTS).glob("*/*.npz")}
        assert seconds
    done = run(clone, *command)
    assert done.returncode == 0, done.stderr
    assert outputs(clone, "convlstm") == local["convlstm"]


def have_ended(processes: list[psutil.Process]) -> bool:
    return not any(lives(process) for process in processes)


def running_tasks(cluster: Any) -> list[psutil.Process]:
    """Return the processes of this machine's nodes that run a task, by the name that Ray gives them."""
    raylets = [psutil.Process(node.all_processes["raylet"][0].process.pid) for node in cluster.list_all_nodes()]
    processes = [process for raylet in raylets for process in raylet.children(recursive=True)]
    return [process for process in processes if lives(process) and process.cmdline()[:1] == ["ray::run_on_node"]]
