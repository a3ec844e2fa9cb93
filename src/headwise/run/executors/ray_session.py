"""A Ray cluster joined or started: the only module that imports ray, so that what must be set before is set here.

Ray runs whatever reaches its ports and listens on all addresses: nothing is done here without a token.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwise.errors import ConfigError, HeadwiseError
from headwise.run.executors import Scale

if TYPE_CHECKING:
    from headwise.run.executors.worker import Orders

ASKED_MODE = os.environ.get("RAY_AUTH_MODE", "")
# Both are read when ray is imported: no reports to anyone, and nothing without a token.
os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token"}
import ray  # noqa: E402
import ray._private.ray_constants  # noqa: E402
import ray._private.worker  # noqa: E402

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# Shared memory of a Ray of our own: room for the windows on their way, a few megabytes each; the rest goes to disk.
OBJECT_STORE_BYTES = 512 << 20


def start(scale: Scale, orders: Orders) -> None:
    """Join the cluster at the address, or start one for this study on this machine; nothing where that is done."""
    if ray.is_initialized():
        return
    if scale.address is None:
        _init(_own(scale, orders), "a Ray of its own on this machine does not start")
    else:
        join(scale.address)


def join(address: str) -> None:
    """Join the running cluster. ConfigError where it is open to anyone; HeadwiseError where it cannot be joined."""
    if ray.is_initialized():
        return
    if ASKED_MODE.lower() != "token":
        raise ConfigError(
            f"address: {address} is refused without RAY_AUTH_MODE=token: Ray runs whatever it is sent; set it, and the "
            "token, on every host and here (docs/scaling.md)"
        )
    _reach(address)
    said: list[str] = []
    try:
        with _stderr_into(said):
            _init({"address": address}, f"address: cannot join the Ray cluster at {address}")
    except HeadwiseError as error:
        if "InvalidAuthToken" in said[0] or isinstance(error.__cause__, ray.exceptions.AuthenticationError):
            raise ConfigError(
                f"address: the Ray cluster at {address} does not take the token that is set here "
                "(RAY_AUTH_TOKEN, or the file at RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token)"
            ) from error
        raise


def _reach(address: str) -> None:
    """HeadwiseError where nothing listens at HOST:PORT; Ray would try for half a minute."""
    host, _, port = address.rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise HeadwiseError(f"address: cannot reach a Ray cluster at {address}: {error}") from error


@contextmanager
def _stderr_into(said: list[str]) -> Iterator[None]:
    """Keep what Ray's own library writes of failed tries, a line per second, off the terminal."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            file.seek(0)
            said.append(file.read().decode(errors="replace"))


def stop() -> None:
    """End the workers, and the cluster where it is our own."""
    ray.shutdown()
    ray._private.ray_constants.ENABLE_RAY_CLUSTER = True


def cluster_kind() -> str:
    """Cuda where the joined cluster has a GPU, else cpu."""
    return "cuda" if ray.cluster_resources().get("GPU", 0) else "cpu"


def workers_wanted(scale: Scale, kind: str) -> int:
    """How many workers there may be now: as asked, or what the cluster has GPUs (or processors) for; one at least."""
    if scale.workers is not None:
        return scale.workers
    resources = ray.cluster_resources()
    if kind == "cuda":
        return max(1, int(resources.get("GPU", 0)) * scale.workers_per_gpu)
    return max(1, int(resources.get("CPU", 0)) // scale.threads(kind)) if scale.address else 1


def _own(scale: Scale, orders: Orders) -> dict[str, Any]:
    """How Ray is started for this study alone: with a token of its own, on the loopback, and no more than it needs."""
    ray._private.ray_constants.ENABLE_RAY_CLUSTER = False  # the node is 127.0.0.1, and that is where all of it listens
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    for name in ("RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS"):
        os.environ.pop(name, None)
    # Workers begin in a folder of Ray's: what is found here by a relative path is found there by a whole one.
    os.environ["PYTHONPATH"] = os.pathsep.join(str(Path(entry or ".").resolve()) for entry in sys.path)
    options: dict[str, Any] = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    if orders.kind == "cpu":
        options["num_gpus"] = 0
        options["num_cpus"] = (scale.workers or 1) * scale.threads(orders.kind)
    elif scale.devices:
        _show_gpus(scale.devices)
    return {"address": "local", **options}


def _show_gpus(devices: tuple[str, ...]) -> None:
    """Let Ray see the named GPUs only; their numbers count those that this process sees."""
    seen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    numbers = sorted({int(device.partition(":")[2]) for device in devices})
    if seen and numbers[-1] >= len(seen):
        raise ConfigError(f"devices: {numbers[-1]} is none of the {len(seen)} GPUs of CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(seen[number] if seen else str(number) for number in numbers)


def _init(options: dict[str, Any], failed: str) -> None:
    """Ray's own start; it sets a handler of SIGTERM, in place of which ours is put back."""
    here = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        # What Ray says on a terminal when a worker dies; it has no setting for it, and we say it in one line.
        ray._private.worker.print_to_stdstream = lambda *_, **__: None
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:  # Ray raises ConnectionError, RuntimeError, ValueError and errors of its own
        raise HeadwiseError(f"{failed}: {reason_of(error)}") from error
    finally:
        if here:
            signal.signal(signal.SIGTERM, handler)


def lost_because(error: BaseException) -> str:
    """Why a worker is gone, in short; Ray's own words name numbers of actors and codes of RPC."""
    if getattr(error, "preempted", False):
        return "its host was preempted"
    if isinstance(error, ray.exceptions.ActorUnavailableError):
        return "it cannot be reached"
    reason = reason_of(error)
    return "its process died" if "died unexpectedly" in reason else reason


def reason_of(error: BaseException) -> str:
    """One line of an error of Ray's: the last one of a traceback that it quotes, else the first (and what it heads)."""
    lines = [line.strip() for line in COLOUR.sub("", str(error)).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if "Traceback" in str(error) or "creation task" in lines[0]:
        return lines[-1]
    return " ".join(lines) if lines[0].endswith(":") else lines[0]
