"""From open questions to spooled answers: one process reads and writes the spool, an executor answers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from headwise.run.answering import open_windows
from headwise.run.executors import Executor, Work
from headwise.run.progress import StudyBar
from headwise.run.spool import Spool
from headwise.run.tasks import Task
from headwise.system.cache import spool_folder


@dataclass
class AnsweredTask:
    """A benchmark of which every window is done; `failures` are reasons by place of what got no answer now."""

    task: Task
    failures: dict[int, str] = field(default_factory=dict)
    started: float = field(default_factory=time.time)


@dataclass
class _Open:
    """A benchmark under way: where its answers go, and how many windows are not done."""

    result: AnsweredTask
    spool: Spool
    windows: int


def answer_tasks(tasks: Sequence[Task], kind: str, executor: Executor, bar: StudyBar) -> Iterator[AnsweredTask]:
    """Answer what the spool lacks. Each benchmark is given as soon as its last window is done.

    Windows of all benchmarks are one stream, so that no worker waits for the last window of a benchmark.
    """
    under_way: dict[str, _Open] = {}
    done: deque[AnsweredTask] = deque()

    def work() -> Iterator[Work]:
        for task in tasks:
            opened = _opened(task, kind, bar)
            if not opened:
                done.append(AnsweredTask(task))
                continue
            under_way[task.name], windows = opened
            yield from windows

    try:
        for each in executor.answered(work()):
            place = under_way[each.work.task.name]
            place.spool.append(*each.lines)
            place.result.failures |= each.failures
            place.windows -= 1
            bar.answered(len(each.work.window.open_places), executor.workers)
            if not place.windows:
                place.spool.close()
                done.append(under_way.pop(each.work.task.name).result)
            while done:
                yield done.popleft()
    finally:
        for place in under_way.values():
            place.spool.close()
    yield from done


def _opened(task: Task, kind: str, bar: StudyBar) -> tuple[_Open, list[Work]] | None:
    """The task's open windows; None where everything is answered."""
    spool = Spool(spool_folder(task.group))
    answered = task.answered(spool)
    if spool.damaged and not answered.all():
        bar.say(f"{task.name}: {spool.damaged} damaged lines in the spool; their questions are answered anew")
    bar.fewer(int(answered.all(axis=1).sum()))
    work = [Work(task, window) for window in open_windows(task, answered, kind)]
    return (_Open(AnsweredTask(task), spool, len(work)), work) if work else None
