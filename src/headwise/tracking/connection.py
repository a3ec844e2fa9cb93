"""Connection to the tracking server: bounded waits, one-line errors, one initialisation of the store."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote

import mlflow
import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from headwise.errors import TrackingError
from headwise.system.redaction import unclear_address, without_secrets
from headwise.tracking.orphans import close_orphans
from headwise.tracking.sqlite_store import SCHEME, initialised_store

# Defaults for variables that the user's environment does not set; mlflow's own would wait for 15 minutes.
BOUNDED = {
    # Three attempts of 8 s and the pauses between them (0, 2 s, jitter): a dead or hanging server is detected in 30 s.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "8",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
UNCLEAR = (
    "MLFLOW_TRACKING_URI: its password contains an unescaped /, ? or #, which no client parses as meant; write "
    "%2F, %3F or %23 (and %40 for an @ in the path), or use MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
)


class ServerUnreachable(TrackingError):
    """The tracking server did not answer in time; results can be logged later."""


class NothingFound(TrackingError):
    """The store answered and has no matching study or cell."""


def connect() -> str:
    """Make sure the tracking store answers, and return its URI.

    The URI is MLFLOW_TRACKING_URI, or mlflow's own default: `mlflow.db` in the working folder, which
    `mlflow ui` started in the same folder shows. An empty SQLite store is initialised here, once, under
    a lock shared by all processes. Open runs of killed processes of this folder are ended. ServerUnreachable
    within 30 s if nothing answers, TrackingError if the URI cannot be used.
    """
    for name, value in BOUNDED.items():
        os.environ.setdefault(name, value)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    uri = _store_uri()
    if unclear_address(uri):
        raise TrackingError(UNCLEAR)
    with reaching(uri), initialised_store(uri):
        MlflowClient().search_experiments(max_results=1)
    with reaching(uri):
        close_orphans()
    return uri


def _store_uri() -> str:
    """The tracking URI, its default unquoted: mlflow writes %20 for a space and then looks for a folder so named."""
    uri = mlflow.get_tracking_uri()
    if uri.startswith(SCHEME) and not mlflow.is_tracking_uri_set() and unquote(uri) != uri:
        uri = unquote(uri)
        mlflow.set_tracking_uri(uri)
    return uri


@contextmanager
def reaching(uri: str | None = None) -> Iterator[None]:
    """Convert exceptions of mlflow inside the block to a one-line TrackingError that names the server."""
    try:
        yield
    except MlflowException as error:
        where = f"tracking server {without_secrets(uri or mlflow.get_tracking_uri())}"
        if _is_outage(error):
            hint = "start it or set MLFLOW_TRACKING_URI"
            raise ServerUnreachable(f"{where} does not answer: {without_secrets(_reason(error))}; {hint}") from error
        raise TrackingError(f"{where}: {without_secrets(_first_sentence(error))}") from error
    except OSError as error:
        raise _not_written(error, uri or mlflow.get_tracking_uri()) from error
    except ImportError as error:
        where = f"tracking server {without_secrets(str(uri))}"
        raise TrackingError(f"{where}: its driver is not installed ({error})") from error
    except Exception as error:
        if not type(error).__module__.startswith(("sqlalchemy.", "alembic.")):
            raise
        where = f"tracking store {without_secrets(uri or mlflow.get_tracking_uri())}"
        raise TrackingError(f"{where}: {without_secrets(_first_line(error))}") from error


def _not_written(error: OSError, uri: str) -> TrackingError:
    """An error of the artifact store: an unwritable folder, a full disk, a failing server."""
    server = without_secrets(uri)
    if isinstance(error, requests.exceptions.ConnectionError | requests.exceptions.Timeout):
        return ServerUnreachable(f"tracking server {server} does not answer: {without_secrets(_reason(error))}")
    what = f"{error.filename} ({error.strerror})" if error.filename else without_secrets(_first_line(error))
    return TrackingError(f"tracking server {server}: cannot read or write artifacts: {what}")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _is_outage(error: BaseException) -> bool:
    return any(isinstance(cause, requests.exceptions.RequestException) for cause in _causes(error))


def _reason(error: BaseException) -> str:
    """The innermost cause, which is the informative one ("Connection refused")."""
    innermost = list(_causes(error))[-1]
    return getattr(innermost, "strerror", None) or str(innermost) or type(innermost).__name__


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first_sentence(error: MlflowException) -> str:
    return str(error.message).strip().splitlines()[0].split(". ")[0]
