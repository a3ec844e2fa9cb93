"""Tables → what the page's template prints: titles, hints, texts, and the values that columns sort by."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from headwise.analysis.score_tables import ScoreTable

HOLE = "–"
MINUS = "−"
NAMED = 4


@dataclass(frozen=True)
class Field:
    """One field: its text, what it sorts by, its link and its class (`best`, `inside`, `number`, `text`)."""

    text: str
    value: float | str
    look: str = ""
    link: str = ""


@dataclass(frozen=True)
class Column:
    """A column: key in the frame, title, what it means (shown on hover), and how its values become text."""

    name: str
    title: str
    hint: str = ""
    show: Callable[[Any], str] = str
    # Names of the two ends of an interval, printed behind the value.
    span: tuple[str, str] | None = None


@dataclass(frozen=True)
class HtmlTable:
    """A sortable table. `wide` ones scroll, `long` ones get a text filter."""

    name: str
    caption: str
    columns: list[Column]
    rows: list[list[Field]] = field(default_factory=list)

    @property
    def long(self) -> bool:
        """Whether the table gets a text filter."""
        return len(self.rows) > 12


def number(digits: int) -> Callable[[Any], str]:
    """Fixed digits, a true minus, a dash for what is missing."""
    return lambda value: HOLE if _missing(value) else f"{value:.{digits}f}".replace("-", MINUS)


def whole(value: Any) -> str:
    """A count with thousands separators; a gap for a missing value."""
    return HOLE if _missing(value) else f"{int(value):,}"


def signed(value: Any) -> str:
    """A signed difference to one decimal, with a typographic minus; a gap for a missing value."""
    return HOLE if _missing(value) else f"{value:+.1f}".replace("-", MINUS)


def probability(value: Any) -> str:
    """A p-value to three decimals, `< 0.001` below that; a gap for a missing value."""
    return HOLE if _missing(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def mark(value: Any) -> str:
    """A dot where the value is true, else nothing."""
    return "●" if value else ""


def magnitude(value: Any) -> str:
    """Three significant digits and an SI prefix: 3.44 T."""
    if _missing(value):
        return HOLE
    steps = min(max(int(math.floor(math.log10(abs(value)) / 3)), -3), 5) if value else 0
    return f"{value / 1000**steps:.3g} {'nµm kMGTP'[steps + 3].strip()}".strip()


def seconds(value: Any) -> str:
    """Three significant digits, in milliseconds below a second."""
    if _missing(value):
        return HOLE
    return f"{value:.3g} s" if value >= 1 else f"{1000 * value:.3g} ms"


def few(value: Any) -> str:
    """The first names of a list written with commas, and how many more there are."""
    names = str(value).split(", ")
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def html_table(
    name: str, caption: str, frame: pd.DataFrame, columns: list[Column], links: Mapping[str, str] | None = None
) -> HtmlTable:
    """The frame with those of `columns` it has; `links` from run ids to addresses go on the configuration."""
    present = [column for column in columns if column.name in frame and frame[column.name].notna().any()]
    rows = [[_field(row, column, links or {}) for column in present] for row in frame.to_dict("records")]
    return HtmlTable(name, caption, present, rows)


def score_html(name: str, caption: str, table: ScoreTable, digits: int) -> HtmlTable:
    """The best of each row marked; a column `heads` where rows have some."""
    show, shared = number(digits), table.best.sum(axis=1) > 1
    levels = ["tokens", "heads"] if table.by_heads else ["tokens"]
    titles = [*levels, *map(str, table.values.columns), *map(str, table.controls.columns)]
    rows = []
    for line, place in enumerate(table.values.index):
        row = [Field(whole(part), _sortable(part)) for part in place[: len(levels)]]
        for strategy, value in table.values.iloc[line].items():
            best = bool(table.best[strategy].iloc[line])
            text = show(value) + (" =" if best and shared.iloc[line] else "")
            row.append(Field(text, _sortable(value), "best" if best else "number"))
        row += [Field(show(value), _sortable(value), "number") for value in table.controls.iloc[line]]
        rows.append(row)
    return HtmlTable(name, caption, [Column(title, title) for title in titles], rows)


def _field(row: dict[Any, Any], column: Column, links: Mapping[str, str]) -> Field:
    value = row[column.name]
    text = column.show(value)
    if column.span and not any(_missing(row[name]) for name in (column.name, *column.span)):
        text += " [" + ", ".join(column.show(row[end]) for end in column.span) + "]"
    textual = isinstance(value, str)
    look = "inside" if column.show is mark and value else "text" if textual else "number"
    link = links.get(str(row.get("run_id")), "") if column.name == "configuration" else ""
    return Field(text, _sortable(value), look, link)


def _sortable(value: Any) -> float | str:
    """Missing values sort below every number."""
    return "" if _missing(value) else value if isinstance(value, str) else float(value)


def _missing(value: Any) -> bool:
    return bool(pd.isna(value))
