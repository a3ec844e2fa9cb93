"""A Ray cluster joined or started: the only module that imports ray, so that what must be set before is set here.

Ray runs whatever reaches its ports and listens on all addresses: nothing is done here without a token.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import signal
import sys
import threading
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
    _init({"address": address}, f"address: cannot join the Ray cluster at {address}")


def stop() -> None:
    """End the workers, and the cluster where it is our own."""
    ray.shutdown()


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
    """How Ray is started for this study alone: with a token of its own, and no more than it needs."""
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
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:  # Ray raises ConnectionError, RuntimeError, ValueError and errors of its own
        raise HeadwiseError(f"{failed}: {reason_of(error)}") from error
    finally:
        if here:
            signal.signal(signal.SIGTERM, handler)


def reason_of(error: BaseException) -> str:
    """One line of an error of Ray's: the last one of a traceback that it quotes, else the first."""
    lines = [line.strip() for line in COLOUR.sub("", str(error)).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1] if "Traceback" in str(error) or "creation task" in lines[0] else lines[0]
