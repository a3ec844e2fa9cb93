"""Finished benchmarks scored and logged, in a thread beside the answering of the next ones.

Answers are on disk before they are logged; what could not be logged is logged later (`headwise sync`), nothing twice.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from headwise import tracking
from headwise.errors import DataError, TrackingError
from headwise.records import read_answers
from headwise.run.answer_tasks import AnsweredTask
from headwise.run.answering import unreadable
from headwise.run.cell_files import ANSWERS, CellFolder, write_cells
from headwise.run.cell_runs import log_cell_folder, write_provenance
from headwise.run.progress import StudyBar
from headwise.run.spool import Spool
from headwise.run.tasks import Task
from headwise.scoring.score import key_tags, score_records, write_verdicts
from headwise.study.cells import Cell
from headwise.system.cache import spool_folder, work_folder
from headwise.tracking.resume import Logged, drop_cells, logged_cells

if TYPE_CHECKING:
    from headwise.run.evaluate import Job


class Logger:
    """Scores and logs benchmarks one after the other in a thread of its own; leaving the block stops it."""

    def __init__(self, job: Job, study: tracking.StudyRun, bar: StudyBar) -> None:
        """Start with no benchmark waiting; `bar` is told of what is done."""
        self.job, self.study, self.bar = job, study, bar
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="log")
        self._stopped = threading.Event()
        self._waiting: dict[str, Future[list[str]]] = {}
        self._logged: Logged | None = None
        self._outage: TrackingError | None = None

    def __enter__(self) -> Logger:
        """The logger itself; its thread starts with the first benchmark."""
        return self

    def __exit__(self, *_: object) -> None:
        """Drop benchmarks that have not begun, and wait for the one that has."""
        self._stopped.set()
        self._pool.shutdown(cancel_futures=True)

    def add(self, done: AnsweredTask) -> None:
        """Log this benchmark soon; what went wrong with an earlier one is raised now."""
        for earlier in self._waiting.values():
            if earlier.done():
                earlier.result()
        self._waiting[done.task.name] = self._pool.submit(self._log, done)

    def run_ids(self) -> list[str]:
        """The runs of all cells, when they are logged."""
        found = [run_id for task in self.job.tasks for run_id in self._waiting[task.name].result()]
        if self._outage is not None:
            hint = "every answer is kept: upload with `headwise sync`"
            raise type(self._outage)(f"{self._outage}; {hint}") from self._outage
        return found

    def _log(self, done: AnsweredTask) -> list[str]:
        if self._outage is not None:
            return []
        try:
            self._logged = logged_cells(self.study) if self._logged is None else self._logged
            return log_task(self.job, self.study, done, self.bar.say, self._logged, self._stopped.is_set)
        except TrackingError as error:
            self._outage = error
            self.bar.say(f"{error}; answering goes on without it")
            return []


def log_task(
    job: Job,
    study: tracking.StudyRun,
    done: AnsweredTask,
    say: Callable[[str], None],
    logged: Logged,
    stopped: Callable[[], bool],
) -> list[str]:
    """Score and log the task's cells from the spool; those in `logged` are left as they are.

    Except those that were scored by other labels or another scorer: they are scored and logged anew, so that a
    study never holds two answer keys. Ends early, between two cells, where `stopped` says so. DataError where the
    labels change meanwhile.
    """
    task = done.task
    key = key_tags(task.name, task.data_dir, job.study.limit)
    known = _scored_alike(study, task, key, logged, say)
    if len(known) == len(task.cells):
        return [known[cell] for cell in task.cells]
    with scratch(job.key) as out:
        failures = failures_of(done, say)
        folders = write_cells(task, Spool(spool_folder(task.group)), failures, out, job.checkpoint.geometry)
        run_ids: list[str] = []
        for folder in folders:
            if stopped():
                return run_ids
            run_ids.append(known.get(folder.cell) or _log(job, study, task, folder, key, done.started))
    if key != key_tags(task.name, task.data_dir, job.study.limit):
        raise DataError(f"{task.name}: its labels changed while cells were scored; run the same command again")
    return run_ids


def _scored_alike(
    study: tracking.StudyRun, task: Task, key: dict[str, str], logged: Logged, say: Callable[[str], None]
) -> dict[Cell, str]:
    """Run ids of the task's cells that are logged and were scored by this key; runs scored by another are deleted."""
    runs = {cell: run for cell in task.cells if (run := logged.get((task.group, task.key(cell))))}
    stale = [cell for cell, run in runs.items() if any(run.data.tags.get(tag) != key[tag] for tag in key)]
    if stale:
        say(f"{task.name}: {len(stale)} cells were scored by other labels or another scorer; scored anew")
        drop_cells(study, [runs[cell] for cell in stale])
    return {cell: run.info.run_id for cell, run in runs.items() if cell not in stale}


def failures_of(done: AnsweredTask, say: Callable[[str], None]) -> dict[int, str]:
    """The task's questions that have no answer, and why: their image cannot be read, or no worker survived them."""
    answered = done.task.answered(Spool(spool_folder(done.task.group)))
    failures = done.failures | unreadable(done.task, answered)
    if failures:
        first = next(iter(failures.values()))
        say(f"{done.task.name}: {len(failures)} questions failed, its cells are incomplete; first: {first}")
    return failures


def _log(
    job: Job, study: tracking.StudyRun, task: Task, folder: CellFolder, key: dict[str, str], started: float
) -> str:
    """Score the cell's answers, write verdicts and configuration beside them, and log it all as a run."""
    records = read_answers(folder.folder / ANSWERS)
    card, verdicts = score_records(task.name, task.data_dir, records, job.study.limit, source=str(ANSWERS))
    write_verdicts(folder.folder, verdicts)
    write_provenance(job, task, folder)
    return log_cell_folder(job, study, task, folder, card, key, (started, time.time()))


@contextmanager
def scratch(key: str) -> Iterator[Path]:
    """A study's own folder for files on their way to the tracking server, empty before and gone after."""
    folder = work_folder() / key
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir()
        yield folder
    except OSError as error:
        raise DataError(
            f"cannot write below {folder} ({error.strerror or error}); every answer is kept: "
            "run the same command again when this is mended"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
