"""Comparison runs: tables, their Markdown and the report's files."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient

from headwise.tracking.cells import NOTE
from headwise.tracking.connection import connect, reaching
from headwise.tracking.orphans import marked
from headwise.tracking.study import context_tags

# MLflow truncates tags at 8,000 characters; the artifact compare.md has the full Markdown.
NOTE_LENGTH = 7900


def log_compare(
    experiment_id: str,
    *,
    tables: Mapping[str, pd.DataFrame],
    markdown: str,
    study: str | None = None,
    in_ui: Sequence[str] = (),
    figures: Mapping[str, Any] | None = None,
    files: Path | None = None,
    metrics: Mapping[str, float] | None = None,
) -> str:
    """Log a comparison as a run of kind `compare` and return its run id.

    Each table becomes `tables/<name>.csv`, those in `in_ui` also an MLflow table `tables/<name>.json` (shown by
    the UI, slow to log); `markdown` becomes the run's note and `compare.md`; `figures` (file name → matplotlib
    Figure) go below `figures/`; everything in the folder `files` is added unchanged. Under
    `mlflow run -e compare` the run it created is used.
    """
    client, uri = MlflowClient(), connect()
    with reaching(uri), marked(experiment_id) as mark:
        first = mark | {"headwise.kind": "compare"} | ({"headwise.study": study} if study else {})
        run_id = _adopted(client, mark) or _created(client, experiment_id, study, first)
        for key, value in _tags(study, markdown).items():
            client.set_tag(run_id, key, value)
        with tempfile.TemporaryDirectory() as folder:
            _write(Path(folder), markdown, tables)
            client.log_artifacts(run_id, folder)
        for name in in_ui:
            client.log_table(run_id, tables[name], f"tables/{name}.json")
        for name, figure in (figures or {}).items():
            client.log_figure(run_id, figure, f"figures/{name}")
        for name, number in (metrics or {}).items():
            client.log_metric(run_id, name, number)
        if files is not None:
            client.log_artifacts(run_id, str(files))
        client.set_terminated(run_id, "FINISHED")
    return run_id


def _write(folder: Path, markdown: str, tables: Mapping[str, pd.DataFrame]) -> None:
    (folder / "compare.md").write_text(markdown, encoding="utf-8")
    (folder / "tables").mkdir()
    for name, table in tables.items():
        table.to_csv(folder / "tables" / f"{name}.csv", index=False)


def _adopted(client: MlflowClient, mark: Mapping[str, str]) -> str | None:
    """The run created by `mlflow run -e compare`. For the entry point `main` that run is the study: not adopted."""
    run_id = os.environ.get("MLFLOW_RUN_ID")
    if run_id and client.get_run(run_id).data.tags.get("headwise.kind", "compare") == "compare":
        for key, value in mark.items():
            client.set_tag(run_id, key, value)
        return run_id
    return None


def _created(client: MlflowClient, experiment_id: str, study: str | None, tags: Mapping[str, str]) -> str:
    name = f"compare-{study[:8]}" if study else f"compare-{time.strftime('%Y%m%d-%H%M%S')}"
    return client.create_run(experiment_id, run_name=name, tags={**context_tags(), **tags}).info.run_id


def _tags(study: str | None, markdown: str) -> dict[str, str]:
    note = markdown if len(markdown) <= NOTE_LENGTH else markdown[:NOTE_LENGTH] + "\n\n… compare.md has the rest"
    return {"headwise.kind": "compare", NOTE: note} | ({"headwise.study": study} if study else {})
