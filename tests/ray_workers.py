"""Workers that misbehave on purpose, importable by the processes that Ray starts."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from headwise.run.executors import Work
from headwise.run.executors.ray import RayWorker
from headwise.run.executors.worker import Hello, Images


class KilledByAnImage(RayWorker):
    """Dies of every window that holds the image 3.png."""

    def answer(self, work: Work, images: Images | None) -> tuple[list[dict[str, Any]], dict[int, str]]:
        if any(sample.image == "3.png" for sample in work.task.samples):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().answer(work, images)


class SlowRayWorker(RayWorker):
    """Takes its time, so that there is some in which to die."""

    def answer(self, work: Work, images: Images | None) -> tuple[list[dict[str, Any]], dict[int, str]]:
        time.sleep(1.0)
        return super().answer(work, images)


class OutOfMemory(RayWorker):
    """Raises what no code of ours expects."""

    def answer(self, work: Work, images: Images | None) -> tuple[list[dict[str, Any]], dict[int, str]]:
        raise MemoryError("no room for a branch")


class AnotherCheckpoint(RayWorker):
    """Has weights that are not the driver's, on the host whose worker is the first to say so."""

    def hello(self) -> Hello:
        who = super().hello()
        marked = Path(self.orders.folder) / "host-with-other-weights"
        with suppress(FileExistsError), marked.open("x") as file:
            file.write(who.node)
        other = {"checkpoint": "of another host"} if marked.read_text() == who.node else {}
        return replace(who, identity=who.identity | other)


class DiesLoading(RayWorker):
    """Has no room for the model."""

    def load(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class WithoutData(RayWorker):
    """Dies where it opens a file of the benchmarks: what it needs is sent."""

    def hello(self) -> Hello:
        sys.addaudithook(_die_of_data)
        return super().hello()


def _die_of_data(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and "/eval/" in str(arguments[0]):
        os._exit(1)
