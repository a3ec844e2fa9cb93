"""Who answers: this process (`local`) or workers of a Ray cluster (`ray`), behind one protocol.

Whoever answers, the process that was started plans, is the only one to write the spool, scores and logs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Literal, Protocol

from headwise.errors import ConfigError
from headwise.run.answering import Window
from headwise.run.placement import Placement
from headwise.run.tasks import Task

# Names how many seconds a study waits for a worker before it gives up.
PATIENCE = "HEADWISE_PATIENCE"
ADDRESS = re.compile(r"auto|[A-Za-z0-9.-]+:\d{1,5}|\[[0-9a-fA-F:.]+\]:\d{1,5}")


@dataclass(frozen=True)
class Work:
    """One window of one benchmark."""

    task: Task
    window: Window


@dataclass(frozen=True)
class Answered:
    """A window that is done: its lines for the spool, and by place the reasons of questions that got no answer."""

    work: Work
    lines: list[dict[str, Any]]
    failures: dict[int, str] = field(default_factory=dict)


class Executor(Protocol):
    """Answers windows; `workers` says how many do so now, for the progress bar."""

    @property
    def workers(self) -> int:
        """How many workers answer windows now."""

    def answered(self, work: Iterable[Work]) -> Iterator[Answered]:
        """Every window once, in any order. `work` is read a little ahead of what is being answered.

        HeadwiseError where the study cannot go on; what was answered before has been yielded.
        """


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How a study is spread, as the command line says. None of it changes an answer.

    `workers` is the most there are at a time; None means as many as the devices, or the cluster's GPUs.
    `address` is a running cluster's (`auto` or HOST:PORT); None is a Ray of this study's own on this machine.
    """

    engine: Literal["local", "ray"] = "local"
    workers: int | None = None
    address: str | None = None
    workers_per_gpu: int = 1
    data_on_workers: bool = False
    devices: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        placement: Placement,
        engine: str | None = None,
        workers: int | None = None,
        address: str | None = None,
        workers_per_gpu: int | None = None,
        data_on_workers: bool = False,
    ) -> Scale:
        """From the command line: several devices mean Ray. ConfigError for what contradicts itself."""
        several = len(placement.devices) > 1 and placement.device_map is None
        chosen = engine or ("ray" if several else "local")
        if chosen == "local":
            asked = {"workers": workers, "address": address, "workers-per-gpu": workers_per_gpu}
            asked["data-on-workers"] = data_on_workers or None
            if given := [f"--{name}" for name, value in asked.items() if value is not None]:
                raise ConfigError(f"engine: local is one process and takes no {', '.join(given)}; add --engine ray")
            if several:
                raise ConfigError("devices: each gets a worker; use --engine ray, or --device-map to spread one model")
            return cls()
        _check_ray(placement, workers, address, workers_per_gpu)
        return cls(
            engine="ray",
            workers=workers or len(placement.devices) or None,
            address=address,
            workers_per_gpu=workers_per_gpu or _per_gpu(placement),
            data_on_workers=data_on_workers,
            devices=placement.devices,
        )

    def threads(self, kind: str) -> int:
        """Processors per worker: OMP_NUM_THREADS; without it, one beside a GPU, and an even share of this machine."""
        asked = re.match(r"[1-9]\d{0,3}", os.environ.get("OMP_NUM_THREADS", ""))
        if asked or kind == "cuda" or self.address:
            return int(asked.group()) if asked else 1
        return max(1, (os.cpu_count() or 1) // (self.workers or 1))


def _check_ray(placement: Placement, workers: int | None, address: str | None, workers_per_gpu: int | None) -> None:
    if find_spec("ray") is None:
        raise ConfigError("engine: Ray is not installed; `pip install 'headwise[ray]'` installs it")
    if placement.device_map is not None:
        raise ConfigError("device_map: is for one process; --engine ray gives each worker the whole model")
    if placement.devices and (workers or address or workers_per_gpu):
        raise ConfigError("devices: each gets one worker on this machine; no --workers, --workers-per-gpu or --address")
    if len({device.partition(":")[0] for device in placement.devices}) > 1:
        raise ConfigError(f"devices: {', '.join(placement.devices)} are of two kinds, whose answers differ; name one")
    if address is not None and not ADDRESS.fullmatch(address):
        raise ConfigError(f"address: {address!r} is not auto or HOST:PORT, such as node-0:6379")
    for name, value in (("workers", workers), ("workers_per_gpu", workers_per_gpu)):
        if value is not None and value < 1:
            raise ConfigError(f"{name}: {value} is not a positive number")


def _per_gpu(placement: Placement) -> int:
    """How often a GPU is named in `devices`: 0,0 are two workers on one. ConfigError where GPUs differ in this."""
    if not placement.devices or placement.devices[0] == "cpu":
        return 1
    counts = {placement.devices.count(device) for device in placement.devices}
    if len(counts) > 1:
        raise ConfigError(f"devices: {', '.join(placement.devices)}: name every GPU equally often")
    return counts.pop()


def patience() -> float:
    """Seconds to wait for a worker; ConfigError where the environment says no number."""
    text = os.environ.get(PATIENCE, "600")
    if not re.fullmatch(r"\d+(\.\d+)?", text) or not float(text):
        raise ConfigError(f"{PATIENCE}: {text!r} is not a number of seconds, such as 600")
    return float(text)
