"""A study that was cut short: what of it is logged, and what of it is half logged."""

from __future__ import annotations

from collections.abc import Sequence

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from headwise.tracking.connection import reaching
from headwise.tracking.study import Study

Logged = dict[tuple[str, str], Run]
"""Finished cells by the fingerprints of their answers: (headwise.group, headwise.answers)."""


def resumable(run_id: str) -> bool:
    """True where the run is still there and not deleted."""
    with reaching():
        try:
            return MlflowClient().get_run(run_id).info.lifecycle_stage == "active"
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise


def logged_cells(study: Study) -> Logged:
    """The study's finished cells. Cells whose logging was cut short are deleted: they will be logged whole."""
    with reaching(study.uri):
        finished = {}
        for run in _cells(study, study.run_id):
            if run.info.status == "FINISHED":
                tags = run.data.tags
                finished[tags.get("headwise.group", ""), tags.get("headwise.answers", "")] = run
            else:
                MlflowClient().delete_run(run.info.run_id)
    return finished


def drop_cells(study: Study, runs: Sequence[Run]) -> None:
    """Delete cells of the study that will be logged anew."""
    with reaching(study.uri):
        for run in runs:
            MlflowClient().delete_run(run.info.run_id)


def take_over(study: Study, run_id: str) -> None:
    """Make the cells of the run that this study goes on from this study's own, so that none is logged twice."""
    with reaching(study.uri):
        for cell in _cells(study, run_id):
            MlflowClient().set_tag(cell.info.run_id, "headwise.study", study.run_id)
        MlflowClient().set_tag(run_id, "headwise.continued_by", study.run_id)


def _cells(study: Study, run_id: str) -> list[Run]:
    query = f"tags.`headwise.kind` = 'cell' and tags.`headwise.study` = '{run_id}'"
    found, token = [], None
    while True:
        page = MlflowClient().search_runs([study.experiment_id], query, max_results=1000, page_token=token)
        found += page
        token = page.token
        if not token:
            return found
