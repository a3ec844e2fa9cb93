"""Digests of files' whole content, so that changed data or weights are never taken for the old ones."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from headwise.config import fingerprint
from headwise.home import home

REMEMBERED = 64 << 20
"""Files from this size on (weights) are read once; their digest is kept under name, size and time of change."""

ABSENT = "absent"


def file_digests(paths: Sequence[Path]) -> list[str]:
    """SHA-256 of each file (hexadecimal), or `absent` where it is missing or cannot be read."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        return list(pool.map(_digest, paths))


def _digest(path: Path) -> str:
    try:
        state = path.stat()
        return _read(path) if state.st_size < REMEMBERED else _remembered(path, state)
    except OSError:
        return ABSENT


def _read(path: Path) -> str:
    with open(path, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _remembered(path: Path, state: os.stat_result) -> str:
    name = fingerprint(str(path.resolve()), state.st_size, state.st_mtime_ns, state.st_ino)
    note = home() / "digests" / name
    if note.is_file() and len(known := note.read_text()) == 64:
        return known
    digest = _read(path)
    note.parent.mkdir(parents=True, exist_ok=True)
    part = note.with_name(f"{name}.{os.getpid()}")
    part.write_text(digest)
    os.replace(part, note)
    return digest
