"""Answering by workers of a Ray cluster: actors that load the checkpoint once, and windows that go to who is free.

Ray starts, places and watches processes. What is ours is the queue: a window whose worker is gone goes back to its
front at once, and whichever worker is free takes it. An actor is never restarted but replaced by a new one, so
that every process says who it is before it answers; one that waits for resources is what an autoscaler reacts to.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from headwise.errors import HeadwiseError
from headwise.run.executors import Answered, Scale, Work, patience
from headwise.run.executors.ray_session import lost_because, ray, reason_of, start, stop, workers_wanted
from headwise.run.executors.worker import Hello, Orders, Worker, images_of, parcel

# Windows a worker has at a time: images of one are prepared while the other is on the device.
UNDER_WAY = 2
# A window is given up when so many workers have died of it: while it was the only or the first one they had.
DEADLY = 3
# Seconds without a worker after which a line says what is waited for.
NOTICE = 30.0
LOOK_AGAIN = 10.0
# Seconds between looks at how many workers the cluster has room for, and after a worker that died at its start.
PAUSE = 2.0


class WorkersLost(HeadwiseError):
    """No worker of this study is left."""


class RayWorker(Worker):
    """A worker that knows which node it is on."""

    def hello(self) -> Hello:
        """What a worker says of itself, with the id of its Ray node."""
        return replace(super().hello(), node=ray.get_runtime_context().get_node_id())


@dataclass(eq=False)
class _Window:
    """A window on its way: how many workers have it, how many died of it, and whether it may be the cause."""

    work: Work
    holders: int = 0
    deaths: int = 0
    suspect: bool = False
    done: bool = False


@dataclass(eq=False)
class _Actor:
    """A worker process: it says who it is, loads its model, and answers. `coming` is what it is asked before it does.

    The model is loaded before there is a window, so that what kills it then is not held against one.
    """

    handle: Any
    coming: Any
    who: Hello | None = None
    ready: bool = False
    under_way: dict[Any, _Window] = field(default_factory=dict)


class RayExecutor:
    """Workers on a cluster; a context manager that leaves no process behind. `say` prints a line."""

    worker: type[RayWorker] = RayWorker

    def __init__(self, orders: Orders, expected: dict[str, str], scale: Scale, say: Callable[[str], None]) -> None:
        """Start nothing yet.

        Args:
            orders: what every worker is told once: the study, its model, the kind of device.
            expected: versions and digests that a worker must report to be used.
            scale: the cluster's address and how many workers.
            say: prints a line for the user.
        """
        self.orders, self.expected, self.scale, self.say = orders, expected, scale, say
        self.patience = patience()
        self._actors: list[_Actor] = []
        self._again: deque[_Window] = deque()
        self._excluded: set[str] = set()
        self._reason, self._failed_start = "", False
        self._wanted, self._looked, self._hire_from = 0, float("-inf"), 0.0
        self._seen, self._noticed = 0.0, False

    def __enter__(self) -> RayExecutor:
        """The executor itself; the cluster is reached at the first window."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the workers and leave the cluster."""
        stop()

    @property
    def workers(self) -> int:
        """How many workers are ready now."""
        return sum(actor.ready for actor in self._actors)

    def answered(self, work: Iterable[Work]) -> Iterator[Answered]:
        """Hand windows to free workers and yield them as they come back; those of lost workers go out again."""
        source = iter(work)
        if (first := next(source, None)) is None:
            return
        start(self.scale, self.orders)
        self._seen = time.monotonic()
        waiting: Iterator[Work] = chain([first], source)
        exhausted = False
        while True:
            exhausted = self._hand_out(waiting) or exhausted
            if exhausted and not self._open():
                return
            self._hire(exhausted)
            yield from self._collect()
            self._check_patience()

    # Workers

    def _hire(self, exhausted: bool) -> None:
        """Ask for as many workers as there may be, at the end for no more than there are windows left."""
        now = time.monotonic()
        if now < self._hire_from:
            return
        if now - self._looked > LOOK_AGAIN:
            self._wanted, self._looked = workers_wanted(self.scale, self.orders.kind), now
        wanted = min(self._wanted, self._open()) if exhausted else self._wanted
        while len(self._actors) < wanted:
            options = {**self._resources(), "max_restarts": 0, "max_task_retries": 0, "max_concurrency": UNDER_WAY}
            handle = ray.remote(self.worker).options(**options).remote(self.orders)
            self._actors.append(_Actor(handle, handle.hello.remote()))

    def _resources(self) -> dict[str, Any]:
        """What a worker needs of its host, and hosts that it must not be on."""
        resources: dict[str, Any] = {"num_cpus": self.scale.threads(self.orders.kind)}
        if self.orders.kind == "cuda":
            resources["num_gpus"] = 1 / self.scale.workers_per_gpu
        if self._excluded:
            resources["label_selector"] = {"ray.io/node-id": f"!in({','.join(sorted(self._excluded))})"}
        return resources

    def _check_patience(self) -> None:
        now = time.monotonic()
        loading = any(actor.who for actor in self._actors) and not self._failed_start  # takes as long as it takes
        if self.workers or loading:
            self._seen, self._noticed = now, self._noticed and not self.workers
            return
        if self.scale.address and now - self._seen > NOTICE and not self._noticed:
            self._noticed, room = True, self._resources()
            gpu = f" and {room['num_gpus']:g} GPU" if "num_gpus" in room else ""
            self.say(f"waiting for a worker, which takes {room['num_cpus']} CPU{gpu} of a host of the cluster")
        if now - self._seen > self.patience:
            last = f" (last: {self._reason})" if self._reason else ""
            raise WorkersLost(
                f"workers: none has come for {self.patience:.0f} s{last}; what was answered is kept: the same command "
                "goes on from there"
            )

    def _greeted(self, actor: _Actor, who: Hello) -> None:
        """Take a worker on, or not: one that would answer otherwise is named, and its host is not asked again."""
        if not (difference := who.differs(self.expected)):
            actor.who, actor.coming = who, actor.handle.load.remote()
            return
        self._dismiss(actor)
        self._excluded.add(who.node)
        self._reason = f"worker on {who.host}: {difference}"
        if self.scale.address is None:
            raise HeadwiseError(self._reason)
        self.say(f"worker on {who.host} is not used: {difference}")

    def _dismiss(self, actor: _Actor) -> None:
        self._actors.remove(actor)
        ray.kill(actor.handle, no_restart=True)

    # Windows

    def _open(self) -> int:
        """How many windows are waiting or under way; what a slower worker still answers in vain is not."""
        under_way = {window for actor in self._actors for window in actor.under_way.values()}
        return len(self._again) + sum(not window.done for window in under_way)

    def _hand_out(self, source: Iterator[Work]) -> bool:
        """Give every free worker a window, then a second one; True where `source` has no more."""
        exhausted = False
        ready = [actor for actor in self._actors if actor.ready]
        for depth in range(UNDER_WAY):
            for actor in ready:
                if len(actor.under_way) > depth or not self._takes(actor):
                    continue
                window = self._again.popleft() if self._again else None
                if window is None and not exhausted:
                    work = next(source, None)
                    exhausted = work is None
                    window = None if work is None else _Window(work)
                if window is None and not actor.under_way:
                    window = self._slowest(actor)
                if window is not None:
                    self._send(actor, window)
        return exhausted

    def _takes(self, actor: _Actor) -> bool:
        """A window that was under way when a worker died is answered alone: if it kills another, it was the cause."""
        alone = bool(self._again) or any(window.suspect for window in actor.under_way.values())
        return not (alone and actor.under_way)

    def _slowest(self, free: _Actor) -> _Window | None:
        """The longest under way of those that one worker has: whoever answers it first, nobody waits for the other."""
        for actor in self._actors:
            for window in actor.under_way.values():
                if actor is not free and window.holders == 1 and not window.suspect and not window.done:
                    return window
        return None

    def _send(self, actor: _Actor, window: _Window) -> None:
        data_on_workers = self.scale.data_on_workers
        images = None if data_on_workers else images_of(window.work)
        answer = actor.handle.answer.remote(parcel(window.work, data_on_workers), images)
        actor.under_way[answer] = window
        window.holders += 1

    def _collect(self) -> Iterator[Answered]:
        """What has come within a second: a worker's greeting, an answer, or the news that a worker is gone."""
        holders = {answer: actor for actor in self._actors for answer in actor.under_way}
        holders |= {actor.coming: actor for actor in self._actors if not actor.ready}
        if not holders:
            time.sleep(0.1)
            return
        done, _ = ray.wait(list(holders), num_returns=1, timeout=1.0)
        for answer in done:
            actor = holders[answer]
            try:
                value = ray.get(answer)
            except ray.exceptions.RayTaskError as error:
                self._raise(actor, error)
            except ray.exceptions.RayError as error:
                yield from self._lost(actor, error)
            else:
                yield from self._came(actor, answer, value)

    def _came(self, actor: _Actor, answer: Any, value: Any) -> Iterator[Answered]:
        if not actor.ready:
            if isinstance(value, Hello):
                self._greeted(actor, value)
            else:
                actor.ready, self._failed_start = True, False
            return
        window = actor.under_way.pop(answer)
        window.holders -= 1
        if not window.done:
            window.done = True
            lines, failures = value
            places = window.work.window.places
            yield Answered(window.work, lines, {places[own]: reason for own, reason in failures.items()})

    def _lost(self, actor: _Actor, error: Exception) -> Iterator[Answered]:
        """A worker is gone: what it had goes to the front of the queue, except a window that has killed too many."""
        self._dismiss(actor)
        reason = lost_because(error)
        where = f"worker on {actor.who.host} (process {actor.who.process})" if actor.who else "a worker at its start"
        self._reason = f"{where}: {reason}"
        if not actor.ready:
            self._hire_from = time.monotonic() + PAUSE
        held = list(actor.under_way.values())
        back = [window for window in held if not window.done]
        if actor.ready or not self._failed_start:
            self.say(f"{where} is gone{_goes(len(back)) if actor.ready else ''} ({reason})")
        self._failed_start = not actor.ready
        if held and not getattr(error, "preempted", False):
            held[
                0
            ].deaths += 1  # it had the device; the second one was being prepared, and is answered alone from now on
        for window in reversed(back):
            window.holders -= 1
            window.suspect = True
            if window.deaths >= DEADLY:
                window.done = True
                yield _given_up(window.work, reason)
            elif not window.holders:
                self._again.appendleft(window)

    def _raise(self, actor: _Actor, error: Any) -> None:
        """An error of ours ends the study as it would in one process; another one says which it was."""
        cause, host = error.cause, actor.who.host if actor.who else "a host that has not said its name"
        if isinstance(cause, HeadwiseError):
            raise type(cause)(f"{cause} (worker on {host})") from error
        raise HeadwiseError(f"worker on {host}: {type(cause).__name__}: {reason_of(cause)}") from error


def _goes(windows: int) -> str:
    if not windows:
        return ", with nothing under way"
    return ", its window goes to another" if windows == 1 else f", its {windows} windows go to another"


def _given_up(work: Work, reason: str) -> Answered:
    text = f"{DEADLY} workers died while they answered it ({reason})"
    return Answered(work, [], dict.fromkeys(work.window.open_places, text))
