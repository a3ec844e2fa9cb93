"""Scores that the official scripts printed into text logs, read cell by cell.

A log is cut into sections first, at every line that names a cell (`vtn_192_16_sparsity`), and a figure
is looked for inside one section only: a cell whose evaluation failed must not get its neighbour's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from headwise.benchmarks import mme
from headwise.published.importer.names import CELL_FOLDER
from headwise.published.importer.sources import UNREADABLE, Identity, Issue, identity, one_line
from headwise.system.reading import read_text

NUMBER = r"(\d+(?:\.\d+)?)"
# How LLaVA's `eval_textvqa.py` and `eval_pope.py`, GQA's `eval.py` and MME's `calculation.py` print.
PRINTED = {
    "textvqa": re.compile(rf"^Samples: \d+\s*\nAccuracy: {NUMBER}%", re.MULTILINE),
    "gqa": re.compile(rf"^Binary: .*\nOpen: .*\nAccuracy: {NUMBER}%", re.MULTILINE),
    "pope": re.compile(rf"^Average F1 score: {NUMBER}", re.MULTILINE),
    "mme": re.compile(
        rf"^=+ Perception =+\s*\ntotal score: {NUMBER}(?:.*\n)*?=+ Cognition =+\s*\ntotal score: {NUMBER}", re.MULTILINE
    ),
}

CellKey = tuple[str, str, int, int | None, str]
LOG_FILES = ("*.log", "*.out", "*.txt")


@dataclass(frozen=True, kw_only=True)
class LogFigure:
    """One printed headline score (in the units of `Scorecard.score`) and where it stands."""

    cell: Identity
    score: float
    where: str

    @property
    def key(self) -> CellKey:
        """Identity of the cell that the figure belongs to."""
        return cell_key(self.cell)


def cell_key(cell: Identity) -> CellKey:
    """What a log and a folder both say of a cell."""
    return cell.benchmark, cell.strategy, cell.tokens, cell.heads, cell.options


def read_logs(root: Path, model: str, report: Callable[[Issue], None]) -> list[LogFigure]:
    """Every score printed in the logs below `root`; unreadable logs and unknown cells are reported."""
    figures = []
    for path in sorted({path for pattern in LOG_FILES for path in root.rglob(pattern)}):
        if path.stem in mme.QUESTIONS:
            continue
        try:
            figures += list(_figures(path, root, model))
        except UNREADABLE as error:
            report(Issue(where=str(path.relative_to(root)), what=f"log not read: {one_line(error)}"))
    return figures


def _figures(path: Path, root: Path, model: str) -> Iterator[LogFigure]:
    folders = path.relative_to(root.parent).parts[:-1]
    for name, line, text in sections(read_text(path), _cell_named(str(path.relative_to(root.parent)))):
        for benchmark, pattern in PRINTED.items():
            for found in pattern.finditer(text):
                cell = identity(name, [part for part in folders if part != name], benchmark, model)
                where = f"{path.relative_to(root)}, line {line + text[: found.start()].count(chr(10))}"
                yield LogFigure(cell=cell, score=_score(benchmark, found), where=where)


def sections(text: str, name: str = "") -> Iterator[tuple[str, int, str]]:
    """The log in pieces that each belong to one cell: its name, the first line's number, the text.

    `name` is the cell that the file's own path names. A line that names several cells belongs to none.
    """
    start = 1
    lines: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        named = set(_names(line))
        if named and named != {name}:
            if name and lines:
                yield name, start, "\n".join(lines) + "\n"
            name, start, lines = (named.pop() if len(named) == 1 else ""), number, []
        lines.append(line)
    if name and lines:
        yield name, start, "\n".join(lines) + "\n"


def _names(text: str) -> list[str]:
    return [found.group(0) for found in CELL_FOLDER.finditer(text)]


def _cell_named(path: str) -> str:
    found = set(_names(path))
    return found.pop() if len(found) == 1 else ""


def _score(benchmark: str, found: re.Match[str]) -> float:
    values = [float(value) for value in found.groups()]
    return 100 * values[0] if benchmark == "pope" else sum(values)
