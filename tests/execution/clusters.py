"""Real Ray clusters for tests."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import pytest

from motionbench.execution.cluster import ADDRESS
from tests.execution import tasks

LOOPBACK = "127.0.0.1"
TOKEN = "0123456789abcdef" * 4
STORE_BYTES = 80 * 2**20  # about the least that Ray allows
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: make .venv/cluster")


def on_cluster(test: Callable[..., None]) -> Any:
    """Mark a test that starts a cluster, which takes ten seconds, or processes on it."""
    return pytest.mark.slow(needs_ray(test))


@contextmanager
def two_nodes(host: str = LOOPBACK, head_cores: int = 1) -> Iterator[Any]:
    """Yield a cluster at an address of this machine, which is in RAY_ADDRESS: the head, and a node with one core."""
    settings = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": str(int(host != LOOPBACK)),
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
        head = {"num_cpus": head_cores, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args={**node, **full, **head})
        cluster.node = node
        try:
            cluster.add_node(**node)
            patch.setenv(ADDRESS, cluster.address)
            yield cluster
        finally:
            cluster.shutdown()
