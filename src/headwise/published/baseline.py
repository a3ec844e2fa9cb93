"""Ours beside published figures: headline, differences, holes, other methods, as tables for log and console."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from headwise.benchmarks import BENCHMARKS
from headwise.published.figures import CELL, Published, read_published

PUBLISHED_MODEL = "llava-1.5-7b"
HOLE = "·"


class Baseline:
    """Published figures held against the cells of a comparison (rows as `Comparison.cells`; may be none)."""

    def __init__(self, published: Published, cells: pd.DataFrame) -> None:
        """Match the published figures with the cells of a comparison and take their differences."""
        self.published = published
        self.differences = published.differences(cells)
        self.beside = published.beside(cells)
        self.models = sorted(set(cells["model"].dropna())) if "model" in cells else []

    @classmethod
    def read(cls, source: str | Path, cells: pd.DataFrame) -> Baseline:
        """Against `published`, or a folder or file of the same form; ConfigError where there is none."""
        return cls(read_published(source), cells)

    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables by the names they are logged under."""
        found = {"published_best": self.published.best(), "published_holes": self.published.holes()}
        return found | {"published_difference": self.differences, "published_methods": self.beside}

    def note(self) -> str:
        """Which models the figures are of, where they are not the same."""
        others = [model for model in self.models if _plain(model) != _plain(PUBLISHED_MODEL)]
        return f"The published figures are of {PUBLISHED_MODEL}, not of {', '.join(others)}." if others else ""

    def as_json(self) -> dict[str, list[dict[str, Any]]]:
        """The tables as JSON records; what is missing is null."""
        return {name: _records(table) for name, table in self.tables().items()}

    def print(self, console: Console) -> None:
        """Headline, published tables with their holes, differences cell by cell, other methods."""
        for title, frame in self._shown():
            _print_frame(title, frame, console)
        if note := self.note():
            console.print(f"note: {note}", style="yellow")

    def _shown(self) -> Iterator[tuple[str, pd.DataFrame]]:
        yield "Published: best of each benchmark", self.published.best().map(_text)
        for name in self.published.scores["benchmark"].unique():
            title = f"Published: {BENCHMARKS[name].title} ({HOLE} never ran)"
            yield title, self.published.table(name).reset_index().map(_text)
        for name, rows in self.differences.dropna(subset="difference").groupby("benchmark", sort=False):
            yield f"Ours - published: {BENCHMARKS[str(name)].title}", _difference_grid(rows)
        if not self.beside.empty:
            yield "Other methods beside ours, with the source of each row's figures", self.beside.map(_text)


def _difference_grid(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per tokens x heads, one column per strategy; controls have neither or only tokens."""
    places = rows.copy()
    for name in ("tokens", "heads"):
        places[name] = rows[name].astype("Int64").astype("string").fillna(HOLE)
    column = "label" if "label" in places else "strategy"
    wide = places.pivot_table(index=["tokens", "heads"], columns=column, values="difference", sort=False)
    return wide.reset_index().map(_signed)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def _print_frame(title: str, frame: pd.DataFrame, console: Console) -> None:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for name in frame.columns:
        text = name in ("benchmark", "strategy", "method", "source")
        widest = max((len(str(value)) for value in frame[name]), default=1)
        heading = str(name).replace("_", "_\n")
        table.add_column(heading, justify="left" if text else "right", min_width=widest, overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*map(str, row))
    console.print(table)


def _text(value: Any) -> str:
    if pd.isna(value):
        return HOLE
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _signed(value: Any) -> str:
    """Signed difference; values that round to zero print as 0.00."""
    if not isinstance(value, float) or pd.isna(value):
        return _text(value)
    return f"{value:+.2f}" if round(value, 2) else "0.00"


# A comparison without cells of ours: the published figures alone.
NO_CELLS = pd.DataFrame(columns=[*CELL, "score", "model"])


def _plain(model: str) -> str:
    """A checkpoint's name without its owner, its folder, and how versions are written."""
    return model.rstrip("/").split("/")[-1].lower().replace("-hf", "").replace("-v", "-")
