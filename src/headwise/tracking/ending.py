"""Lifecycle of a run: ends FINISHED, FAILED on an error, KILLED on Ctrl-C or SIGTERM."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mlflow import MlflowClient

from headwise.errors import HeadwiseError
from headwise.system.redaction import without_secrets
from headwise.tracking.connection import ServerUnreachable, reaching

TERMINATED = 128 + signal.SIGTERM


@contextmanager
def run_lifecycle(run_id: str, uri: str) -> Iterator[None]:
    """Set the run's final status when the block ends. Inside the block SIGTERM raises SystemExit(143)."""
    with _on_signals({signal.SIGTERM: _raise_exit}):
        try:
            yield
        except ServerUnreachable:
            raise  # another request to the same server would only double the wait
        except BaseException as error:
            _end_after(error, run_id, uri)
            raise
        _end(run_id, uri, "FINISHED")


def _end_after(error: BaseException, run_id: str, uri: str) -> None:
    try:
        _end(run_id, uri, _status_after(error), reason=str(error) if isinstance(error, HeadwiseError) else "")
    except ServerUnreachable as outage:
        error.add_note(str(outage))  # the first error is the one to report


def _end(run_id: str, uri: str, status: str, reason: str = "") -> None:
    # Under `mlflow run` Ctrl-C arrives twice (from the terminal, then from mlflow as SIGTERM).
    ignored = {signal.SIGTERM: signal.SIG_IGN, signal.SIGINT: signal.SIG_IGN}
    with _on_signals(ignored), reaching(uri):
        if reason:
            MlflowClient().set_tag(run_id, "headwise.error", without_secrets(reason))
        MlflowClient().set_terminated(run_id, status)


def _status_after(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt) or (isinstance(error, SystemExit) and error.code == TERMINATED):
        return "KILLED"
    return "FINISHED" if isinstance(error, SystemExit) and not error.code else "FAILED"


def _raise_exit(signum: int, frame: object) -> None:
    raise SystemExit(128 + signum)


@contextmanager
def _on_signals(handlers: Mapping[signal.Signals, Callable[..., Any] | signal.Handlers]) -> Iterator[None]:
    """Install signal handlers for the block; only possible, and only done, in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
