"""Resuming an interrupted study: its finished and its half-logged cells."""

from __future__ import annotations

import os
from collections.abc import Sequence

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from headwise.tracking.connection import NothingFound, reaching
from headwise.tracking.orphans import marked_runs
from headwise.tracking.pending import Note
from headwise.tracking.queries import experiment_of
from headwise.tracking.study import StudyRun

# Finished cells by the fingerprints of their answers: (headwise.group, headwise.answers).
Logged = dict[tuple[str, str], Run]


def resumable(run_id: str) -> bool:
    """True if the run exists and is not deleted."""
    with reaching():
        try:
            return MlflowClient().get_run(run_id).info.lifecycle_stage == "active"
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise


def begun_runs(note: Note) -> list[str]:
    """Ids of existing runs that were started for this study, the one to continue first.

    The note records the run id only after the run was created; a run whose process was killed in between is
    found by its mark.
    """
    known = [note.run_id] if note.run_id and resumable(note.run_id) else []
    with reaching():
        try:
            where = experiment_of(None if os.environ.get("MLFLOW_RUN_ID") else note.experiment)
        except NothingFound:
            return known
        return list(dict.fromkeys([*known, *marked_runs(note.mark, where.experiment_id)]))


def is_finished(run_id: str) -> bool:
    """Whether the run ended as FINISHED. TrackingError where the store cannot be reached."""
    with reaching():
        return MlflowClient().get_run(run_id).info.status == "FINISHED"


def logged_cells(study: StudyRun) -> Logged:
    """The study's finished cells. Half-logged cells are deleted; they will be logged again."""
    with reaching(study.uri):
        finished = {}
        for run in _cells(study, study.run_id):
            if run.info.status == "FINISHED":
                tags = run.data.tags
                finished[tags.get("headwise.group", ""), tags.get("headwise.answers", "")] = run
            else:
                MlflowClient().delete_run(run.info.run_id)
    return finished


def drop_cells(study: StudyRun, runs: Sequence[Run]) -> None:
    """Delete cells of the study that will be logged again."""
    with reaching(study.uri):
        for run in runs:
            MlflowClient().delete_run(run.info.run_id)


def take_over(study: StudyRun, run_id: str) -> None:
    """Move the cells of the run that this study continues to this study, so that none is logged twice."""
    with reaching(study.uri):
        for cell in _cells(study, run_id):
            MlflowClient().set_tag(cell.info.run_id, "headwise.study", study.run_id)
        MlflowClient().set_tag(run_id, "headwise.continued_by", study.run_id)
        if MlflowClient().get_run(run_id).info.status == "RUNNING":
            MlflowClient().set_terminated(run_id, "KILLED")


def _cells(study: StudyRun, run_id: str) -> list[Run]:
    query = f"tags.`headwise.kind` = 'cell' and tags.`headwise.study` = '{run_id}'"
    found, token = [], None
    while True:
        page = MlflowClient().search_runs([study.experiment_id], query, max_results=1000, page_token=token)
        found += page
        token = page.token
        if not token:
            return found
