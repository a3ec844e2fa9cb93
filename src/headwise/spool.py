"""Answers on disk before anything else: append-only, a checksum a line, so that a killed run loses nothing.

One folder holds the answers to one benchmark by one model (the group); every process appends to a file
of its own and readers merge them. A line carries one question and its answers under any number of cells,
each keyed by the fingerprint of all that changes an answer. A line whose checksum fails (the tail of a
killed process) is skipped and counted.
"""

from __future__ import annotations

import json
import os
import socket
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headwise.errors import DataError

SYNC_SECONDS = 5.0


class Spool:
    """The answers of one group. `append` writes, `lines` reads what every process has written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.damaged = 0
        self._out: Any = None
        self._synced = 0.0
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"spool: cannot create {folder} ({error.strerror})") from error

    def append(self, row: dict[str, Any]) -> None:
        """Add one line; it reaches the disk at once and is synced every few seconds and on close."""
        if self._out is None:
            name = f"{int(time.time() * 1000)}-{socket.gethostname()}-{os.getpid()}.spool"
            self._out = open(self.folder / name, "ab", buffering=0)  # noqa: SIM115
        try:
            self._out.write(_line(row))
            if time.monotonic() - self._synced > SYNC_SECONDS:
                self.sync()
        except OSError as error:
            raise DataError(
                f"spool: cannot write to {self.folder} ({error.strerror}); what was answered so far is kept, "
                "run the same command again when there is room"
            ) from error

    def sync(self) -> None:
        if self._out is not None:
            os.fsync(self._out.fileno())
            self._synced = time.monotonic()

    def close(self) -> None:
        if self._out is not None:
            self.sync()
            self._out.close()
            self._out = None

    def lines(self) -> Iterator[tuple[Path, int, dict[str, Any]]]:
        """Every whole line with the file and offset it stands at, oldest file first."""
        self.damaged = 0
        for path in sorted(self.folder.glob("*.spool")):
            offset = 0
            with open(path, "rb") as content:
                for raw in content:
                    row = _row(raw)
                    if row is None:
                        self.damaged += 1
                    else:
                        yield path, offset, row
                    offset += len(raw)


def read_line(path: Path, offset: int) -> dict[str, Any]:
    """The line at an offset that `lines` gave. DataError where it is no longer whole."""
    with open(path, "rb") as content:
        content.seek(offset)
        row = _row(content.readline())
    if row is None:
        raise DataError(f"spool: {path} changed while it was read")
    return row


def _line(row: dict[str, Any]) -> bytes:
    body = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _row(raw: bytes) -> dict[str, Any] | None:
    if not raw.endswith(b"\n") or len(raw) < 11:
        return None
    try:
        checksum = int(raw[:8], 16)
    except ValueError:
        return None
    body = raw[9:-1]
    return json.loads(body) if zlib.crc32(body) == checksum else None
