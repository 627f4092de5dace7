"""What a task costs on a Ray cluster: two nodes on this machine's loopback, against processes of this machine.

python -m benchmarks.cluster writes benchmarks/CLUSTER.md. Needs Ray: make .venv/cluster.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from operator import methodcaller
from statistics import median
from typing import Any

import psutil

from benchmarks.common import HERE, Result, machine, markdown_table, seconds_of, write_page
from motionbench.execution.cluster import ADDRESS, open_engine
from motionbench.execution.engine import EventCallback, run_tasks

TASKS = (1_000, 4_000)
WARM_UP = 20
ROUNDS = 3
EMPTY = methodcaller("__call__", 0)  # A task is called with the function that sends an event. Nodes have operator.


def main() -> None:
    """Measure, and write the tables."""
    rows = []
    with two_nodes() as cluster:
        for where, address in (("this machine", ""), ("cluster", cluster.address)):
            for tasks in TASKS:
                measured = [in_new_process(cost_of_tasks, address, tasks) for _ in range(ROUNDS)]
                rows.append(
                    {
                        "where": where,
                        "tasks": f"{tasks:,}",
                        "ms per task": f"{median(each['milliseconds'] for each in measured):.2f}",
                        "driver's memory grows by, MB": f"{median(each['megabytes'] for each in measured):.1f}",
                    }
                )
        deaths = [seconds_until_noticed(cluster) for _ in range(ROUNDS)]
    noticed = f"A node whose processes are killed is noticed after {median(deaths):.1f} s."
    how = f"On {machine()}. A task sends one event and does nothing else; medians of {ROUNDS} runs."
    write_page(HERE / "CLUSTER.md", ["# What a task costs on a cluster", how, markdown_table(rows), noticed])


@contextmanager
def two_nodes() -> Iterator[Any]:
    """Yield a cluster of two nodes with a core each on the loopback; stop it afterwards."""
    os.environ |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": os.urandom(32).hex(),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # the loopback
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"node_ip_address": "127.0.0.1", "include_dashboard": False})
    try:
        cluster.add_node(node_ip_address="127.0.0.1")
        yield cluster
    finally:
        cluster.shutdown()


def in_new_process(function: Callable[..., Result], *arguments: Any) -> Result:
    """Return what `function` returns in a new process, which may start others."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def cost_of_tasks(address: str, tasks: int) -> dict[str, float]:
    """Run empty tasks and return the milliseconds of each, and by how much the memory of this process grew."""
    os.environ[ADDRESS] = address
    with open_engine() as engine:
        run_tasks(engine, [EMPTY] * WARM_UP, 1)
        before, started = psutil.Process().memory_info().rss, time.perf_counter()
        run_tasks(engine, [EMPTY] * tasks, 1)
        seconds = time.perf_counter() - started
        grown = psutil.Process().memory_info().rss - before
    return {"milliseconds": 1e3 * seconds / tasks, "megabytes": grown / 1e6}


def seconds_until_noticed(cluster: Any) -> float:
    """Kill a third node and return how many seconds its task is not yet known to be lost."""
    third = cluster.add_node(node_ip_address="127.0.0.1")
    os.environ[ADDRESS] = cluster.address
    with open_engine() as engine:
        running = [engine.start(sleep) for _ in range(engine.slots(1))]
        told = 0
        while told < len(running):
            told += len(engine.wait())
        cluster.remove_node(third, allow_graceful=False)
        return seconds_of(engine.wait)


def sleep(on_event: EventCallback) -> None:
    """Send an event and run for a minute."""
    on_event(0)
    time.sleep(60)


if __name__ == "__main__":
    main()
