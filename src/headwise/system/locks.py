"""Locks between processes: files that one process at a time holds, released by the system however it ends."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from headwise.errors import ConfigError


@contextmanager
def held(path: Path, what: str, *, timeout: float = -1, waits: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock file `path` inside the block, after those who hold it now.

    `what` names the setting that says where the lock lies, for the error. `waits` is called once where
    another process holds it. ConfigError where the file cannot be used, `filelock.Timeout` after `timeout` seconds.
    """
    lock = FileLock(path)
    if not (waits is not None and _acquired(lock, what)):
        if waits is not None:
            waits()
        _acquire(lock, what, timeout)
    try:
        yield
    finally:
        lock.release()


def _acquired(lock: FileLock, what: str) -> bool:
    try:
        _acquire(lock, what, 0)
    except Timeout:
        return False
    return True


def _acquire(lock: FileLock, what: str, timeout: float) -> None:
    try:
        lock.acquire(timeout=timeout)
    except Timeout:  # an OSError, too
        raise
    except OSError as error:
        path = Path(lock.lock_file)
        raise ConfigError(f"{what}: cannot lock {path} ({error.strerror}{owner(path)})") from error


def owner(path: Path) -> str:
    """`, it is USER's` for a file that is there; empty where that cannot be told."""
    with contextlib.suppress(OSError, KeyError, NotImplementedError):
        return f", it is {path.owner()}'s"
    return ""
