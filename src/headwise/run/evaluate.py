"""A study from configuration to finished cell runs: answer, score, log.

What a user can get wrong is found before a run is opened or a weight is loaded. Answers are on disk
before they are logged; what could not be logged is logged later (`headwise sync`), and nothing twice.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from headwise import tracking
from headwise.benchmarks.bundles.check import data_folder
from headwise.errors import DataError, TrackingError
from headwise.models.checkpoint import Checkpoint, find_checkpoint
from headwise.models.contract import ImageOptions
from headwise.records import read_answers
from headwise.run.answering import Answerer, open_windows, unreadable
from headwise.run.cell_files import ANSWERS, CellFolder, write_cells
from headwise.run.cell_runs import log_cell_folder, write_provenance
from headwise.run.placement import Placement
from headwise.run.settings import StudySettings
from headwise.run.shards import Crew
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

    @classmethod
    def of(cls, study: StudySettings, placement: Placement | None = None) -> Job:
        placement = placement or Placement()
        placement.check(study)
        images = ImageOptions(min_pixels=study.min_pixels, max_pixels=study.max_pixels, max_tiles=study.max_tiles)
        checkpoint = find_checkpoint(study.model, placement.allow_pickle).seen_as(images)
        cells = study.cells(checkpoint.geometry)
        data_dir = data_folder(study.data_dir, study.benchmark)
        tasks = plan(study, checkpoint, cells, data_dir, placement.kind(study))
        return cls(study, checkpoint, cells, tasks, placement)

    @cached_property
    def answerer(self) -> Answerer:
        """The loaded model, on first use: a study whose answers are all on disk never loads it."""
        return Answerer(self.placement.load(self.checkpoint, self.study), self.study.max_new_tokens)

    @cached_property
    def key(self) -> str:
        """Fingerprint of the study: its settings, and all that its answers are kept under."""
        return fingerprint(self.study, [[task.group, task.questions] for task in self.tasks])

    def params(self) -> dict[str, Any]:
        """What the study's run records: the configuration as it was resolved."""
        return self.study.model_dump(exclude_none=True)


def evaluate_study(
    job: Job, study: tracking.StudyRun, console: Console, crew: Crew | None = None, answered: bool = False
) -> list[str]:
    """Answer, score and log every cell of the study; the run ids of the cells, those logged before included.

    Cells with failed questions are logged as incomplete and named on the console. Where the tracking server
    fails, answering goes on without it; its TrackingError is raised when everything is answered. `answered`
    says that all is answered that can be.
    """
    run_ids: list[str] = []
    outage: TrackingError | None = None
    logged: Logged | None = None
    with progress_bar(console) as bar:
        for task in job.tasks:
            started = time.time()
            if not answered:
                answer_task(job, task, crew or Crew(), bar)
            try:
                if outage is None:
                    logged = logged_cells(study) if logged is None else logged
                    run_ids += log_task(job, study, task, bar, logged, started)
            except TrackingError as error:
                outage = error
                bar.console.print(f"{error}; answering goes on without it", soft_wrap=True)
    if outage is not None:
        raise type(outage)(f"{outage}; every answer is kept: upload with `headwise sync`") from outage
    return run_ids


def answer_study(job: Job, console: Console, crew: Crew) -> None:
    """Answer every question without any tracking server: what the other processes do, and `--offline`."""
    with progress_bar(console, shown=crew.main) as bar:
        for task in job.tasks:
            answer_task(job, task, crew, bar)


def answer_task(job: Job, task: Task, crew: Crew, bar: Progress) -> None:
    """Answer what no process has answered yet. Loads the model only where there is something to do."""
    spool = Spool(spool_folder(task.group))
    crew.collect(f"{task.name}/before", spool)
    done = crew.told(task.name, task.answered(spool) if crew.main else np.empty(0))
    if spool.damaged and not done.all():
        bar.console.print(f"{task.name}: {spool.damaged} damaged lines in the spool; their questions are answered anew")
    windows = open_windows(task, done, job.placement.kind(job.study))
    if not windows:
        return
    row = bar.add_task(f"{task.name}: {len(task.cells)} cells", total=len(task.samples))
    before = int(done.all(axis=1).sum())

    def advance(more: int = 0) -> None:
        bar.update(row, completed=before + crew.count(task.name, more))

    advance()
    if mine := crew.share(windows):
        job.answerer.answer(task, mine, spool, advance)
    crew.collect(f"{task.name}/after", spool, advance)


def log_task(
    job: Job, study: tracking.StudyRun, task: Task, bar: Progress, logged: Logged, started: float
) -> list[str]:
    """Score and log the task's cells from the spool; those in `logged` are left as they are.

    Except those that were scored by other labels or another scorer: they are scored and logged anew, so that a
    study never holds two answer keys. DataError where the labels change meanwhile.
    """
    key = key_tags(task.name, task.data_dir, job.study.limit)
    known = _scored_alike(study, task, key, logged, bar.console)
    if len(known) == len(task.cells):
        return [known[cell] for cell in task.cells]
    with scratch(job.key) as out:
        failures = _failures(task, bar.console)
        folders = write_cells(task, Spool(spool_folder(task.group)), failures, out, job.checkpoint.geometry)
        row = bar.add_task(f"{task.name}: log", total=len(folders))
        run_ids = []
        for folder in folders:
            run_ids.append(known.get(folder.cell) or _log(job, study, task, folder, key, started))
            bar.advance(row)
        bar.remove_task(row)
    if key != key_tags(task.name, task.data_dir, job.study.limit):
        raise DataError(f"{task.name}: its labels changed while cells were scored; run the same command again")
    return run_ids


def _scored_alike(
    study: tracking.StudyRun, task: Task, key: dict[str, str], logged: Logged, console: Console
) -> dict[Cell, str]:
    """Run ids of the task's cells that are logged and were scored by this key; runs scored by another are deleted."""
    runs = {cell: run for cell in task.cells if (run := logged.get((task.group, task.key(cell))))}
    stale = [cell for cell, run in runs.items() if any(run.data.tags.get(tag) != key[tag] for tag in key)]
    if stale:
        console.print(f"{task.name}: {len(stale)} cells were scored by other labels or another scorer; scored anew")
        drop_cells(study, [runs[cell] for cell in stale])
    return {cell: run.info.run_id for cell, run in runs.items() if cell not in stale}


def _failures(task: Task, console: Console) -> dict[int, str]:
    """The task's questions whose image cannot be read, and why."""
    failures = unreadable(task, task.answered(Spool(spool_folder(task.group))))
    if failures:
        first = next(iter(failures.values()))
        console.print(f"{task.name}: {len(failures)} questions failed, its cells are incomplete; first: {first}")
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


def progress_bar(console: Console, shown: bool = True) -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, disable=not shown)
