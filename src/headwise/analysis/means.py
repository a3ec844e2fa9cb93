"""Whether cells of one budget see equally many visual tokens: only then is a budget what is compared."""

from __future__ import annotations

import pandas as pd

CUTOFF = 0.5
"""Tokens by which the means of one budget may differ: what whole tokens cannot avoid."""
MEANS = ("mean_tokens", "mean_visual_tokens")
"""The metric, and its name in runs of an older headwise."""
SHOWN = 4


def mean_notes(cells: pd.DataFrame) -> list[str]:
    """One line per budget T whose cells' means differ by more than half a token; `cells` as of a Comparison.

    The mean is over decoder layers, of the visual tokens that each sees. Cells without a T (the unpruned control) and
    without a logged mean say nothing.
    """
    known = [name for name in MEANS if name in cells]
    if not known or "tokens" not in cells:
        return []
    mean = cells[known].astype("Float64").bfill(axis=1).iloc[:, 0]
    notes = []
    for tokens, rows in cells.assign(mean=mean).dropna(subset=["tokens", "mean"]).groupby("tokens", sort=False):
        by_strategy = rows.groupby("strategy")["mean"].agg(["min", "max"]).sort_values("min", kind="stable")
        low, high = by_strategy["min"].min(), by_strategy["max"].max()
        if high - low > CUTOFF:
            notes.append(
                f"tokens {tokens}: a decoder layer sees {low:.1f} to {high:.1f} visual tokens on average, by method "
                f"({_ends(by_strategy['min'])}); these cells do not have the same budget"
            )
    return notes


def _ends(mean_of: pd.Series) -> str:
    """The strategies with the smallest and the largest means."""
    named = [f"{name} {value:.1f}" for name, value in mean_of.items()]
    return ", ".join(named if len(named) <= SHOWN else [*named[: SHOWN // 2], "…", *named[-(SHOWN // 2) :]])
