"""What `run` and `evaluate` share: from options to a finished study, with a bar and a closing line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from headwise.system.terminal import plain_console

if TYPE_CHECKING:
    from headwise.run.evaluate import Job
    from headwise.run.executors import Scale
    from headwise.run.placement import Placement
    from headwise.run.settings import StudySettings
    from headwise.tracking.pending import Note


def run_study(
    config_path: str | None,
    settings: Mapping[str, Any],
    comparing: bool,
    offline: bool = False,
    devices: str | None = None,
    device_map: str | None = None,
    allow_pickle: bool = False,
    scale: Mapping[str, Any] | None = None,
) -> None:
    """Check everything, then run the study in one tracking run; compare its cells where asked to.

    `scale`: engine, workers, address and what else `run.executors.Scale` takes from the command line.
    """
    from headwise.system.launcher import check_launcher

    check_launcher()  # before anything that takes its time
    from headwise.run.executors import Scale
    from headwise.run.placement import Placement
    from headwise.run.settings import AS_CONFIGURED, load_settings
    from headwise.system.packaged import DEFAULT, study_file

    chosen = None if config_path in (None, "", AS_CONFIGURED) else config_path
    study = load_settings(study_file(chosen or DEFAULT), settings)
    placement = Placement.of(devices, device_map, allow_pickle)
    placement.check(study)
    spread = Scale.of(placement, **scale or {})
    if not offline:
        _connect()
    _work(study, placement, spread, comparing, offline)


def print_plan(
    config_path: str | None,
    settings: Mapping[str, Any],
    devices: str | None = None,
    device_map: str | None = None,
    allow_pickle: bool = False,
) -> None:
    """Print what the study will cost; nothing is answered, nothing logged."""
    from headwise.run.estimate import plan_lines
    from headwise.run.evaluate import Job
    from headwise.run.placement import Placement
    from headwise.run.settings import AS_CONFIGURED, load_settings
    from headwise.system.packaged import DEFAULT, study_file

    chosen = None if config_path in (None, "", AS_CONFIGURED) else config_path
    study = load_settings(study_file(chosen or DEFAULT), settings)
    job = Job.of(study, Placement.of(devices, device_map, allow_pickle))
    for label, value in plan_lines(job):
        print(f"{label:12} {value}")


def _work(study: StudySettings, placement: Placement, scale: Scale, comparing: bool, offline: bool) -> None:
    from headwise.run.evaluate import Job, answer_study
    from headwise.run.layers import layer_lines
    from headwise.tracking.pending import study_lock

    job = Job.of(study, placement, scale)
    console = plain_console(stderr=True)
    console.print(
        f"{len(job.cells)} cells on {', '.join(job.study.benchmark)}: "
        f"{sum(len(task.samples) for task in job.tasks):,} questions each, model {study.model}"
    )
    for label, value in layer_lines(job.cells, job.checkpoint.geometry):
        console.print(f"{label}: {value}", soft_wrap=True)
    with study_lock(_note(job, comparing), lambda text: console.print(text, soft_wrap=True)) as note:
        if note.state == "finished" and not os.environ.get("MLFLOW_RUN_ID"):
            console.print(f"the other process finished this study: run {note.run_id}")
        elif offline:
            note.save(state="open")
            answer_study(job, console)
            console.print("answers are kept; `headwise sync` scores and logs them")
        else:
            from headwise.report.compare import compare_study
            from headwise.run.lifecycle import log_study

            log_study(job, note, console, compare_study)


def _connect() -> None:
    """Reach the tracking server before anything is computed; where it is down, say how to go on without it."""
    from headwise import tracking

    try:
        tracking.connect()
    except tracking.ServerUnreachable as error:
        raise tracking.ServerUnreachable(f"{error}; or add --offline to answer now and log later") from error


def _note(job: Job, comparing: bool) -> Note:
    from dataclasses import asdict

    from headwise.study.cells import fingerprint
    from headwise.tracking.pending import Note, tracking_place

    place, experiment = tracking_place(), os.environ.get("MLFLOW_EXPERIMENT_NAME")
    key = fingerprint(job.key, comparing, place, experiment)
    settings = job.study.model_dump()
    placement = asdict(job.placement) | {"made_on": job.placement.kind(job.study)}
    return Note(
        key=key, study=settings, comparing=comparing, tracking=place, experiment=experiment, placement=placement
    )
