"""Answers on disk before anything else: append-only, one checksum per line, so that a killed run loses nothing.

One folder holds the answers to one benchmark by one model (the group). Every process appends to a file
of its own and readers merge them, so that processes never write over each other. A line carries one
question and its answers under any number of cells. A line whose checksum fails (the tail of a killed
process, a flipped bit) is skipped and counted: its question is answered again.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

from headwise.errors import DataError

SYNC_SECONDS = 5.0
SUFFIX = ".spool"


class Spool:
    """The answers of one group. `append` writes, `lines` reads what every process has written."""

    def __init__(self, folder: Path) -> None:
        """Make the folder. A file of this process's own is opened at the first `append`."""
        self.folder = folder
        self.damaged = 0
        self._out: FileIO | None = None
        self._synced = 0.0
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def append(self, *rows: dict[str, Any]) -> None:
        """Add lines, all of them or none; they reach the system at once, the disk every few seconds and on close.

        DataError where the disk is full; what was appended before stays.
        """
        content = b"".join(_line(row) for row in rows)
        with disk_errors(self.folder):
            if self._out is None:
                self._out = self._opened()
            _write_whole(self._out, content)
            if time.monotonic() - self._synced > SYNC_SECONDS:
                self._sync()

    def close(self) -> None:
        """Write to disk what is buffered, and close this process's file."""
        if self._out is not None:
            with disk_errors(self.folder), self._out:
                self._sync()
            self._out = None

    def lines(self) -> Iterator[tuple[Path, int, dict[str, Any]]]:
        """Every whole line with the file and offset it stands at, oldest file first; `damaged` counts the others."""
        self.damaged = 0
        for path in self.files():
            offset = 0
            with open(path, "rb") as content:
                for raw in content:
                    row = _row(raw)
                    if row is None:
                        self.damaged += 1
                    else:
                        yield path, offset, row
                    offset += len(raw)

    def files(self) -> list[Path]:
        """The files of all processes, oldest first."""
        return sorted(self.folder.glob(f"*{SUFFIX}"))

    def _opened(self) -> FileIO:
        name = f"{time.time_ns() // 1_000_000}-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}{SUFFIX}"
        out = FileIO(self.folder / name, "ab")
        sync_folder(self.folder)
        return out

    def _sync(self) -> None:
        if self._out is not None:
            os.fsync(self._out.fileno())
            self._synced = time.monotonic()


def read_line(path: Path, offset: int) -> dict[str, Any]:
    """The line at an offset that `lines` gave. DataError where it is no longer whole."""
    with open(path, "rb") as content:
        content.seek(offset)
        row = _row(content.readline())
    if row is None:
        raise DataError(f"spool: {path} changed while it was read")
    return row


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, as fsync does for the content of a file."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_whole(out: FileIO, content: bytes) -> None:
    """Write all of it; what a full disk cut short is taken back, so that no line stands there torn."""
    start, rest = out.seek(0, os.SEEK_END), memoryview(content)
    try:
        while rest:
            rest = rest[out.write(rest) or 0 :]
    except OSError:
        out.truncate(start)
        raise


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn a failure of the disk inside the block into one line that says what is kept and what to do."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"spool: cannot write to {folder} ({error.strerror}); what was answered so far is kept: "
            "run the same command again when this is mended"
        ) from error


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
    if zlib.crc32(body) != checksum:
        return None
    try:
        row = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return row if _holds_answers(row) else None


def _holds_answers(row: Any) -> bool:
    """A checksum says that a line is as it was written, not that a text was: null in place of one is no answer."""
    if not isinstance(row, dict) or not isinstance(row.get("question"), str):
        return False
    answers = row.get("answers")
    if not isinstance(answers, dict):
        return False
    return all(isinstance(answer, dict) and isinstance(answer.get("text"), str) for answer in answers.values())
