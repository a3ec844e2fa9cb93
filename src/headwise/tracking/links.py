"""URLs of pages in the MLflow UI."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlencode

from headwise.system.redaction import without_secrets, without_userinfo

# Default address of `mlflow ui`, for stores without a server.
LOCAL_UI = "http://127.0.0.1:5000"


def ui_base(uri: str) -> str:
    """Base URL of the tracking server's UI, or of `mlflow ui` for a local store."""
    return without_userinfo(uri).rstrip("/") if uri.startswith(("http://", "https://")) else LOCAL_UI


def ui_hint(uri: str) -> str:
    """The command that starts a UI for a local store; empty if a server runs."""
    return "" if ui_base(uri) != LOCAL_UI else f"mlflow ui --backend-store-uri {without_secrets(uri)}"


def runs_url(uri: str, experiment_id: str, *, study: str | None = None, order_by: str = "metrics.`score`") -> str:
    """The runs table: finished cells (of one study, if given), best score first."""
    terms = ["attributes.status = 'FINISHED'", "tags.`headwise.kind` = 'cell'"]
    terms += [f"tags.`headwise.study` = '{study}'"] if study else []
    query = {"searchFilter": " and ".join(terms), "orderByKey": order_by, "orderByAsc": "false"}
    return _page(uri, f"experiments/{experiment_id}/runs", query)


def compare_url(uri: str, experiment_id: str, run_ids: Sequence[str]) -> str:
    """The page that compares these runs."""
    runs = json.dumps(list(run_ids), separators=(",", ":"))
    return _page(uri, "compare-runs", {"runs": runs, "experiments": json.dumps([experiment_id])})


def run_url(uri: str, experiment_id: str, run_id: str) -> str:
    """The page of one run."""
    return _page(uri, f"experiments/{experiment_id}/runs/{run_id}", {})


def _page(uri: str, path: str, query: Mapping[str, str]) -> str:
    # Without the workflow type the UI opens in its GenAI layout, which hides the runs table.
    query = {**query, "workflowType": "machine_learning"}
    return f"{ui_base(uri)}/#/{path}?{urlencode(query, quote_via=quote)}"
