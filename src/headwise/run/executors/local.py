"""Answering in this process, with images of the next windows being prepared meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from headwise.run.answering import Answerer, Prepared, image_paths
from headwise.run.executors import Answered, Work

AHEAD = 4


class Local:
    """One model in this process. `load` gives it, on first use: a study whose answers are all there loads none."""

    workers = 1

    def __init__(self, load: Callable[[], Answerer]) -> None:
        """`load` gives the model on first use."""
        self._load = load

    def answered(self, work: Iterable[Work]) -> Iterator[Answered]:
        """Answer the windows in order; images of the next ones are prepared meanwhile."""
        with ThreadPoolExecutor(max_workers=2) as pool:
            for each, future in self._ahead(work, pool):
                prepared = future.result()
                yield Answered(each, self._load().answer(each.task, prepared), failures_of(each, prepared))

    def _ahead(self, work: Iterable[Work], pool: ThreadPoolExecutor) -> Iterator[tuple[Work, Future[Prepared]]]:
        waiting: list[tuple[Work, Future[Prepared]]] = []
        for each in work:
            paths = image_paths(each.task, each.window)
            waiting.append((each, pool.submit(self._load().prepare, each.window, paths, each.task.cells)))
            if len(waiting) > AHEAD:
                yield waiting.pop(0)
        yield from waiting


def failures_of(work: Work, prepared: Prepared) -> dict[int, str]:
    """Why questions of the window got no answer, by their places in the task."""
    samples = work.task.samples
    reasons = ((place, prepared.unreadable.get(samples[place].image)) for place in work.window.open_places)
    return {place: reason for place, reason in reasons if reason is not None}
