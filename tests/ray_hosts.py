"""A Ray cluster of several hosts on this machine's loopback, in a process of its own, of which hosts can be killed.

Ray keeps the first token that a process uses; the tests' own process, from which studies are forked, uses none.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token"}


def workers_of(pid: int) -> list[psutil.Process]:
    """Ray's processes below this one that answer for a study."""
    try:
        below = psutil.Process(pid).children(recursive=True)
        return [each for each in below if "RayWorker" in " ".join(each.cmdline())]
    except psutil.Error:
        return []


def listening(pid: int) -> set[str]:
    """The addresses at which the process and those below it listen."""
    found: set[str] = set()
    with suppress(psutil.Error):
        above = psutil.Process(pid)
        for each in [above, *above.children(recursive=True)]:
            with suppress(psutil.Error):
                found |= {one.laddr.ip for one in each.net_connections() if one.status == psutil.CONN_LISTEN}
    return found


class Hosts:
    """The cluster; its head has no processors, so that no worker is there. Hosts are named by numbers from 0."""

    def __init__(self, processors: int, *more: int) -> None:
        self.environment = SETTINGS | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
        root = Path(__file__).resolve().parents[1]
        search = os.pathsep.join([str(root / "src"), str(root / "tests"), str(root)])
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "HEADWISE_"))}
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env=inherited | self.environment | {"PYTHONPATH": search, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.address = self._told()
        for each in (processors, *more):
            self.add(each)

    def add(self, processors: int = 1) -> str:
        """Start a host; its number."""
        return self._do(["add", processors])

    def kill(self, number: str) -> None:
        """SIGKILL to every process of the host at once."""
        self._do(["kill", number])

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        self._process.communicate("", timeout=60)

    def _do(self, command: list[object]) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self._told()

    def _told(self) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("> "):
                return line[2:].strip()
        raise RuntimeError("the cluster's process ended")


def _kill(node: Any) -> None:
    pids = [each.process.pid for processes in node.all_processes.values() for each in processes]
    found = []
    for pid in pids:
        with suppress(psutil.Error):
            found += [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for each in found:
        with suppress(psutil.Error):
            each.kill()


def main() -> None:
    import ray._private.ray_constants
    from ray.cluster_utils import Cluster

    ray._private.ray_constants.ENABLE_RAY_CLUSTER = False  # all of it listens on the loopback
    room = {"include_dashboard": False, "object_store_memory": 80 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **room})
    print("> " + cluster.address, flush=True)
    nodes = []
    for line in sys.stdin:
        action, value = json.loads(line)
        if action == "add":
            nodes.append(cluster.add_node(num_cpus=value, **room))
            print(f"> {len(nodes) - 1}", flush=True)
        else:
            _kill(nodes[int(value)])
            print("> killed", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
