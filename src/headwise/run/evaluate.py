"""A study from configuration to finished cell runs: answer, score, log.

What a user can get wrong is found before a run is opened or a weight is loaded. Answers are on disk
before they are logged; what could not be logged is logged later (`headwise sync`), and nothing twice.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

from headwise import tracking
from headwise.benchmarks.bundles.check import data_folder
from headwise.errors import DataError, TrackingError
from headwise.models.checkpoint import Checkpoint, find_checkpoint
from headwise.records import read_answers
from headwise.run.answer_tasks import AnsweredTask, answer_tasks
from headwise.run.answering import Answerer, unreadable
from headwise.run.cell_files import ANSWERS, CellFolder, write_cells
from headwise.run.cell_runs import log_cell_folder, write_provenance
from headwise.run.executors import Executor, Scale
from headwise.run.executors.local import Local
from headwise.run.placement import Placement
from headwise.run.progress import StudyBar
from headwise.run.settings import StudySettings
from headwise.run.spool import Spool
from headwise.run.tasks import Task, plan
from headwise.scoring.score import key_tags, score_records, write_verdicts
from headwise.study.cells import Cell, fingerprint
from headwise.system.cache import spool_folder, work_folder
from headwise.tracking.resume import Logged, drop_cells, logged_cells


@dataclass
class Job:
    """A checked study: its checkpoint, grid and tasks. Building one loads no weights and opens no run."""

    study: StudySettings
    checkpoint: Checkpoint
    cells: list[Cell]
    tasks: list[Task]
    placement: Placement = field(default_factory=Placement)
    scale: Scale = field(default_factory=Scale)

    @classmethod
    def of(cls, study: StudySettings, placement: Placement | None = None, scale: Scale | None = None) -> Job:
        placement, scale = placement or Placement(), scale or Scale()
        placement.check(study)
        if scale.engine == "ray":
            placement = replace(placement, made_on=_kind_of_workers(study, placement, scale))
        checkpoint = find_checkpoint(study.model, placement.allow_pickle)
        cells = study.cells(checkpoint.geometry)
        data_dir = data_folder(study.data_dir, study.benchmark)
        tasks = plan(study, checkpoint, cells, data_dir, placement.kind(study))
        return cls(study, checkpoint, cells, tasks, placement, scale)

    @cached_property
    def answerer(self) -> Answerer:
        """The loaded model, on first use: a study whose answers are all on disk never loads it."""
        return Answerer(self.placement.load(self.checkpoint, self.study), self.study.max_new_tokens)

    @contextmanager
    def executor(self, say: Callable[[str], None]) -> Iterator[Executor]:
        """What answers, for as long as the block lasts; nothing is loaded or started before there is work."""
        if self.scale.engine == "local":
            yield Local(lambda: self.answerer)
            return
        from headwise.run.executors.ray import RayExecutor
        from headwise.run.executors.worker import Orders, identity

        kind, folder = self.placement.kind(self.study), Path(self.study.model)
        model = str(folder.resolve()) if folder.is_dir() else self.study.model
        orders = Orders(self.study, model, kind, self.placement.allow_pickle)
        with RayExecutor(orders, identity(self.checkpoint, kind), self.scale, say) as executor:
            yield executor

    @property
    def questions(self) -> int:
        """Questions of all benchmarks."""
        return sum(len(task.samples) for task in self.tasks)

    @cached_property
    def key(self) -> str:
        """Fingerprint of the study: its settings, and all that its answers are kept under."""
        return fingerprint(self.study, [[task.group, task.questions] for task in self.tasks])

    def params(self) -> dict[str, Any]:
        """What the study's run records: the configuration as it was resolved."""
        return self.study.model_dump(exclude_none=True)


def evaluate_study(job: Job, study: tracking.StudyRun, console: Console, answered: bool = False) -> list[str]:
    """Answer, score and log every cell of the study; the run ids of the cells, those logged before included.

    A benchmark is scored and logged while the next one is answered. Cells with failed questions are logged as
    incomplete and named on the console. Where the tracking server fails, answering goes on without it; its
    TrackingError is raised when everything is answered. `answered` says that all is answered that can be.
    """
    with StudyBar(console, 0 if answered else job.questions) as bar, _Logger(job, study, bar) as logger:
        if answered:
            for task in job.tasks:
                logger.add(AnsweredTask(task))
        else:
            with job.executor(bar.say) as executor:
                for done in answer_tasks(job.tasks, job.placement.kind(job.study), executor, bar):
                    logger.add(done)
        return logger.run_ids()


def answer_study(job: Job, console: Console) -> None:
    """Answer every question without any tracking server (`--offline`)."""
    with StudyBar(console, job.questions) as bar, job.executor(bar.say) as executor:
        for done in answer_tasks(job.tasks, job.placement.kind(job.study), executor, bar):
            _failures(done, bar.say)


def _kind_of_workers(study: StudySettings, placement: Placement, scale: Scale) -> str:
    """cpu or cuda: what a cluster has, where there is one to ask, since the machine of the driver may be another."""
    if scale.address is None or study.device != "auto" or placement.made_on:
        return placement.kind(study) if scale.address is None else (placement.made_on or study.device.partition(":")[0])
    from headwise.run.executors.ray_session import cluster_kind, join

    join(scale.address)
    return cluster_kind()


class _Logger:
    """Scores and logs benchmarks one after the other in a thread of its own; leaving the block stops it."""

    def __init__(self, job: Job, study: tracking.StudyRun, bar: StudyBar) -> None:
        self.job, self.study, self.bar = job, study, bar
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="log")
        self._stopped = threading.Event()
        self._waiting: dict[str, Future[list[str]]] = {}
        self._logged: Logged | None = None
        self._outage: TrackingError | None = None

    def __enter__(self) -> _Logger:
        return self

    def __exit__(self, *_: object) -> None:
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
        failures = _failures(done, say)
        folders = write_cells(task, Spool(spool_folder(task.group)), failures, out, job.checkpoint.geometry)
        run_ids = []
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


def _failures(done: AnsweredTask, say: Callable[[str], None]) -> dict[int, str]:
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


def lacking(job: Job) -> int:
    """Questions that have neither all their answers nor a reason why they cannot be answered."""
    total = 0
    for task in job.tasks:
        done = task.answered(Spool(spool_folder(task.group)))
        total += int((~done.all(axis=1)).sum()) - len(unreadable(task, done))
    return total


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
