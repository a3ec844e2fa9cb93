"""Findings → tables a reader can sort: scores, retained accuracy, wins, efficiency, agreement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from headwise.analysis.findings import ALPHA, COSTS, NAMES, SIZES, VARIED, Findings
from headwise.analysis.roles import in_order, is_method
from headwise.analysis.verdicts import VerdictMatrix
from headwise.stats import best_set_p, flip
from headwise.study.budget import plain
from headwise.study.names import CONTROLS

SCORES = [
    *NAMES,
    *("score", "low", "high", "in_best_set", "p_best", "best_at_budget"),
    *("vs_best", "vs_best_low", "vs_best_high"),
    *("vs_vanilla", "vs_vanilla_low", "vs_vanilla_high", "p_vanilla", "p_mcnemar"),
    *("of_vanilla", "of_vanilla_low", "of_vanilla_high"),
]


def scores(found: Findings) -> pd.DataFrame:
    """Every cell, best first: score and interval, best set, difference to the best and to vanilla."""
    columns = [name for name in [*SCORES, "run_id"] if name in found.cells]
    return found.cells[columns].sort_values("score", ascending=False, kind="stable").reset_index(drop=True)


def retained(parts: Sequence[Findings]) -> pd.DataFrame:
    """What is left of the unpruned accuracy at each token budget: one row per benchmark and budget.

    `best` is the best configuration and `best_of_vanilla` its percentage (with interval; selected post hoc,
    hence optimistically biased), `mean_of_vanilla` the mean over the methods, and the
    controls beside it (the mean over their rows).
    """
    rows = [_retained(part, tokens, group) for part in parts for tokens, group in _by_tokens(part.pruned)]
    return pd.DataFrame(rows)


def _by_tokens(cells: pd.DataFrame) -> list[tuple[float, pd.DataFrame]]:
    """Token budgets, largest first, with their cells."""
    found = sorted(cells["tokens"].dropna().unique(), reverse=True)
    return [(plain(tokens), cells.loc[cells["tokens"] == tokens]) for tokens in found]


def _retained(part: Findings, tokens: float, group: pd.DataFrame) -> dict[str, object]:
    best = group.iloc[group["score"].to_numpy().argmax()]
    strategies = group.index[is_method(group)]
    row = {"benchmark": part.benchmark, "tokens": tokens, "configurations": len(group), "best": best["configuration"]}
    row |= {f"best_{name}": best[name] for name in ("of_vanilla", "of_vanilla_low", "of_vanilla_high")}
    row |= _mean_interval(part, strategies)
    for control in dict.fromkeys([*CONTROLS[1:], *in_order(group.loc[~is_method(group), "strategy"])]):
        values = group.loc[group["strategy"] == control, "of_vanilla"]
        row[control] = values.mean() if len(values) else np.nan
    return row


def _mean_interval(part: Findings, rows: pd.Index) -> dict[str, float]:
    names = [f"mean_{name}" for name in ("of_vanilla", "of_vanilla_low", "of_vanilla_high")]
    if not len(rows):
        return dict.fromkeys(names, np.nan)
    mean = part.relative.mean_of([rows.to_numpy()])
    return dict(zip(names, (mean.score_C[0], *mean.intervals()[0]), strict=True))


OUTCOMES = ("won", "shared", "lost", "too_few")


def wins(parts: Sequence[Findings]) -> pd.DataFrame:
    """One row per strategy: in how many rows of the published kind of table it is alone at the top.

    A row is one benchmark, token budget and number of heads (and whatever else was varied), its entries the head
    strategies; methods without heads are each other's rivals in rows of their own. `won`: significantly better than
    every other strategy of the row; `shared`: in the row's best set with others; `lost`: significantly worse than some
    other; `too_few`, where there are such: rows of a benchmark with too few images to tell any two apart, which are in
    none of the three.
    """
    counts: dict[str, dict[str, int]] = {}
    for part in parts:
        names = part.cells["strategy"].to_numpy()
        for rows in _table_rows(part.cells):
            best = part.best_among(rows)
            for strategy, inside in zip(names[rows], best, strict=True):
                outcome = "lost" if not inside else "won" if best.sum() == 1 else "shared"
                outcome = "too_few" if part.too_few else outcome
                counts.setdefault(strategy, dict.fromkeys(OUTCOMES, 0))[outcome] += 1
    summary = [{"strategy": name, "rows": sum(each.values()), **each} for name, each in counts.items()]
    table = pd.DataFrame(summary, columns=["strategy", "rows", *OUTCOMES])
    if not table["too_few"].any():
        table = table.drop(columns="too_few")
    return table.sort_values(["won", "lost"], ascending=[False, True], kind="stable", ignore_index=True)


def _table_rows(cells: pd.DataFrame) -> list[np.ndarray]:
    """Row numbers of each row of a strategies table that has at least two strategies that answered everything."""
    own = cells[is_method(cells) & cells["full"]]
    varied = [name for name in VARIED if name in own]
    groups = own.groupby(varied, dropna=False, sort=False).groups.values()
    return [rows.to_numpy() for rows in groups if len(rows) > 1]


def strategies(found: Findings) -> pd.DataFrame:
    """A row a method: its mean percent of vanilla over the grid that all of them share.

    Averaging over budgets and head counts finds differences that no single cell can show; `in_best_set`
    is simultaneous over the strategies. A head strategy's share of a token budget is the mean over the numbers of
    heads that all head strategies were run with.
    """
    own = _shared_grid(found.full[is_method(found.full)])
    groups = own.groupby("strategy", sort=False).groups
    if not groups:
        return pd.DataFrame(columns=["strategy", "cells", "of_vanilla", "low", "high", "p_best", "in_best_set"])
    means = found.relative.mean_of([rows.to_numpy() for rows in groups.values()])
    p = best_set_p(flip(means))
    low, high = means.intervals().T
    table = pd.DataFrame({"strategy": list(groups), "cells": [len(rows) for rows in groups.values()]})
    table = table.assign(of_vanilla=means.score_C, low=low, high=high, p_best=p, in_best_set=p > ALPHA)
    return table.sort_values("of_vanilla", ascending=False, kind="stable", ignore_index=True)


def _shared_grid(own: pd.DataFrame) -> pd.DataFrame:
    """The cells of budgets at which every method was run, head strategies with the same numbers of heads.

    Where head strategies and methods without heads share no budget, those of the head strategies alone.
    """
    if own.empty:
        return own
    varied = [name for name in VARIED if name in own]
    by_heads = own["heads"].notna().rename("by_heads")
    together = own.groupby([by_heads, *varied], dropna=False)["strategy"].transform("nunique")
    own = own[together == own.groupby(by_heads)["strategy"].transform("nunique")]
    by_heads = by_heads[own.index]
    budgets = [name for name in varied if name not in ("heads", "query")]
    kinds = by_heads.groupby([own[name] for name in budgets], dropna=False).transform("nunique")
    shared = own[kinds == 2] if by_heads.nunique() == 2 else own
    return own[by_heads] if shared.empty else shared


def efficiency(found: Findings) -> pd.DataFrame:
    """Accuracy beside cost, and whether a cell is on the Pareto front of each cost that was logged."""
    costs, sizes = ([name for name in names if name in found.cells] for names in (COSTS, SIZES))
    role = ["role"] if "role" in found.cells else []
    table = found.cells[[*NAMES, *role, "score", "low", "high", "of_vanilla", *costs, *sizes]].copy()
    for cost in costs:
        score = table["score"].where(found.cells["full"])
        table[f"front_{cost}"] = pareto_front(table[cost].to_numpy(float), score.to_numpy(float))
    return table


def front(found: Findings) -> pd.DataFrame:
    """The configurations that are on the Pareto front of score and some cost, highest score first.

    `fronts` names the costs; costs that no cell logged are left out.
    """
    table = efficiency(found)
    costs = [name for name in COSTS if name in table and table[name].notna().any()]
    on = table[[f"front_{name}" for name in costs]].to_numpy(bool)
    names = np.array([FRONTS[name] for name in costs])
    fronts = [", ".join(names[row]) for row in on]
    shown = [name for name in ("configuration", "score", "of_vanilla", "kept_tokens") if name in table]
    ranked = table[[*shown, *costs]].assign(fronts=fronts)[np.asarray(on.any(axis=1))]
    return ranked.sort_values("score", ascending=False, kind="stable", ignore_index=True)


# The costs in a word.
FRONTS = {
    "flops": "FLOPs",
    "kv_bytes": "KV",
    "prefill_seconds": "prefill",
    "token_seconds": "token",
    "peak_bytes": "memory",
}


def pareto_front(cost: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Bool: no other entry is at least as good in both and better in one. NaN entries are never on it."""
    known = ~(np.isnan(cost) | np.isnan(score))
    cheaper = (cost[:, None] <= cost) & (score[:, None] >= score)
    strictly = (cost[:, None] < cost) | (score[:, None] > score)
    return known & ~(cheaper & strictly & known[:, None]).any(axis=0)


def agreement(cells: pd.DataFrame, verdicts: VerdictMatrix) -> pd.DataFrame:
    """Percent of questions on which two cells gave the same answer (as scored), of those both answered."""
    answer_CQ = verdicts.prediction_CQ
    names = cells["configuration"].tolist()
    share = np.array([_agreement(answer_CQ, row) for row in range(len(names))])
    return pd.DataFrame(share, index=pd.Index(names, name="configuration"), columns=names)


def _agreement(answer_CQ: np.ndarray, row: int) -> np.ndarray:
    both = (answer_CQ >= 0) & (answer_CQ[row] >= 0)
    same = both & (answer_CQ == answer_CQ[row])
    return 100 * np.divide(same.sum(axis=1), both.sum(axis=1), out=np.full(len(both), np.nan), where=both.any(axis=1))
