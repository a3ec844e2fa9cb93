"""Reaching the tracking server: bounded waits, one-line errors, a store initialised once."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import requests
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from headwise.errors import TrackingError
from headwise.redaction import without_secrets

BOUNDED = {
    # Three tries of 8 s and the pauses between them (0, 2 s, jitter): a dead or hanging server is known in 30 s.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "8",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
"""What headwise sets where the user's environment does not; mlflow's own defaults wait a quarter of an hour."""


class ServerUnreachable(TrackingError):
    """The tracking server did not answer in time; what was to be logged can be logged later."""


class NothingFound(TrackingError):
    """The store was asked and has no study or cell of the kind."""


def connect() -> str:
    """Make sure the tracking store answers, and return its URI.

    The URI is MLFLOW_TRACKING_URI, or mlflow's own default: `mlflow.db` in the working folder, which
    `mlflow ui` started in the same folder shows. An empty sqlite store is initialised here, once, under
    a lock, whatever the number of processes. ServerUnreachable within 30 s where nothing answers,
    TrackingError where the URI cannot be used.
    """
    for name, value in BOUNDED.items():
        os.environ.setdefault(name, value)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    uri = mlflow.get_tracking_uri()
    with _initialisation_lock(uri), reaching(uri):
        MlflowClient().search_experiments(max_results=1)
    return uri


@contextmanager
def reaching(uri: str | None = None) -> Iterator[None]:
    """Turn what mlflow raises inside the block into a TrackingError of one line that names the server."""
    try:
        yield
    except MlflowException as error:
        where = f"tracking server {without_secrets(uri or mlflow.get_tracking_uri())}"
        if _is_outage(error):
            hint = "start it or set MLFLOW_TRACKING_URI"
            raise ServerUnreachable(f"{where} does not answer: {without_secrets(_reason(error))}; {hint}") from error
        raise TrackingError(f"{where}: {without_secrets(_first_sentence(error))}") from error
    except ImportError as error:
        where = f"tracking server {without_secrets(str(uri))}"
        raise TrackingError(f"{where}: its driver is not installed ({error})") from error


def _is_outage(error: BaseException) -> bool:
    return any(isinstance(cause, requests.exceptions.RequestException) for cause in _causes(error))


def _reason(error: BaseException) -> str:
    """The innermost cause, which is the one that says what happened ("Connection refused")."""
    innermost = list(_causes(error))[-1]
    return getattr(innermost, "strerror", None) or str(innermost) or type(innermost).__name__


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first_sentence(error: MlflowException) -> str:
    return str(error.message).strip().splitlines()[0].split(". ")[0]


@contextmanager
def _initialisation_lock(uri: str) -> Iterator[None]:
    """Hold a lock beside an sqlite file; other stores do their own locking.

    mlflow locks the creation of tables by the URI's spelling, in a folder for temporary files, and the
    Default experiment not at all: two processes that meet on an empty store would still collide.
    """
    if not uri.startswith("sqlite:///") or uri.endswith(":memory:"):
        yield
        return
    database = Path(uri.removeprefix("sqlite:///").split("?")[0]).absolute()
    if not database.parent.is_dir():
        raise TrackingError(f"tracking store {uri}: there is no folder {database.parent}")
    if not os.access(database if database.exists() else database.parent, os.W_OK):
        raise TrackingError(f"tracking store {uri}: {database} cannot be written")
    with FileLock(database.with_name(f"{database.name}.lock"), timeout=60):
        yield
