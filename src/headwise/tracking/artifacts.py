"""Artifacts of a run: read in place from a local store, downloaded once from a remote one."""

from __future__ import annotations

import atexit
import tempfile
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlparse

import mlflow
from mlflow import MlflowClient

from headwise.errors import TrackingError
from headwise.tracking.connection import ServerUnreachable, reaching


def download(run_id: str, name: str, artifact_uri: str | None = None) -> Path:
    """The artifact `name` of a run as a local file; TrackingError if the run has no such artifact.

    `artifact_uri` (a column of `find_cells`) saves a request to the server. A local file is returned in place and
    must not be changed.
    """
    with reaching():
        artifact_uri = artifact_uri or MlflowClient().get_run(run_id).info.artifact_uri
    local = local_file(artifact_uri, name)
    if local is None:
        return _fetched(run_id, name)
    if not local.is_file():
        raise TrackingError(f"run {run_id} has no artifact {name} ({local} does not exist)")
    return local


def local_file(artifact_uri: str, name: str) -> Path | None:
    """Path of the artifact if the artifact store is a local folder, else None."""
    parts = urlparse(artifact_uri)
    if parts.scheme not in ("", "file"):
        return None
    return Path(unquote(parts.path) if parts.scheme else artifact_uri) / name


@cache
def _fetched(run_id: str, name: str) -> Path:
    folder = _download_folder() / run_id
    folder.mkdir(exist_ok=True)
    try:
        with reaching():
            return Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=name, dst_path=str(folder)))
    except ServerUnreachable:
        raise
    except (OSError, TrackingError) as error:
        raise TrackingError(f"run {run_id} has no artifact {name} ({error})") from error


@cache
def _download_folder() -> Path:
    """Download folder of this process, removed when it exits."""
    holder = tempfile.TemporaryDirectory(prefix="headwise-")
    atexit.register(holder.cleanup)
    return Path(holder.name)
