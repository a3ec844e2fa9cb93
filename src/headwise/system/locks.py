"""File locks between processes; the operating system releases them however a process ends."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from headwise.errors import ConfigError


@contextmanager
def held(path: Path, what: str, *, timeout: float = -1, waits: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock file `path` inside the block; waits for its current holder.

    `what` is the setting named in the error. `waits` is called once if another process holds the lock.
    ConfigError if the file cannot be used, `filelock.Timeout` after `timeout` seconds.
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
    """`, it is USER's` for an existing file; empty if the owner is unknown."""
    with contextlib.suppress(OSError, KeyError, NotImplementedError):
        return f", it is {path.owner()}'s"
    return ""
