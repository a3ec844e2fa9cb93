"""A study from configuration to finished cell runs: answer, score, log.

What a user can get wrong is found before a run is opened or a weight is loaded. Answers are on disk
before they are logged; what could not be logged is logged later (`headwise sync`), and nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

from headwise import tracking
from headwise.benchmarks.bundles.check import data_folder
from headwise.engine.compiled import check_compiler
from headwise.models import FAMILIES
from headwise.models.checkpoint import Checkpoint, find_checkpoint
from headwise.run.answer_tasks import AnsweredTask, answer_tasks
from headwise.run.answering import Answerer, unreadable
from headwise.run.conventions import suited
from headwise.run.defined import check_defined
from headwise.run.executors import Executor, Scale
from headwise.run.executors.local import Local
from headwise.run.log_tasks import Logger, failures_of
from headwise.run.placement import Placement
from headwise.run.progress import StudyBar
from headwise.run.settings import StudySettings
from headwise.run.spool import Spool
from headwise.run.tasks import Task, check_before, plan
from headwise.study.cells import Cell, fingerprint
from headwise.system import garbage
from headwise.system.cache import spool_folder


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
        """Check a study against its checkpoint and data, and plan its tasks.

        Args:
            study: the settings.
            placement: devices; None for one, chosen by itself.
            scale: engine and workers; None for the local engine.

        Raises:
            HeadwiseError: a checkpoint, benchmark folder or cell that does not fit, named in the message.
        """
        placement, scale = placement or Placement(), scale or Scale()
        placement.check(study)
        if scale.engine == "ray":
            placement = replace(placement, made_on=_kind_of_workers(study, placement, scale))
        checkpoint = find_checkpoint(study.model, placement.allow_pickle).seen_as(study.image_limits)
        study = suited(study, checkpoint)
        check_defined(FAMILIES[checkpoint.family], [*study.controls, *study.strategy])
        cells = study.cells(checkpoint.geometry)
        data_dir = data_folder(study.data_dir, study.benchmark)
        clips = check_before(checkpoint, cells, placement.allow_pickle)
        tasks = plan(study, checkpoint, cells, data_dir, placement.kind(study), clips)
        if study.compile and placement.made_on is None:  # else it is computed elsewhere, or has been
            check_compiler(placement.kind(study))
        return cls(study, checkpoint, cells, tasks, placement, scale)

    @cached_property
    def answerer(self) -> Answerer:
        """The loaded model, on first use: a study whose answers are all on disk never loads it."""
        return Answerer(
            self.placement.load(self.checkpoint, self.study),
            self.study.max_new_tokens,
            allow_pickle=self.placement.allow_pickle,
            compiled=self.study.compile,
        )

    @contextmanager
    def executor(self, say: Callable[[str], None]) -> Iterator[Executor]:
        """What answers, for as long as the block lasts; nothing is loaded or started before there is work."""
        garbage.as_usual()
        if self.scale.engine == "local":
            yield Local(lambda: self.answerer)
            return
        from headwise.run.executors.ray import RayExecutor
        from headwise.run.executors.worker import Orders, identity

        kind, folder = self.placement.kind(self.study), Path(self.study.model)
        model = str(folder.resolve()) if folder.is_dir() else self.study.model
        orders = Orders(self.study, model, kind, self.placement.allow_pickle)
        expected = identity(self.checkpoint, self.study, kind, self.placement.allow_pickle)
        with RayExecutor(orders, expected, self.scale, say) as executor:
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
    with StudyBar(console, 0 if answered else job.questions) as bar, Logger(job, study, bar) as logger:
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
            failures_of(done, bar.say)


def _kind_of_workers(study: StudySettings, placement: Placement, scale: Scale) -> str:
    """Cpu or cuda: what a cluster has, where there is one to ask, since the machine of the driver may be another.

    Joins the cluster, so that an address that cannot be used is found before a run is opened.
    """
    if scale.address is None:
        return placement.kind(study)
    from headwise.run.executors.ray_session import cluster_kind, join

    join(scale.address)
    return cluster_kind() if study.device == "auto" else study.device.partition(":")[0]


def lacking(job: Job) -> int:
    """Questions that have neither all their answers nor a reason why they cannot be answered."""
    total = 0
    for task in job.tasks:
        done = task.answered(Spool(spool_folder(task.group)))
        total += int((~done.all(axis=1)).sum()) - len(unreadable(task, done))
    return total
