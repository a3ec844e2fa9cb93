"""Several processes on one study, one host or many: who answers what, and how answers reach the main process.

Started by `accelerate launch` or torchrun (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT). Windows of whole
images are dealt in turn. Each process spools to its own folder, which may be one they all share or not;
the main process gets the lines it lacks over gloo, and alone scores, logs and shows progress. Processes
wait for each other at the rendezvous' store, where each leaves a heartbeat, so that none waits for a dead one.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed as dist

from headwise.errors import ConfigError, HeadwiseError
from headwise.run.spool import SUFFIX, Spool
from headwise.system.environment import whole_number

BEAT_SECONDS = 1.0
PATIENCE = "HEADWISE_PATIENCE"
"""Names how many seconds a process may give no sign of life before the others give up."""
PIECE = 16 << 20
MEETING = timedelta(minutes=30)

Item = TypeVar("Item")
Waiting = Callable[[], None]


class ProcessLost(HeadwiseError):
    """Another process of this study has died or cannot be reached."""


class Crew:
    """The processes of this study; a crew of one needs no network and is the usual case."""

    rank, size = 0, 1

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    @property
    def main(self) -> bool:
        """True in the process that logs and shows progress."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """This process's part of what all of them have to do."""
        return items[self.rank :: self.size]

    def same(self, what: str, value: str) -> None:
        """Make sure that all processes mean the same study; HeadwiseError where they do not."""

    def told(self, name: str, value: Item) -> Item:
        """The main process's value, in every process."""
        return value

    def count(self, name: str, more: int = 0) -> int:
        """Add to a counter of all processes and return it."""
        self._counts[name] = self._counts.get(name, 0) + more
        return self._counts[name]

    def collect(self, name: str, spool: Spool, waiting: Waiting = lambda: None) -> None:
        """Wait for all, calling `waiting` meanwhile; then the main process's spool holds what any spool holds."""


class Processes(Crew):
    """A crew of several processes."""

    def __init__(self, store: Any, rank: int, size: int, patience: float) -> None:
        super().__init__()
        self.rank, self.size, self._store, self._patience = rank, size, store, patience
        self._beats = [(0, time.monotonic())] * size
        self._stop = threading.Event()
        self._heart = threading.Thread(target=self._beat, args=(self._store.clone(),), daemon=True)
        self._heart.start()

    def same(self, what: str, value: str) -> None:
        values: list[Any] = [None] * self.size
        self._meet(f"same/{what}")
        with _peers():
            dist.all_gather_object(values, value)
        others = [rank for rank, other in enumerate(values) if other != values[0]]
        if others:
            raise HeadwiseError(
                f"processes: process {others[0]} of {self.size} has {what} {values[others[0]]}, process 0 has "
                f"{values[0]}; every host needs the same data, model, headwise and command"
            )

    def told(self, name: str, value: Item) -> Item:
        self._meet(f"told/{name}")
        values: list[Any] = [value]
        with _peers():
            dist.broadcast_object_list(values, src=0)
        return values[0]

    def count(self, name: str, more: int = 0) -> int:
        with _peers():
            return self._store.add(f"headwise/count/{name}", more)

    def collect(self, name: str, spool: Spool, waiting: Waiting = lambda: None) -> None:
        self._meet(f"collect/{name}", waiting)
        held: list[Any] = [_sizes(spool) if self.main else None]
        with _peers():
            dist.broadcast_object_list(held, src=0)
            for rank in range(1, self.size):
                if self.rank == rank:
                    _send(spool, held[0])
                elif self.main:
                    held = [_receive(spool, rank)]
                if rank + 1 < self.size:
                    dist.broadcast_object_list(held, src=0)

    def close(self) -> None:
        self._stop.set()

    def _meet(self, name: str, waiting: Waiting = lambda: None) -> None:
        """Wait until every process is here."""
        with _peers():
            here = self._store.add(f"headwise/meet/{name}", 1)
            while here < self.size:
                waiting()
                self._check_beats()
                time.sleep(0.05)
                here = self._store.add(f"headwise/meet/{name}", 0)
        waiting()

    def _beat(self, store: Any) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            try:
                store.add(f"headwise/beat/{self.rank}", 1)
            except RuntimeError:
                return  # the store is gone; whoever waits next will say so

    def _check_beats(self) -> None:
        now = time.monotonic()
        for rank, (beats, since) in enumerate(self._beats):
            found = self._store.add(f"headwise/beat/{rank}", 0)
            if found != beats:
                self._beats[rank] = found, now
            elif now - since > self._patience:
                raise ProcessLost(_lost(f"process {rank} of {self.size} gave no sign for {self._patience:.0f} s"))


@contextmanager
def crew() -> Iterator[Crew]:
    """The processes of this study, from what the launcher put into the environment."""
    size = whole_number("WORLD_SIZE", 1, least=1)
    if size == 1:
        yield Crew()
        return
    patience = _patience()
    if whole_number("RANK", 0) >= size:
        raise ConfigError(f"RANK: {os.environ['RANK']} is not below WORLD_SIZE, {size}")
    with _peers():
        try:
            store, rank, size = next(dist.rendezvous("env://", timeout=MEETING))
        except ValueError as error:  # RANK, MASTER_ADDR or MASTER_PORT lacks
            raise ConfigError(f"WORLD_SIZE: {size}, but the launcher set not all else ({error})") from error
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=MEETING)
    processes = Processes(store, rank, size, patience)
    try:
        yield processes
    finally:
        processes.close()
    dist.destroy_process_group()


def _patience() -> float:
    text = os.environ.get(PATIENCE, "60")
    if not re.fullmatch(r"\d+(\.\d+)?", text) or not float(text):
        raise ConfigError(f"{PATIENCE}: {text!r} is not a number of seconds, such as 60")
    return float(text)


@contextmanager
def _peers() -> Iterator[None]:
    """Turn the network's errors, which mean that a process or its host is gone, into one line."""
    try:
        yield
    except RuntimeError as error:
        raise ProcessLost(_lost(f"another process is gone ({str(error).splitlines()[0][:120]})")) from error


def _lost(what: str) -> str:
    return f"processes: {what}; what was answered is kept: the same command goes on from there"


def _sizes(spool: Spool) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in spool.files()}


def _send(spool: Spool, held: dict[str, int]) -> None:
    """Send what the main process lacks of this host's files, in whole lines and bounded pieces."""
    for path in spool.files():
        for piece in _pieces(path, held.get(path.name, 0)):
            dist.send_object_list([(path.name, piece)], dst=0)
    dist.send_object_list([None], dst=0)


def _pieces(path: Path, start: int) -> Iterator[bytes]:
    with open(path, "rb") as content:
        content.seek(start)
        while lines := content.readlines(PIECE):
            yield b"".join(lines)


def _receive(spool: Spool, rank: int) -> dict[str, int]:
    """Append what a process sends to files of the same names; the sizes of all files thereafter."""
    while True:
        got: list[Any] = [None]
        dist.recv_object_list(got, src=rank)
        if got[0] is None:
            return _sizes(spool)
        name, piece = got[0]
        spool.adopt(_checked(name), piece)


def _checked(name: str) -> str:
    if Path(name).name != name or not name.endswith(SUFFIX):
        raise ProcessLost(_lost(f"a process sent a file named {name!r}"))
    return name
