"""A study and its run: begun, gone on with, finished; and the ones that a server did not take, logged later."""

from __future__ import annotations

from rich.console import Console

from headwise import tracking
from headwise.config import Study, fingerprint
from headwise.errors import ConfigError, DataError, ModelError
from headwise.pending import Note, claimed_now, tracking_place
from headwise.pipeline import Job, evaluate_study, lacking
from headwise.placement import Placement
from headwise.shards import Crew
from headwise.tracking.resume import resumable, take_over


def log_study(
    job: Job, note: Note, console: Console, crew: Crew | None = None, answered: bool = False
) -> None:
    """Open the study's run, or go on with the one that was cut short, and finish it.

    `answered`: nothing is left to answer, so that no model is loaded.
    """
    before = note.run_id if note.run_id and resumable(note.run_id) else None
    tags = {"headwise.model_digest": job.checkpoint.digest}
    with tracking.open_study(job.params(), experiment=note.experiment, tags=tags, resume=before) as run:
        if before and before != run.run_id:
            take_over(run, before)
        note = note.save(run_id=run.run_id, state="open")
        evaluate_study(job, run, console, crew, answered)
        if note.comparing:
            from headwise.compare import compare_study

            compare_study(run, console)
        note.save(state="finished")
    console.print(f"cells in the MLflow UI: {run.ui_url()}", soft_wrap=True)


def sync_note(note: Note, console: Console, forget: bool = False) -> bool:
    """Finish one study; False, with the reason on the console, where something of it is left.

    `forget` drops a study that can never be uploaded. ServerUnreachable where the server does not answer.
    """
    name = f"study {note.key} ({', '.join(note.study['benchmark'])}, model {note.study['model']})"
    with claimed_now(note) as mine:
        if not mine:
            return _left(console, f"{name}: another process is working on it")
        job, reason = _job(note)
        if job is None:
            if forget:
                note.forget()
                reason += "; forgotten, its answers stay in the spool"
            return _left(console, f"{name}: {reason}")
        if note.tracking != tracking_place():
            return _left(console, f"{name}: belongs to {note.tracking}; set MLFLOW_TRACKING_URI to it")
        if open_questions := lacking(job):
            return _left(
                console, f"{name}: {open_questions} questions are not answered yet; run the study's command again"
            )
        log_study(job, note, console, answered=True)
    return True


def _job(note: Note) -> tuple[Job | None, str]:
    """The study as it was planned, for the devices it was answered on; nothing and the reason where it changed."""
    try:
        placement = Placement(**note.placement | {"devices": tuple(note.placement.get("devices", ()))})
        job = Job.of(Study.model_validate(note.study), placement)
    except (ConfigError, DataError, ModelError) as error:
        return None, str(error)
    if fingerprint(job.key, note.comparing, note.tracking, note.experiment) != note.key:
        return None, "its data, model or headwise itself have changed since; run it again"
    return job, ""


def _left(console: Console, why: str) -> bool:
    console.print(why, soft_wrap=True)
    return False
