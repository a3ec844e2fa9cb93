"""Answering in this process, with images of the next windows being prepared meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from headwise.run.answering import Answerer, Prepared, image_paths
from headwise.run.executors import Answered, Work

# Windows whose images are prepared ahead of the model, at least; more where there are more threads to prepare them.
AHEAD = 4
# Threads that prepare images at most: a study of one cell needs about 3 per GPU, more than 8 only hold more images.
MOST_THREADS = 8


class Local:
    """One model in this process. `load` gives it, on first use: a study whose answers are all there loads none."""

    workers = 1

    def __init__(self, load: Callable[[], Answerer]) -> None:
        """`load` gives the model on first use."""
        self._load = load

    def answered(self, work: Iterable[Work]) -> Iterator[Answered]:
        """Answer the windows in order; images of the next ones are prepared meanwhile."""
        with ThreadPoolExecutor(max_workers=threads()) as pool:
            for each, future in self._ahead(work, pool):
                prepared = future.result()
                yield Answered(each, self._load().answer(each.task, prepared), failures_of(each, prepared))

    def _ahead(self, work: Iterable[Work], pool: ThreadPoolExecutor) -> Iterator[tuple[Work, Future[Prepared]]]:
        waiting: list[tuple[Work, Future[Prepared]]] = []
        for each in work:
            paths = image_paths(each.task, each.window)
            waiting.append((each, pool.submit(self._load().prepare, each.window, paths, each.task.cells)))
            if len(waiting) > max(AHEAD, threads()):
                yield waiting.pop(0)
        yield from waiting


def threads() -> int:
    """Threads that prepare images: one per core that this process may use, at most MOST_THREADS."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_THREADS, cores)


def failures_of(work: Work, prepared: Prepared) -> dict[int, str]:
    """Why questions of the window got no answer, by their places in the task."""
    samples = work.task.samples
    reasons = ((place, prepared.unreadable.get(samples[place].image)) for place in work.window.open_places)
    return {place: reason for place, reason in reasons if reason is not None}
