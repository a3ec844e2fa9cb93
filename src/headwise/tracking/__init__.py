"""Studies, cells and comparisons as MLflow runs. Only this package imports mlflow.

A study is one run (under `mlflow run`, the run it created); each of its cells is a separate, non-nested run in
the same experiment, tagged `headwise.study` with the study's run id; a comparison is another run. The tag
`headwise.kind` distinguishes them, so that the server can filter.
"""

import os

# Set before mlflow is imported: no telemetry, and no printed line per run.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

from headwise.tracking.artifacts import download, local_file  # noqa: E402
from headwise.tracking.cells import log_cell, update_cell  # noqa: E402
from headwise.tracking.comparisons import log_compare  # noqa: E402
from headwise.tracking.connection import NothingFound, ServerUnreachable, connect  # noqa: E402
from headwise.tracking.links import compare_url, run_url, runs_url, ui_hint  # noqa: E402
from headwise.tracking.queries import LATEST, find_cells, latest_study, study_of  # noqa: E402
from headwise.tracking.study import StudyRun, open_study  # noqa: E402

__all__ = [
    "LATEST",
    "NothingFound",
    "ServerUnreachable",
    "StudyRun",
    "compare_url",
    "connect",
    "download",
    "find_cells",
    "latest_study",
    "local_file",
    "log_cell",
    "log_compare",
    "open_study",
    "run_url",
    "runs_url",
    "study_of",
    "ui_hint",
    "update_cell",
]
