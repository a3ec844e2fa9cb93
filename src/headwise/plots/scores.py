"""Figures of scores: heat maps, score against tokens, best set, accuracy against cost.

All take the cells of `report.Findings` (score, low, high, strategy, tokens, heads, configuration, …).
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from headwise.names import CONTROLS
from headwise.plots.style import (
    BLUE,
    FAINT,
    GREY,
    ORANGE,
    colour_bar,
    drawn,
    framed,
    headline,
    in_order,
    panels,
    series_style,
)

COLUMNS = 4
COST_LABELS = {
    "flops": "FLOPs a question",
    "kv_bytes": "KV cache, bytes",
    "prefill_seconds": "prefill, seconds",
    "token_seconds": "decoding, seconds a token",
    "peak_bytes": "peak memory, bytes",
}
CONTROL_LINES = {"all_heads": "-", "random_heads": "--", "random_tokens": ":"}
MOST_ROWS = 30


@drawn
def heat_maps(cells: pd.DataFrame, title: str, unit: str) -> Figure:
    """Tokens × heads, one panel a strategy, all on one colour scale; each score is written in its field."""
    own = cells[~cells["strategy"].isin(CONTROLS)]
    strategies = in_order(own["strategy"])
    tokens, heads = (sorted(own[name].dropna().unique(), reverse=True) for name in ("tokens", "heads"))
    rows = math.ceil(len(strategies) / COLUMNS)
    figure = framed(0.95 + rows * (0.5 + 0.3 * len(tokens)), left=0.75, right=0.75, top=0.6, bottom=0.5)
    axes = panels(figure, len(strategies), COLUMNS, (0.06, 0.5 / (0.1 + 0.3 * len(tokens))))
    low, high = own["score"].min(), own["score"].max()
    for place, (ax, strategy) in enumerate(zip(axes, strategies, strict=True)):
        grid = own[own["strategy"] == strategy].pivot_table(index="tokens", columns="heads", values="score")
        grid = grid.reindex(index=tokens, columns=heads)
        image = ax.imshow(grid.to_numpy(float), cmap="cividis", vmin=low, vmax=high, aspect="auto")
        _write_values(ax, grid, (low + high) / 2)
        ax.set_title(strategy)
        ax.set_xticks(range(len(heads)), [str(h) for h in heads])
        ax.set_yticks(range(len(tokens)), [str(t) for t in tokens] if place % COLUMNS == 0 else [""] * len(tokens))
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    colour_bar(figure, image)
    figure.supxlabel("heads chosen", fontsize=9.5, y=0.08 / figure.get_figheight())
    figure.supylabel("token budget", fontsize=9.5, x=0.01)
    headline(figure, f"{title}: score ({unit}) by tokens and heads")
    return figure


def _write_values(ax: Axes, grid: pd.DataFrame, middle: float) -> None:
    digits = 0 if middle > 200 else 1
    for (row, column), value in np.ndenumerate(grid.to_numpy(float)):
        text = "–" if np.isnan(value) else f"{value:.{digits}f}"
        ax.text(column, row, text, ha="center", va="center", color="black" if value > middle else "white", fontsize=9)


@drawn
def score_by_tokens(cells: pd.DataFrame, title: str, unit: str) -> Figure:
    """Score against tokens with 95 % intervals, one panel a strategy, a line a number of heads; controls in grey."""
    own = cells[~cells["strategy"].isin(CONTROLS)]
    strategies = in_order(own["strategy"])
    tokens = sorted(own["tokens"].dropna().unique())
    heads = sorted(own["heads"].dropna().unique(), reverse=True)
    rows = math.ceil(len(strategies) / COLUMNS)
    figure = framed(1.1 + 1.45 * rows, left=0.5, top=0.6, bottom=0.6)
    axes = panels(figure, len(strategies), COLUMNS, (0.08, 0.3), sharex=True, sharey=True)
    for ax, strategy in zip(axes, strategies, strict=True):
        _control_lines(ax, cells, tokens)
        for series, number in enumerate(heads):
            line = own[(own["strategy"] == strategy) & (own["heads"] == number)]
            shift = 0.14 * (series - (len(heads) - 1) / 2)
            _line_with_intervals(ax, line, tokens, shift, series, f"{number} heads")
        ax.set_title(strategy)
        ax.set_xlim(-0.4, len(tokens) - 0.6)
        ax.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    axes[0].set_xticks(range(len(tokens)), [str(t) for t in tokens])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="lower center", ncols=7, frameon=False, fontsize=9)
    headline(figure, f"{title}: score ({unit}) against tokens, 95 % intervals")
    return figure


def _control_lines(ax: Axes, cells: pd.DataFrame, tokens: list[int]) -> None:
    for _, row in cells[cells["strategy"] == "vanilla"].head(1).iterrows():
        ax.axhline(row["score"], color=GREY, linewidth=1.2, linestyle="-.", label="vanilla")
    for control, dashes in CONTROL_LINES.items():
        rows = cells[cells["strategy"] == control]
        if len(rows):
            means = rows.groupby("tokens")["score"].mean().reindex(tokens)
            ax.plot(range(len(tokens)), means, color=GREY, linewidth=1.2, linestyle=dashes, label=control)


def _line_with_intervals(
    ax: Axes, line: pd.DataFrame, tokens: list[int], shift: float, series: int, label: str
) -> None:
    line = line.drop_duplicates("tokens").set_index("tokens").reindex(tokens)
    look = series_style(series)
    places = np.arange(len(tokens)) + shift
    ax.vlines(places, line["low"].to_numpy(float), line["high"].to_numpy(float), color=look["color"], linewidth=0.9)
    ax.plot(places, line["score"].to_numpy(float), label=label, markersize=3.5, linewidth=1, **look)


@drawn
def best_set(cells: pd.DataFrame, title: str, unit: str) -> Figure:
    """The best cells with their intervals, highest first; filled where they cannot be told from the best."""
    ranked = cells[cells["strategy"] != "vanilla"].sort_values("score", ascending=False, kind="stable")
    shown = ranked.head(MOST_ROWS)
    inside = int(ranked["in_best_set"].sum())
    figure = framed(1.1 + 0.21 * len(shown), left=0.35 + 0.073 * shown["configuration"].str.len().max())
    ax = figure.subplots()
    _reference_line(ax, cells)
    colours = np.where(shown["in_best_set"], BLUE, FAINT)
    places = np.arange(len(shown))
    ax.hlines(places, shown["low"], shown["high"], color=colours, linewidth=1.6)
    faces = np.where(shown["in_best_set"], BLUE, "white")
    ax.scatter(shown["score"], places, s=26, c=faces, edgecolors=colours.tolist(), zorder=3)
    ax.set_yticks(places, shown["configuration"])
    ax.set_ylim(-0.8, len(shown) - 0.2)
    ax.invert_yaxis()
    ax.set_xlabel(f"score ({unit}) with 95 % interval")
    more = f"; the best {len(shown)} are drawn" if len(ranked) > len(shown) else ""
    headline(figure, f"{title}: {inside} of {len(ranked)} configurations cannot be told from the best (filled){more}")
    return figure


def _reference_line(ax: Axes, cells: pd.DataFrame) -> None:
    for _, row in cells[cells["strategy"] == "vanilla"].head(1).iterrows():
        ax.axvline(row["score"], color=GREY, linewidth=1.2, linestyle="-.")
        ax.annotate(
            "vanilla", (row["score"], 0), xycoords=("data", "axes fraction"), xytext=(3, 4), textcoords="offset points",
            color=GREY, fontsize=9,
        )  # fmt: skip


@drawn
def accuracy_against_cost(table: pd.DataFrame, cost: str, title: str, unit: str) -> Figure:
    """Score against one cost; colours are token budgets, the line joins the Pareto front (`front_<cost>`)."""
    figure = framed(4.4, left=0.75)
    ax = figure.subplots()
    known = table[table[cost].notna()]
    budgets = sorted(known["tokens"].dropna().unique(), reverse=True)
    for series, tokens in enumerate(budgets):
        rows = known[known["tokens"] == tokens]
        look = series_style(series) | {"s": 26, "alpha": 0.75, "linewidths": 0}
        ax.scatter(rows[cost], rows["score"], label=f"{tokens} tokens", **look)
    vanilla = known[known["strategy"] == "vanilla"]
    ax.scatter(vanilla[cost], vanilla["score"], s=60, color="black", marker="*", label="vanilla")
    front = known[known[f"front_{cost}"]].sort_values(cost)
    ax.plot(front[cost], front["score"], color=GREY, linewidth=1, zorder=0, label="Pareto front")
    _name_front(ax, front, cost)
    ax.set_xlabel(COST_LABELS.get(cost, cost))
    ax.set_ylabel(f"score ({unit})")
    ax.margins(x=0.12, y=0.1)
    ax.grid(color="#e6e6e6", linewidth=0.6)
    ax.legend(frameon=False, loc="lower right", fontsize=9)
    headline(figure, f"{title}: accuracy against {COST_LABELS.get(cost, cost)}")
    return figure


def _name_front(ax: Axes, front: pd.DataFrame, cost: str) -> None:
    """Names beside the front's points, at most one a token budget so that they stay apart."""
    best = front.sort_values("score", ascending=False).drop_duplicates("tokens")
    for _, row in best[best["strategy"] != "vanilla"].iterrows():
        ax.annotate(
            row["configuration"], (row[cost], row["score"]), xytext=(7, -9), textcoords="offset points", fontsize=9,
            color=ORANGE,
        )  # fmt: skip
