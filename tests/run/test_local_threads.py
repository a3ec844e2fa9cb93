"""Images are prepared by as many threads as there are cores, up to eight, all at the same time."""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from headwise.run.answering import Prepared, Window
from headwise.run.executors import Work, local


class Together:
    """Prepares a window when as many others have begun as there ought to be threads; gives up after a while."""

    def __init__(self, count: int) -> None:
        self.barrier = threading.Barrier(count)

    def prepare(self, window, paths, cells):
        self.barrier.wait(timeout=20)
        return Prepared(window, {}, {})

    def answer(self, task, prepared):
        return [{"q": prepared.window.places[0]}]


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (3, 3), (8, 8), (64, 8)])
def test_as_many_windows_are_prepared_at_once_as_there_are_cores(monkeypatch, cores, threads):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setattr(local, "image_paths", lambda task, window: {})
    monkeypatch.setattr(local, "failures_of", lambda each, prepared: {})
    task = SimpleNamespace(cells=[])
    work = [Work(task, Window([place], np.ones((1, 1), dtype=bool))) for place in range(2 * threads)]
    answerer = Together(threads)
    found = list(local.Local(lambda: answerer).answered(work))
    assert [each.lines for each in found] == [[{"q": place}] for place in range(2 * threads)]
