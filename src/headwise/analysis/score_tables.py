"""Tables in the published layout: tokens × heads rows, one column per strategy, the best of each row marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from headwise.analysis.roles import is_method
from headwise.study.budget import plain

# Scores closer than this are the same count of right answers, written in floating point.
TIE = 5e-7


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """One value per cell: `values` has one row per budget, indexed (tokens, heads), and one column per strategy.

    Strategies that choose no heads have rows of their own, without a number of heads (NA). A cell that was not run
    is a hole (NaN). `controls` has the same rows: vanilla, all_heads and random_tokens repeat where they do not
    depend on tokens or heads. `best` is True for each row's highest strategy, for several where they tie. `rivals`
    are the values that can be the best: those of cells that answered every question.
    """

    title: str
    values: pd.DataFrame
    controls: pd.DataFrame
    best: pd.DataFrame
    rivals: pd.DataFrame
    holes: int

    @property
    def by_heads(self) -> bool:
        """Whether rows have numbers of heads."""
        return bool(self.values.index.get_level_values("heads").notna().any())

    def parts(self) -> list[ScoreTable]:
        """The rows and columns of head strategies, and those of methods without heads, which have no row in common."""
        headless = np.asarray(self.values.index.get_level_values("heads").isna())
        groups = [self._part(rows) for rows in (~headless, headless) if rows.any()]
        return groups if len(groups) > 1 else [self]

    def _part(self, rows: np.ndarray) -> ScoreTable:
        columns = [name for name in self.values if self.values[name][rows].notna().any()]
        values, best, rivals = (table.loc[rows, columns] for table in (self.values, self.best, self.rivals))
        controls = self.controls[rows]
        return replace(self, values=values, best=best, rivals=rivals, controls=controls.dropna(axis=1, how="all"))

    def tops(self) -> pd.Series:
        """Rows with rivals that each strategy tops; a top that n strategies share counts 1/n for each."""
        best = self.best[self.rivals.notna().sum(axis=1) > 1]
        return best.div(best.sum(axis=1), axis=0).sum().sort_values(ascending=False, kind="stable")

    def best_cells(self) -> list[str]:
        """The configurations with the highest value of all, `tokens/heads/strategy`; several where they tie."""
        rivals = [
            (value, "/".join([*(str(plain(part)) for part in place if not pd.isna(part)), str(label)]))
            for place, row in zip(self.rivals.index, self.rivals.to_numpy(), strict=True)
            for label, value in zip(self.rivals.columns, row, strict=True)
        ]
        highest = max((value for value, _ in rivals if not np.isnan(value)), default=np.nan)
        return [name for value, name in rivals if value >= highest - TIE]

    def as_table(self) -> pd.DataFrame:
        """Plain columns for CSV and MLflow: tokens, heads, every strategy and control, `best` (`a = b` for ties)."""
        table = pd.concat([self.values, self.controls], axis=1).reset_index()
        names = [" = ".join(row.index[row]) for _, row in self.best.iterrows()]
        return table.assign(best=names)


def score_table(title: str, cells: pd.DataFrame, value: str = "score") -> ScoreTable | None:
    """The grid of one benchmark's cells (columns tokens, heads, strategy, `label`, `value`); None without strategies.

    `label` names the column: the strategy, and whatever else differs (`sparsity float16`). With a column `full`,
    cells where it is False are shown and are nobody's rivals.
    """
    control = ~is_method(cells)
    own = cells[~control]
    if own.empty:
        return None
    columns = list(dict.fromkeys(own["label"]))
    rows = _rows(own)
    values = _values(own, rows, columns, value)
    rivals = _values(own[own["full"]], rows, columns, value) if "full" in own else values
    best = rivals.ge(rivals.max(axis=1) - TIE, axis=0)
    controls = _controls(cells[control], rows, value)
    holes = _holes(own, rows, columns)
    return ScoreTable(title=title, values=values, controls=controls, best=best, rivals=rivals, holes=holes)


def _rows(cells: pd.DataFrame) -> pd.MultiIndex:
    """Largest budget first: what head strategies were given with every number of heads, then what others were."""
    by_heads = cells["heads"].notna()
    heads = sorted(cells.loc[by_heads, "heads"].unique(), reverse=True)
    with_heads, without = (set(cells.loc[rows, "tokens"].dropna()) for rows in (by_heads, ~by_heads))
    rows: list[tuple[Any, Any]] = []
    for tokens in sorted(with_heads | without, reverse=True):
        rows += [(tokens, number) for number in heads if tokens in with_heads]
        rows += [(tokens, pd.NA)] if tokens in without else []
    return pd.MultiIndex.from_tuples(rows, names=["tokens", "heads"])


def _values(cells: pd.DataFrame, rows: pd.MultiIndex, columns: Sequence[str], value: str) -> pd.DataFrame:
    """A column each label, a row each budget, NaN where there is no such cell."""
    records = cells[["label", "tokens", "heads", value]].itertuples(index=False, name=None)
    known = {(label, *_place(tokens, heads)): number for label, tokens, heads, number in records}
    places = [_place(tokens, heads) for tokens, heads in rows]
    found = {label: [known.get((label, *place), np.nan) for place in places] for label in columns}
    return pd.DataFrame(found, index=rows, dtype=float)


def _holes(cells: pd.DataFrame, rows: pd.MultiIndex, columns: Sequence[str]) -> int:
    """Cells that were not run: of each label's rows, those that have heads or those that have none."""
    ran = {label: {_place(*place) for place in group[["tokens", "heads"]].to_numpy()} for label, group in _by(cells)}
    asked = {
        label: [place for place in (_place(*row) for row in rows) if (place[1] is None) == _headless(ran[label])]
        for label in columns
    }
    return sum(place not in ran[label] for label in columns for place in asked[label])


def _by(cells: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [(str(label), group) for label, group in cells.groupby("label", sort=False)]


def _headless(places: set[tuple[float | None, float | None]]) -> bool:
    return all(heads is None for _, heads in places)


def _controls(cells: pd.DataFrame, rows: pd.MultiIndex, value: str) -> pd.DataFrame:
    """Each control's value for each row; what a control does not depend on matches every row."""
    table = pd.DataFrame(index=rows)
    for label, found in _by(cells):
        records = found[::-1].to_dict("records")
        known = {_place(row["tokens"], row["heads"]): float(row[value]) for row in records}
        table[label] = [_lookup(known, *_place(tokens, heads)) for tokens, heads in rows]
    return table


def _place(tokens: Any, heads: Any) -> tuple[float | None, float | None]:
    return _or_any(tokens), _or_any(heads)


def _or_any(number: Any) -> float | None:
    """None where the cell does not depend on it."""
    return None if pd.isna(number) else plain(number)


def _lookup(
    known: Mapping[tuple[float | None, float | None], float], tokens: float | None, heads: float | None
) -> float:
    places = ((tokens, heads), (tokens, None), (None, heads), (None, None))
    return next((known[place] for place in places if place in known), float("nan"))


def tops(grids: Sequence[ScoreTable]) -> pd.DataFrame:
    """Rows a strategy tops in each grid and in all; ties are shared. Nothing is said about significance."""
    table = pd.DataFrame({each.title: each.tops() for each in grids}).fillna(0.0)
    table["all"] = table.sum(axis=1)
    return table.sort_values("all", ascending=False, kind="stable").rename_axis("strategy").reset_index()
