"""Workers that misbehave on purpose, importable by the processes that Ray starts."""

from __future__ import annotations

import os
import signal
from typing import Any

from headwise.run.executors import Work
from headwise.run.executors.ray import RayWorker
from headwise.run.executors.worker import Images


class KilledByAnImage(RayWorker):
    """Dies of every window that holds the image 3.png."""

    def answer(self, work: Work, images: Images | None) -> tuple[list[dict[str, Any]], dict[int, str]]:
        if any(sample.image == "3.png" for sample in work.task.samples):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().answer(work, images)


class OutOfMemory(RayWorker):
    """Raises what no code of ours expects."""

    def answer(self, work: Work, images: Images | None) -> tuple[list[dict[str, Any]], dict[int, str]]:
        raise MemoryError("no room for a branch")
