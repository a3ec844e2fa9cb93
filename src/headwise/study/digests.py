"""Content digests of files, so that changed data or weights are always noticed."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from headwise.errors import DataError
from headwise.study.cells import fingerprint
from headwise.system.cache import home

# Digests of files of at least this many bytes (weights) are cached by path, size, times and inode.
REMEMBERED = 64 << 20

# A file changed more recently than this is not cached: a second change could have the same timestamp.
SETTLED_NS = 3_000_000_000

ABSENT = "absent"
log = logging.getLogger(__name__)


def file_digests(paths: Sequence[Path]) -> list[str]:
    """SHA-256 of each file (hexadecimal). DataError for a file that is missing, unreadable, or still being written."""
    return _each(paths, _digest)


def image_digests(paths: Sequence[Path]) -> list[str]:
    """As `file_digests`, but `absent` for a missing or unreadable image, whose questions get no answer."""

    def digest(path: Path) -> str:
        try:
            return _digest(path)
        except DataError:
            return ABSENT

    return _each(paths, digest)


def _each(paths: Sequence[Path], digest: Callable[[Path], str]) -> list[str]:
    with ThreadPoolExecutor(max_workers=8) as pool:
        return list(pool.map(digest, paths))


def _digest(path: Path) -> str:
    try:
        state = path.stat()
        return _read(path) if state.st_size < REMEMBERED else _remembered(path, state)
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror or error})") from error


def _read(path: Path) -> str:
    with open(path, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _remembered(path: Path, state: os.stat_result) -> str:
    """The cached digest, or computed and cached. No program can set the time of status change (ctime)."""
    note = home() / "digests" / fingerprint(str(path.resolve()), *_identity(state))
    if known := _noted(note):
        return known
    digest = _read(path)
    if _identity(path.stat()) != _identity(state):
        raise DataError(f"{path} changed while it was read; wait until it is written, then run the command again")
    if time.time_ns() - state.st_ctime_ns > SETTLED_NS:
        _note(note, digest)
    return digest


def _identity(state: os.stat_result) -> tuple[int, ...]:
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino


def _noted(note: Path) -> str:
    """The cached digest; empty if there is none or it is unreadable."""
    try:
        known = note.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
    return known if len(known) == 64 else ""


def _note(note: Path, digest: str) -> None:
    """Cache the digest. A failure only costs time: the file is read again next time."""
    part = note.with_name(f"{note.name}.{os.getpid()}")
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(digest, encoding="ascii")
        os.replace(part, note)
    except OSError as error:
        log.warning("cannot keep a digest at %s (%s); the file is read again next time", note, error.strerror or error)
