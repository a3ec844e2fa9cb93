"""Percent of vanilla of every benchmark beside its mean over benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

import pandas as pd

from headwise.analysis.findings import NAMES, Findings

MEAN = "mean"


def of_vanilla(parts: Sequence[Findings], overall: Findings | None) -> pd.DataFrame:
    """One row per configuration, one column per benchmark, and `mean`, highest first.

    A configuration that lacks a benchmark has a hole there and no mean: means over different benchmarks do not
    compare. Benchmarks without an unpruned cell have no percent of it and no column.
    """
    known = [part for part in parts if part.scale == "vanilla"]
    if not known:
        return pd.DataFrame()
    columns = {part.benchmark: part.cells.set_index("configuration")["of_vanilla"] for part in known}
    named = pd.concat([part.cells[NAMES] for part in known]).drop_duplicates("configuration").set_index("configuration")
    table = named.join(pd.DataFrame(columns))
    means = overall.cells.set_index("configuration")["score"] if overall is not None else pd.Series(dtype=float)
    table[MEAN] = means.reindex(table.index).astype(float)
    return table.reset_index().sort_values(MEAN, ascending=False, kind="stable", na_position="last", ignore_index=True)


def by_benchmark(table: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    """Each configuration's percentages by benchmark; None where it lacks one."""
    names = [str(name) for name in table.columns if name not in (*NAMES, MEAN)]
    rows = zip(table["configuration"], table[names].to_numpy(float).tolist(), strict=True)
    return {
        str(configuration): {name: None if isnan(value) else value for name, value in zip(names, row, strict=True)}
        for configuration, row in rows
    }
