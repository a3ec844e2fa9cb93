"""A configuration a budget, by a rule; the rule is part of what is printed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from headwise.analysis.roles import in_order, is_method, is_reference
from headwise.stats import fewest_images
from headwise.study.budget import plain
from headwise.system.wording import counted

RULE = (
    "Ample, medium and tight are the largest, the middle and the smallest token budget of the study. Candidates are "
    "the configurations of methods, and all_heads (the rule of FastV), that were run on every benchmark; other "
    "controls are none. Recommended is the candidate with the highest score; equal scores go to the faster prefill, "
    "then to fewer heads (a method without heads has none). It is established only where it is alone in the best set "
    "of its budget (95 %, simultaneous over all pruned configurations of the budget, controls included). Where a "
    "control is in that set too, choosing heads (of a method without heads: its choice of tokens) has not been shown "
    "to help, and the verdict says so; all_heads is no control of a method without heads. A budget with a single "
    "configuration has nothing to compare it with, and too few images tell nothing apart."
)
# The control that is a published method, too.
ALL_HEADS = "all_heads"
SIZES = ("ample", "medium", "tight")


def recommend(cells: pd.DataFrame, images: int | None = None) -> pd.DataFrame:
    """One row per budget: the configuration, how sure that is, and its equals.

    `cells` has strategy, tokens, heads, configuration, score, low, high, best_at_budget and, where measured,
    prefill_seconds: the findings over all benchmarks (or over the only one). `images` is how many images the scores
    are of, where that may be too few to tell anything apart.
    """
    pruned = cells[~is_reference(cells)]
    rows = [_row(size, tokens, pruned[pruned["tokens"] == tokens], images) for size, tokens in budgets(pruned)]
    return pd.DataFrame([row for row in rows if row])


def budgets(pruned: pd.DataFrame) -> list[tuple[str, float]]:
    """The study's token budgets by size; with fewer than three there is no medium, then no tight one."""
    found = sorted((plain(tokens) for tokens in pruned["tokens"].dropna().unique()), reverse=True)
    if not found:
        return []
    picked = {"ample": found[0], "medium": found[len(found) // 2], "tight": found[-1]}
    distinct = {1: ("ample",), 2: ("ample", "tight")}.get(len(found), SIZES)
    return [(size, picked[size]) for size in distinct]


def _row(size: str, tokens: float, group: pd.DataFrame, images: int | None) -> dict[str, object] | None:
    candidates = group[is_method(group) | (group["strategy"] == ALL_HEADS)].copy()
    if candidates.empty:
        return None
    candidates["prefill"] = candidates.get("prefill_seconds", 0.0)
    candidates["chosen"] = candidates["heads"].astype(float).fillna(0).mask(candidates["strategy"] == ALL_HEADS, np.inf)
    ordered = candidates.sort_values(["score", "prefill", "chosen"], ascending=[False, True, True], kind="stable")
    chosen = ordered.iloc[0]
    equals = group[group["best_at_budget"] & (group.index != chosen.name)]
    return {
        "budget": size,
        "tokens": tokens,
        "recommended": chosen["configuration"],
        "score": chosen["score"],
        "low": chosen["low"],
        "high": chosen["high"],
        "verdict": _unknown(len(group), images) or _verdict(chosen, equals),
        "equals": ", ".join(equals["configuration"]),
    }


def _unknown(configurations: int, images: int | None) -> str:
    """Why nothing is known of the recommendation; empty where there is something to know."""
    if configurations == 1:
        return "nothing to compare it with"
    return too_few_images(images) if images is not None and images < fewest_images() else ""


def too_few_images(images: int) -> str:
    """Why no two configurations can be told apart."""
    count = counted(images, "image is", "images are")
    return f"{count} too few to tell configurations apart (at least {fewest_images()} are needed)"


def _verdict(chosen: pd.Series, equals: pd.DataFrame) -> str:
    """What the statistics say of the recommendation, in words."""
    if not chosen["best_at_budget"]:
        return f"significantly worse than {equals['configuration'].iloc[0]}"
    if equals.empty:
        return "established: significantly better than every other"
    by_heads = pd.notna(chosen["heads"]) or chosen["strategy"] == ALL_HEADS
    controls = in_order(equals.loc[~is_method(equals), "strategy"])
    controls = [name for name in controls if by_heads or name != ALL_HEADS]
    unproven = "choosing heads" if by_heads else "its choice of tokens"
    doubt = f", {' and '.join(controls)} among them: {unproven} not shown to help" if controls else ""
    return f"statistically tied with {counted(len(equals), 'other', 'others')}{doubt}"
