"""Tables in the published layout: tokens × heads rows, a column a strategy, the best of each row marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from headwise.names import CONTROLS

TIE = 5e-7
"""Scores closer than this are the same count of right answers, written in floating point."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """One value a cell: `values` has a row a budget, indexed (tokens, heads), and a column a strategy.

    A cell that was not run is a hole (NaN). `controls` has the same rows: vanilla, all_heads and
    random_tokens repeat where they do not depend on tokens or heads. `best` is True for each row's
    highest strategy, for several where they tie.
    """

    title: str
    values: pd.DataFrame
    controls: pd.DataFrame
    best: pd.DataFrame

    @property
    def holes(self) -> int:
        return int(self.values.isna().to_numpy().sum())

    def tops(self) -> pd.Series:
        """Rows with rivals that each strategy tops; a top that n strategies share counts 1/n for each."""
        best = self.best[self.values.notna().sum(axis=1) > 1]
        return best.div(best.sum(axis=1), axis=0).sum().sort_values(ascending=False, kind="stable")

    def best_cells(self) -> list[str]:
        """The configurations with the highest value of all, `tokens/heads/strategy`; several where they tie."""
        highest = np.nanmax(self.values.to_numpy())
        flat = self.values.stack()
        return ["/".join(map(str, place)) for place in flat.index[flat >= highest - TIE]]

    def as_table(self) -> pd.DataFrame:
        """Plain columns for CSV and MLflow: tokens, heads, every strategy and control, `best` (`a = b` for ties)."""
        table = pd.concat([self.values, self.controls], axis=1).reset_index()
        names = [" = ".join(row.index[row]) for _, row in self.best.iterrows()]
        return table.assign(best=names)


def grid(title: str, cells: pd.DataFrame, value: str = "score") -> Grid | None:
    """The grid of one benchmark's cells (columns tokens, heads, strategy, `label`, `value`); None without strategies.

    `label` names the column: the strategy, and whatever else differs (`sparsity float16`).
    """
    control = cells["strategy"].isin(CONTROLS)
    own = cells[~control]
    if own.empty:
        return None
    columns = list(dict.fromkeys(own["label"]))
    budgets = [sorted(own[name].unique(), reverse=True) for name in ("tokens", "heads")]
    rows = pd.MultiIndex.from_product(budgets, names=["tokens", "heads"])
    values = own.pivot(index=["tokens", "heads"], columns="label", values=value).reindex(rows)[columns].astype(float)
    values.columns.name = None
    best = values.ge(values.max(axis=1) - TIE, axis=0)
    return Grid(title=title, values=values, controls=_controls(cells[control], rows, value), best=best)


def _controls(cells: pd.DataFrame, rows: pd.MultiIndex, value: str) -> pd.DataFrame:
    """Each control's value for each row; what a control does not depend on matches every row."""
    table = pd.DataFrame(index=rows)
    for label, found in cells.groupby("label", sort=False):
        records = found[::-1].to_dict("records")
        known = {(_or_any(row["tokens"]), _or_any(row["heads"])): float(row[value]) for row in records}
        table[str(label)] = [_lookup(known, int(tokens), int(heads)) for tokens, heads in rows]
    return table


def _or_any(number: Any) -> int | None:
    """None where the control does not depend on it."""
    return None if pd.isna(number) else int(number)


def _lookup(known: Mapping[tuple[int | None, int | None], float], tokens: int, heads: int) -> float:
    places = ((tokens, heads), (tokens, None), (None, heads), (None, None))
    return next((known[place] for place in places if place in known), float("nan"))


def tops(grids: Sequence[Grid]) -> pd.DataFrame:
    """Rows a strategy tops in each grid and in all; ties are shared. Nothing is said about significance."""
    table = pd.DataFrame({each.title: each.tops() for each in grids}).fillna(0.0)
    table["all"] = table.sum(axis=1)
    return table.sort_values("all", ascending=False, kind="stable").rename_axis("strategy").reset_index()
