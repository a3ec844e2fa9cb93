"""What `run` and `evaluate` share: from options to a finished study, with a bar and a closing line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

DEFAULT_CONFIG = Path("configs/default.yaml")


def run_study(config_path: str | None, settings: Mapping[str, Any], comparing: bool) -> None:
    """Check everything, then run the study in one tracking run; compare its cells where asked to."""
    from headwise import tracking
    from headwise.config import AS_CONFIGURED, load_study
    from headwise.pipeline import Job, evaluate_study

    console = Console(stderr=True)
    chosen = None if config_path in (None, "", AS_CONFIGURED) else config_path
    study = load_study(chosen or _default(), settings)
    tracking.connect()
    job = Job.of(study)
    console.print(
        f"{len(job.cells)} cells on {', '.join(study.benchmark)}: "
        f"{sum(len(task.samples) for task in job.tasks):,} questions each, model {study.model}"
    )
    with tracking.open_study(job.params(), tags={"headwise.model_digest": job.checkpoint.digest}) as run:
        evaluate_study(job, run, console)
        if comparing:
            from headwise.compare import compare_study

            compare_study(run, console)
    console.print(f"cells in the MLflow UI: {run.ui_url()}", soft_wrap=True)


def _default() -> Path | None:
    """The checkout's default study where the command is run in a checkout."""
    return DEFAULT_CONFIG if DEFAULT_CONFIG.is_file() else None
