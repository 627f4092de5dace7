"""A real Ray cluster for tests, and a link to a namespace that is another machine to it."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from motionbench.core.processes import RAY_ADDRESS
from tests.execution import tasks

TOKEN = "0123456789abcdef" * 4
STORE_BYTES = 80 * 2**20  # about the least that Ray allows
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: make .venv/cluster")


def on_cluster(test: Callable[..., None]) -> Any:
    """Mark a test that starts a cluster, which takes ten seconds, or processes on it."""
    return pytest.mark.slow(needs_ray(test))


class Link(NamedTuple):
    """A network of two machines: this one, and a namespace."""

    namespace: str
    here: str  # addresses
    there: str


@pytest.fixture(scope="session")
def link() -> Iterator[Link | str]:
    """A link to a network namespace, or why there is none."""
    name = f"apart{os.getpid()}"
    subnet = IPv4Address("10.128.0.0") + 4 * (os.getpid() % 2**20)
    link = Link(name, str(subnet + 1), str(subnet + 2))
    commands = [
        f"ip netns add {name}",
        f"ip link add {name} type veth peer name outside netns {name}",
        f"ip address add {link.here}/30 dev {name}",
        f"ip link set {name} up",
        f"ip -n {name} address add {link.there}/30 dev outside",
        f"ip -n {name} link set outside up",
        f"ip -n {name} link set lo up",
    ]
    refusal = "" if shutil.which("ip") else "ip is missing (iproute2)"
    try:
        for command in commands:
            if not refusal:
                done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
                refusal = f"{command}: {done.stderr.strip()}" if done.returncode else ""
        yield refusal or link
    finally:
        if Path("/run/netns", name).exists():
            subprocess.run(["ip", "netns", "delete", name], check=True)  # and with it the link


@pytest.fixture(scope="session")
def two_nodes(link: Link | str) -> Iterator[tuple[Any, dict[str, str]]]:
    """A cluster of two nodes on this machine, each with one core, and the variables with which it is used."""
    host = link.here if isinstance(link, Link) else "127.0.0.1"
    settings = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": str(int(isinstance(link, Link))),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        from ray import cloudpickle
        from ray.cluster_utils import Cluster

        cloudpickle.register_pickle_by_value(tasks)  # The nodes have motionbench, and not its tests.
        node = {"num_cpus": 1, "object_store_memory": STORE_BYTES, "node_ip_address": host}
        # Ray takes the disk for full when it wants to write objects to it.
        full = {"_system_config": {"local_fs_capacity_threshold": 0.0001}}
        cluster = Cluster(initialize_head=True, head_node_args={**node, **full, "include_dashboard": False})
        cluster.node = node
        cluster.add_node(**node)
    yield cluster, settings | {RAY_ADDRESS: cluster.address}
    cluster.shutdown()


@pytest.fixture
def cluster(two_nodes: tuple[Any, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> Any:
    """That cluster, which this test's process uses; tests must leave it as it is."""
    for name, value in two_nodes[1].items():
        monkeypatch.setenv(name, value)
    return two_nodes[0]
