"""Cell files of many cells and questions: neither memory nor open files grow with their product."""

from __future__ import annotations

import json
import resource
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from headwise.records import Sample
from headwise.run import by_cell
from headwise.run.answering import bits
from headwise.run.by_cell import ByCell
from headwise.run.cell_files import ANSWERS, EVIDENCE, write_cells
from headwise.run.spool import Spool
from headwise.run.tasks import Task
from headwise.study.cells import Cell, Geometry

GEOMETRY = Geometry(layers=8, heads=32, visual=576)


def task_of(cells: int, questions: int) -> Task:
    samples = [Sample(benchmark="gqa", question_id=str(n), image="a.png", prompt="Is it?") for n in range(questions)]
    names = [f"q{n}" for n in range(questions)]
    grid = [Cell(strategy="sum", tokens=100 + n, heads=8, budget="kept") for n in range(cells)]
    return Task(name="gqa", data_dir=Path("none"), samples=samples, questions=names, cells=grid, group="g")


def answer_of(place: int, number: int) -> dict[str, object]:
    sets = {"heads": bits([number % 32], 32), "kept": bits([place, number], 576)}
    return {"text": f"{place} {number}", "seconds": 0.5, "degenerate": 0, "agreement": None, "margin": 1.0, **sets}


def spooled(folder: Path, task: Task) -> Spool:
    spool, keys = Spool(folder), [task.key(cell) for cell in task.cells]
    for place, question in reversed(list(enumerate(task.questions))):
        spool.append({"question": question, "answers": {key: answer_of(place, n) for n, key in enumerate(keys)}})
    spool.close()
    return spool


@contextmanager
def open_files(more: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("held", [2**26, 1000, 0])
def test_more_cells_than_files_may_be_open(tmp_path, monkeypatch, held):
    monkeypatch.setattr(by_cell, "HELD", held)
    task = task_of(60, 3)
    spool = spooled(tmp_path / "spool", task)
    with open_files(40):
        found = write_cells(task, spool, {}, tmp_path / "out", GEOMETRY)
    assert [each.cell for each in found] == task.cells
    for number, each in enumerate(found):
        rows = [json.loads(line) for line in (each.folder / ANSWERS).read_text().splitlines()]
        assert [row["text"] for row in rows] == [f"{place} {number}" for place in range(3)]
        sets = np.unpackbits(np.load(each.folder / EVIDENCE)["kept_NV"], axis=-1, count=576)
        assert [set(np.flatnonzero(row)) for row in sets] == [{place, number} for place in range(3)]
        assert each.seconds == 1.5
    assert not list((tmp_path / "out").rglob("*.part"))


def peak(tmp_path: Path, cells: int, questions: int) -> int:
    task = task_of(cells, questions)
    spool = spooled(tmp_path / f"spool {cells}", task)
    tracemalloc.start()
    write_cells(task, spool, {}, tmp_path / f"out {cells}", GEOMETRY)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def test_memory_does_not_grow_with_cells_times_questions(tmp_path, monkeypatch):
    monkeypatch.setattr(by_cell, "HELD", 2**14)
    few, many = peak(tmp_path, 10, 200), peak(tmp_path, 80, 200)
    assert many < 2 * few  # it was 7 times as much


def test_items_come_back_in_order_whether_they_waited_in_memory_or_on_disk(tmp_path, monkeypatch):
    items = [{"text": "ja – yes"}, None, {"kept": "x" * 50}] * 3
    for held in (10**6, 60):
        monkeypatch.setattr(by_cell, "HELD", held)
        rows = ByCell(tmp_path / str(held), 2)
        for item in items:
            rows.add(0, item)
            rows.add(1, [item])
        assert list(rows.of(0)) == items
        assert list(rows.of(1)) == [[item] for item in items]
    assert not list(tmp_path.rglob("*.part"))
