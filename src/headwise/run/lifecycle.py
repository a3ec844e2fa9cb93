"""A study and its run: begun, gone on with, finished; and the ones that a server did not take, logged later."""

from __future__ import annotations

import os
from collections.abc import Callable

from pydantic import ValidationError
from rich.console import Console

from headwise import tracking
from headwise.errors import ConfigError, DataError, ModelError
from headwise.run.evaluate import Job, evaluate_study, lacking
from headwise.run.placement import Placement
from headwise.run.settings import StudySettings
from headwise.study.cells import fingerprint
from headwise.tracking.orphans import new_mark
from headwise.tracking.pending import Note, tracking_place, try_study_lock
from headwise.tracking.resume import begun_runs, is_finished, take_over

# What compares the cells of a study that is still open: it lies above this package, so that callers hand it in.
Compare = Callable[[tracking.StudyRun, Console], None]


def log_study(job: Job, note: Note, console: Console, compare: Compare, answered: bool = False) -> None:
    """Open the study's run, or go on with the one that was cut short, and finish it; `compare` where the note asks.

    `answered`: nothing is left to answer, so that no model is loaded.
    """
    note = note.save(state="open", mark=note.mark or new_mark())
    earlier = begun_runs(note)
    if earlier and is_finished(earlier[0]) and not os.environ.get("MLFLOW_RUN_ID"):
        # the process that finished this study was killed before it could note so
        note.save(run_id=earlier[0], state="finished")
        console.print(f"this study was finished already: run {earlier[0]}")
        return
    before = earlier[0] if earlier else None
    tags = {"headwise.model_digest": job.checkpoint.digest}
    with tracking.open_study(job.params(), experiment=note.experiment, tags=tags, resume=before, mark=note.mark) as run:
        for other in earlier:
            if other != run.run_id:
                take_over(run, other)
        note = note.save(run_id=run.run_id, state="open")
        evaluate_study(job, run, console, answered)
        if note.comparing:
            compare(run, console)
    note.save(state="finished")  # after the run has ended: a study that is noted as finished is never gone on with
    console.print(f"cells in the MLflow UI: {run.ui_url()}", soft_wrap=True)


def sync_note(note: Note, console: Console, compare: Compare, forget: bool = False) -> bool:
    """Finish one study; False, with the reason on the console, where something of it is left.

    `forget` drops a study that can never be uploaded. ServerUnreachable where the server does not answer.
    """
    benchmarks = note.study.get("benchmark")
    listed = ", ".join(map(str, benchmarks)) if isinstance(benchmarks, list) else benchmarks
    name = f"study {note.key} ({listed}, model {note.study.get('model')})"
    with try_study_lock(note) as mine:
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
        log_study(job, note, console, compare, answered=True)
    return True


def _job(note: Note) -> tuple[Job | None, str]:
    """The study as it was planned, for the devices it was answered on; nothing and the reason where it changed."""
    try:
        placement = Placement(**note.placement | {"devices": tuple(note.placement.get("devices", ()))})
        job = Job.of(StudySettings.model_validate(note.study), placement)
    except ValidationError as error:
        setting = ".".join(map(str, error.errors()[0]["loc"])) or "?"
        return None, f"was begun by another version of headwise (its setting {setting} is no longer one); run it again"
    except (ConfigError, DataError, ModelError) as error:
        return None, str(error)
    if fingerprint(job.key, note.comparing, note.tracking, note.experiment) != note.key:
        return None, "its data, model or headwise itself have changed since; run it again"
    return job, ""


def _left(console: Console, why: str) -> bool:
    console.print(why, soft_wrap=True)
    return False
