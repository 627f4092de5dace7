"""What a Ray cluster costs and gains: nodes of one core on this machine's loopback, against processes of this machine.

python -m benchmarks.cluster writes benchmarks/CLUSTER.md. Needs Ray: make .venv/cluster.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import chdir, contextmanager, redirect_stdout
from operator import methodcaller
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from benchmarks.common import HERE, Result, default_params, machine, markdown_table, seconds_of, write_clips, write_page
from motionbench.execution.cluster import ADDRESS, open_engine
from motionbench.execution.engine import EventCallback, run_tasks
from motionbench.training.replicates import train_model

HOST = "127.0.0.1"
MODEL, REPLICATES, EPOCHS = "cnn_lstm", 12, 5
TASKS = (1_000, 4_000)
WARM_UP = 20
ROUNDS = 3
EMPTY = methodcaller("__call__", 0)  # A task is called with the function that sends an event. Nodes have operator.


def main() -> None:
    """Measure, and write the tables."""
    with head_node() as cluster:
        trained = []
        for cores in (1, 2):
            if cores == 2:
                cluster.add_node(node_ip_address=HOST)
            for where, address in (("this machine", ""), ("cluster", cluster.address)):
                rate = in_new_process(replicates_a_minute, address, cores)
                trained.append({"where": where, "cores": str(cores), "replicates a minute": f"{rate:.1f}"})
        rows = []
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
    paragraphs = [
        "# What a cluster costs and gains",
        f"On {machine()}. The nodes of the cluster are two on this machine, with a core each.",
        "## Replicates",
        f"{REPLICATES} replicates of `{MODEL}` of {EPOCHS} epochs, from starting the processes to the last result. The "
        "cluster of one core is one node.",
        markdown_table(trained),
        "## Empty tasks",
        f"A task sends one event and does nothing else; medians of {ROUNDS} runs.",
        markdown_table(rows),
        f"A node whose processes are killed is noticed after {median(deaths):.1f} s.",
    ]
    write_page(HERE / "CLUSTER.md", paragraphs)


@contextmanager
def head_node() -> Iterator[Any]:
    """Yield a cluster of one node with a core on the loopback; stop it afterwards."""
    os.environ |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": os.urandom(32).hex(),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # the loopback
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"node_ip_address": HOST, "include_dashboard": False})
    try:
        yield cluster
    finally:
        cluster.shutdown()


def in_new_process(function: Callable[..., Result], *arguments: Any) -> Result:
    """Return what `function` returns in a new process, which may start others."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def replicates_a_minute(address: str, cores: int) -> float:
    """Train replicates, with all cores of the cluster at `address` or, without one, with `cores` of this machine."""
    os.environ |= {ADDRESS: address, "LOKY_MAX_CPU_COUNT": str(cores)}
    params = default_params()
    section = params.model(MODEL).model_copy(update={"epochs": EPOCHS})
    training = params.training.model_copy(update={"seeds": range(REPLICATES), "target_loss": 0.0, "patience": EPOCHS})
    params = params.model_copy(update={"training": training, MODEL: section})
    with TemporaryDirectory() as folder, chdir(folder), redirect_stdout(None):
        write_clips(params)
        with open_engine() as engine:
            seconds = seconds_of(lambda: train_model(engine, MODEL, params, "", lambda _epoch: None))
    return 60 * REPLICATES / seconds


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
    third = cluster.add_node(node_ip_address=HOST)
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
