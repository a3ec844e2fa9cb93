"""Answers that come question by question, given back cell by cell, with bounded memory.

The spool holds a line per question, a study's files are per cell. Between the two, what exceeds HELD bytes waits in one
scratch file per cell: thousands of cells × thousands of questions fit neither in memory nor in as many open files.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HELD = 64 * 2**20


class ByCell:
    """One item per question and cell, added in question order."""

    def __init__(self, folder: Path, cells: int) -> None:
        """Scratch files lie below `folder`, which is made when the first is written."""
        self.folder = folder
        self._waiting = [bytearray() for _ in range(cells)]
        self._held = 0

    def add(self, number: int, item: Any) -> None:
        """Keep the next item of the cell with this number."""
        packed = pickle.dumps(item, pickle.HIGHEST_PROTOCOL)
        self._waiting[number] += packed
        self._held += len(packed)
        if self._held > HELD:
            self._spill()

    def of(self, number: int) -> Iterator[Any]:
        """The cell's items in the order in which they were added; they are let go, so this works once."""
        path = self._path(number)
        content = io.BytesIO((path.read_bytes() if path.exists() else b"") + self._waiting[number])
        path.unlink(missing_ok=True)
        self._waiting[number] = bytearray()
        while content.tell() < len(content.getbuffer()):
            yield pickle.load(content)

    def _spill(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for number, waiting in enumerate(self._waiting):
            with open(self._path(number), "ab") as out:
                out.write(waiting)
        self._waiting = [bytearray() for _ in self._waiting]
        self._held = 0

    def _path(self, number: int) -> Path:
        return self.folder / f"{number}.part"
