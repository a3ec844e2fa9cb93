"""Cell runs: one answered and scored configuration each; a run is FINISHED only once it is complete."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

from headwise.tracking.connection import reaching
from headwise.tracking.study import StudyRun, as_text, context_tags

NOTE = "mlflow.note.content"
ILLEGAL = re.compile(r"[^/\w.\- ]")


def log_cell(
    study: StudyRun,
    *,
    params: Mapping[str, Any],
    metrics: Mapping[str, float | None],
    tags: Mapping[str, str],
    folder: Path,
    dataset: Mapping[str, Any],
    note: str,
    seconds_range: tuple[float, float] | None = None,
) -> str:
    """Log one cell as a finished run in the study's experiment, and return its run id.

    `params` need `benchmark` and `strategy`; None values are left out. `metrics` are those of the
    scorecard and the engine; None is left out. Every file in `folder` becomes an artifact. `dataset` has
    `name`, `digest` (at most 36 characters), `source` and optionally `profile` (JSON text).
    `seconds_range` is when the cell was computed (Unix seconds). The run is `complete` if `metrics` has a score
    and no failed or missing answers, unless `tags` sets another `headwise.status`.

    The run becomes FINISHED last: `find_cells` never returns an interrupted one.
    """
    client, (start, end) = MlflowClient(), seconds_range or (time.time(), time.time())
    with reaching(study.uri):
        run = client.create_run(
            study.experiment_id,
            start_time=round(start * 1000),
            run_name=run_name(params),
            tags=context_tags() | _cell_tags(study, metrics, note) | {key: str(value) for key, value in tags.items()},
        )
        run_id = run.info.run_id
        client.log_batch(run_id, params=_params(params), metrics=_metrics(metrics, end))
        client.log_inputs(run_id, datasets=[_dataset(dataset)])
        client.log_artifacts(run_id, str(folder))
        client.set_terminated(run_id, "FINISHED", end_time=round(end * 1000))
    return run_id


def update_cell(
    run_id: str,
    *,
    metrics: Mapping[str, float | None],
    folder: Path | None = None,
    tags: Mapping[str, str] | None = None,
    note: str | None = None,
) -> None:
    """Update a cell after rescoring: metrics get a newer value, files are replaced.

    The tag `headwise.status` follows the new metrics, unless `tags` sets it.
    """
    client = MlflowClient()
    news = {"headwise.status": _status(metrics)} | dict(tags or {}) | ({NOTE: note} if note else {})
    with reaching():
        if folder is not None:
            client.log_artifacts(run_id, str(folder))
        tags_now = [RunTag(key, str(value)) for key, value in news.items()]
        client.log_batch(run_id, metrics=_metrics(metrics, time.time()), tags=tags_now)


def run_name(params: Mapping[str, Any]) -> str:
    """`textvqa-192-16-sparsity`: benchmark, tokens, heads and strategy, without those that do not apply."""
    parts = (params.get(name) for name in ("benchmark", "tokens", "heads", "strategy"))
    return "-".join(str(part) for part in parts if part is not None)


def metric_name(name: str) -> str:
    """A valid MLflow metric name: characters other than letters, digits, `_`, `-`, `.`, `/` and space become `_`."""
    return ILLEGAL.sub("_", name)


def _cell_tags(study: StudyRun, metrics: Mapping[str, float | None], note: str) -> dict[str, str]:
    kind = {"headwise.kind": "cell", "headwise.study": study.run_id}
    return kind | {"headwise.status": _status(metrics), NOTE: note}


def _status(metrics: Mapping[str, float | None]) -> str:
    lost = sum(metrics.get(name) or 0 for name in ("failed", "missing"))
    return "complete" if not lost and metrics.get("score") is not None else "incomplete"


def _params(params: Mapping[str, Any]) -> list[Param]:
    return [Param(name, as_text(value)) for name, value in params.items() if value is not None]


def _metrics(metrics: Mapping[str, float | None], seconds: float) -> list[Metric]:
    known = {metric_name(name): value for name, value in metrics.items() if value is not None}
    return [Metric(name, float(value), round(seconds * 1000), 0) for name, value in known.items()]


def _dataset(dataset: Mapping[str, Any]) -> DatasetInput:
    entity = Dataset(
        name=dataset["name"],
        digest=dataset["digest"],
        source_type="local",
        source=str(dataset["source"]),
        profile=dataset.get("profile"),
    )
    return DatasetInput(entity, [InputTag("mlflow.data.context", "eval")])
