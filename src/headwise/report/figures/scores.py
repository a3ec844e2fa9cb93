"""Figures of scores: heat maps, score against tokens, best set, accuracy against cost.

All take the cells of `report.Findings` (score, low, high, strategy, tokens, heads, configuration, …).
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from headwise.analysis.roles import in_order, is_method, is_reference
from headwise.report.figures.style import (
    BLUE,
    FAINT,
    GREY,
    ORANGE,
    Drawing,
    colour_bar,
    drawn,
    framed,
    series_style,
    write_title,
)

# Strategies side by side in the heat maps.
BLOCKS = 4
# Strategies side by side in the figure of score against tokens.
GROUPS = 6
# Letters of a name that fit above a group.
GROUP_WIDTH = 18
COST_LABELS = {
    "flops": "FLOPs a question",
    "kv_bytes": "KV cache, bytes",
    "prefill_seconds": "prefill, seconds",
    "token_seconds": "decoding, seconds a token",
    "peak_bytes": "peak memory, bytes",
}
# Dashes of a study's other controls, such as pooling, in turn.
OTHER_LINES = ((0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (7, 2)), (0, (3, 1, 1, 1)))
CONTROL_LINES = {"vanilla": "-.", "all_heads": "-", "random_heads": "--", "random_tokens": ":"}
# Entries of a legend that fit beside each other.
IN_LEGEND = 7
MOST_ROWS = 30
# More scores than that are colours only: they would be illegible, and slow to draw.
MOST_VALUES = 250


@drawn
def heat_maps(cells: pd.DataFrame, title: str, unit: str) -> Drawing:
    """Tokens × heads, one block per head strategy, all on one colour scale; each score is written in its field."""
    own = _by_series(cells[is_method(cells) & cells["heads"].notna()])
    strategies = list(dict.fromkeys(own["series"]))
    tokens, heads = (sorted(own[name].dropna().unique(), reverse=True) for name in ("tokens", "heads"))
    corners = [divmod(place, BLOCKS) for place in range(len(strategies))]
    high, wide = len(tokens) + 0.85, len(heads) + 0.25
    rows = corners[-1][0] + 1
    figure = framed(1.0 + 0.29 * high * rows, left=0.75, right=0.75, top=0.5, bottom=0.5)
    ax = figure.subplots()
    low_score, high_score = float(own["score"].min()), float(own["score"].max())
    scale = Normalize(low_score, high_score)
    for (row, column), strategy in zip(corners, strategies, strict=True):
        block = own[own["series"] == strategy].pivot_table(index="tokens", columns="heads", values="score")
        values = block.reindex(index=tokens, columns=heads).to_numpy(float)
        left, top = column * wide, row * high
        place = (left, left + len(heads), top + len(tokens), top)
        image = ax.imshow(values, cmap="cividis", norm=scale, extent=place, aspect="auto")
        if len(own) <= MOST_VALUES:
            _write_values(ax, values, left, top, (low_score + high_score) / 2)
        ax.text(left, top - 0.12, strategy, va="bottom", fontsize=10)
    middles = [column * wide + n + 0.5 for column in range(min(BLOCKS, len(strategies))) for n in range(len(heads))]
    ax.set_xticks(middles, [str(h) for h in heads] * (len(middles) // len(heads)))
    ax.set_yticks([row * high + n + 0.5 for row in range(rows) for n in range(len(tokens))], [*map(str, tokens)] * rows)
    ax.set(xlim=(0, middles[-1] + 0.5), ylim=(rows * high - 0.85, -0.85), xlabel="heads chosen", ylabel="token budget")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    colour_bar(figure, image)
    write_title(figure, f"{title}: score ({unit}) by tokens and heads")
    return figure


def _by_series(own: pd.DataFrame) -> pd.DataFrame:
    """With a column `series`: the strategy and whatever else differs (its query, say), strategies in their order."""
    rank = {name: place for place, name in enumerate(in_order(own["strategy"]))}
    ordered = own.assign(series=own["label"] if "label" in own else own["strategy"], place=own["strategy"].map(rank))
    return ordered.sort_values("place", kind="stable")


def _write_values(ax: Axes, values: np.ndarray, left: float, top: float, middle: float) -> None:
    digits = 0 if middle > 200 else 1
    for (row, column), value in np.ndenumerate(values):
        text = "–" if np.isnan(value) else f"{value:.{digits}f}"
        colour = GREY if np.isnan(value) else "black" if value > middle else "white"
        ax.text(left + column + 0.5, top + row + 0.5, text, ha="center", va="center", color=colour, fontsize=9)


@drawn
def score_by_tokens(cells: pd.DataFrame, title: str, unit: str) -> Drawing:
    """Score against tokens with 95 % intervals: one group per strategy, one line per number of heads, controls in grey.

    A method without heads has one line, in the middle of its group.
    """
    own = _by_series(cells[is_method(cells)])
    strategies = list(dict.fromkeys(own["series"]))
    tokens = sorted(own["tokens"].dropna().unique())
    heads = sorted(own["heads"].dropna().unique(), reverse=True)
    lines = control_lines(cells)
    rows = math.ceil(len(strategies) / GROUPS)
    legend = math.ceil((len(lines) + len(heads) + own["heads"].isna().any()) / IN_LEGEND)
    figure = framed(0.9 + 0.2 * legend + 1.9 * rows, left=0.55, top=0.65, bottom=0.45 + 0.2 * legend)
    axes = figure.subplots(rows, 1, squeeze=False, sharey=True, gridspec_kw={"hspace": 0.28})[:, 0]
    for place, strategy in enumerate(strategies):
        ax, start = axes[place // GROUPS], (place % GROUPS) * len(tokens)
        for control, dashes in lines.items():
            _control_line(ax, cells[cells["strategy"] == control], tokens, start, dashes)
        for series, number in enumerate(heads):
            line = own[(own["series"] == strategy) & (own["heads"] == number)]
            shift = start + 0.16 * (series - (len(heads) - 1) / 2)
            _line_with_intervals(ax, line, tokens, shift, series)
        headless = own[(own["series"] == strategy) & own["heads"].isna()]
        if len(headless):
            _line_with_intervals(ax, headless, tokens, start, len(heads))
        name = textwrap.fill(strategy, GROUP_WIDTH)
        ax.text(start - 0.4, 1.02, name, transform=ax.get_xaxis_transform(), fontsize=9, va="bottom", linespacing=1)
    for row, ax in enumerate(axes):
        groups = min(GROUPS, len(strategies) - row * GROUPS)
        ax.set_xticks(range(groups * len(tokens)), [*map(str, tokens)] * groups)
        ax.set_xlim(-0.5, min(GROUPS, len(strategies)) * len(tokens) - 0.5)
        ax.vlines(np.arange(1, groups) * len(tokens) - 0.5, *ax.get_ylim(), color="#e6e6e6", linewidth=0.8)
        ax.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    _legend(
        figure, lines, [*(f"{number} heads" for number in heads), *(["no heads"] if own["heads"].isna().any() else [])]
    )
    write_title(figure, f"{title}: score ({unit}) against tokens, 95 % intervals")
    return figure


def control_lines(cells: pd.DataFrame) -> dict[str, Any]:
    """The controls that occur, the unpruned model first, and the dashes of each."""
    found = in_order(cells.loc[~is_method(cells), "strategy"])
    others = [name for name in found if name not in CONTROL_LINES]
    dashes = {name: line for name, line in CONTROL_LINES.items() if name in found}
    return dashes | {name: OTHER_LINES[place % len(OTHER_LINES)] for place, name in enumerate(others)}


def _legend(figure: Figure, controls: Mapping[str, Any], series: Sequence[str]) -> None:
    looks: list[dict[str, Any]] = [
        {"color": GREY, "linestyle": dashes, "label": name} for name, dashes in controls.items()
    ]
    looks += [series_style(n) | {"markersize": 4, "label": label} for n, label in enumerate(series)]
    lines = [Line2D([], [], linewidth=1.2, **look) for look in looks]
    figure.legend(handles=lines, loc="lower center", ncols=min(len(lines), IN_LEGEND), frameon=False, fontsize=9)


def _control_line(ax: Axes, rows: pd.DataFrame, tokens: list[int], start: int, dashes: Any) -> None:
    """A control over one group; vanilla has no token budget and is level."""
    if rows.empty:
        return
    level = rows["tokens"].isna().all()
    means = [rows["score"].mean()] * len(tokens) if level else rows.groupby("tokens")["score"].mean().reindex(tokens)
    ax.plot(start + np.arange(len(tokens)), means, color=GREY, linewidth=1.2, linestyle=dashes)


def _line_with_intervals(ax: Axes, line: pd.DataFrame, tokens: list[int], shift: float, series: int) -> None:
    line = line.drop_duplicates("tokens").set_index("tokens").reindex(tokens)
    look = series_style(series)
    places = np.arange(len(tokens)) + shift
    ax.vlines(places, line["low"].to_numpy(float), line["high"].to_numpy(float), color=look["color"], linewidth=0.9)
    ax.plot(places, line["score"].to_numpy(float), markersize=3.5, linewidth=1, **look)


@drawn
def draw_best_set(cells: pd.DataFrame, title: str, unit: str) -> Drawing:
    """The best cells with their intervals, highest first; filled where they are statistically tied with the best."""
    ranked = cells[~is_reference(cells)].sort_values("score", ascending=False, kind="stable")
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
    known = f"{inside} of {len(ranked)} configurations statistically tied with the best (filled)"
    write_title(figure, f"{title}: {known if len(ranked) > 1 else 'the only configuration'}{more}")
    return figure


def _reference_line(ax: Axes, cells: pd.DataFrame) -> None:
    """Where the unpruned model is; its name stands on the side where the other cells are, so that it is not cut off."""
    for _, row in cells[is_reference(cells)].head(1).iterrows():
        side, anchor = (-4, "right") if row["score"] > cells["score"].median() else (4, "left")
        ax.axvline(row["score"], color=GREY, linewidth=1.2, linestyle="-.")
        ax.annotate(
            "vanilla", (row["score"], 0), xycoords=("data", "axes fraction"), xytext=(side, 4),
            textcoords="offset points", ha=anchor, color=GREY, fontsize=9,
        )  # fmt: skip


@drawn
def accuracy_against_cost(table: pd.DataFrame, cost: str, title: str, unit: str) -> Drawing:
    """Score against one cost; colours are token budgets, the line joins the Pareto front (`front_<cost>`)."""
    figure = framed(4.4, left=0.75)
    ax = figure.subplots()
    known = table[table[cost].notna()]
    budgets = sorted(known["tokens"].dropna().unique(), reverse=True)
    for series, tokens in enumerate(budgets):
        rows = known[known["tokens"] == tokens]
        look = series_style(series) | {"s": 26, "alpha": 0.75, "linewidths": 0}
        ax.scatter(rows[cost], rows["score"], label=f"{tokens} tokens", **look)
    vanilla = known[is_reference(known)]
    ax.scatter(vanilla[cost], vanilla["score"], s=60, color="black", marker="*", label="vanilla")
    front = known[known[f"front_{cost}"]].sort_values(cost)
    ax.plot(front[cost], front["score"], color=GREY, linewidth=1, zorder=0, label="Pareto front")
    _name_front(ax, front, cost)
    ax.set_xlabel(COST_LABELS.get(cost, cost))
    ax.set_ylabel(f"score ({unit})")
    ax.margins(x=0.12, y=0.1)
    ax.grid(color="#e6e6e6", linewidth=0.6)
    ax.legend(frameon=False, loc="lower right", fontsize=9)
    write_title(figure, f"{title}: accuracy against {COST_LABELS.get(cost, cost)}")
    return figure


def _name_front(ax: Axes, front: pd.DataFrame, cost: str) -> None:
    """Names beside the front's points, at most one per token budget so that they stay apart."""
    best = front.sort_values("score", ascending=False).drop_duplicates("tokens")
    for _, row in best[~is_reference(best)].iterrows():
        ax.annotate(
            row["configuration"], (row[cost], row["score"]), xytext=(7, -9), textcoords="offset points", fontsize=9,
            color=ORANGE,
        )  # fmt: skip
