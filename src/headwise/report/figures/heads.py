"""Figures of head evidence: which heads are chosen how often, and how much choices overlap."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from headwise.report.figures.style import Drawing, colour_bar, drawn, framed, write_title

# Strategies beyond which overlaps are colours only.
LEGIBLE = 16


@drawn
def head_frequency(maps: Mapping[int, pd.DataFrame], title: str) -> Drawing:
    """Share of questions that choose each head: one panel per number of heads, one row per strategy."""
    rows = sum(len(table) for table in maps.values())
    figure = framed(0.21 * rows + 0.5 * len(maps) + 0.6, left=1.35, right=0.75, top=0.62, bottom=0.5)
    grid = {"height_ratios": [len(table) for table in maps.values()], "hspace": 0.5 * len(maps) / (0.21 * rows)}
    axes = figure.subplots(len(maps), 1, squeeze=False, gridspec_kw=grid)[:, 0]
    for ax, (number, table) in zip(axes, maps.items(), strict=True):
        image = ax.imshow(table.to_numpy(float), cmap="viridis", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        ax.set_yticks(range(len(table)), table.index)
        step = max(1, table.shape[1] // 16)
        ax.set_xticks(range(0, table.shape[1], step), [str(h) for h in table.columns[::step]])
        ax.set_title(f"{number} of {table.shape[1]} heads (by chance {number / table.shape[1]:.2f})")
    axes[-1].set_xlabel("head")
    colour_bar(figure, image)
    write_title(figure, f"{title}: share of questions in which a head is chosen")
    return figure


@drawn
def overlap(heads: pd.DataFrame, kept: pd.DataFrame, title: str) -> Drawing:
    """Overlap between strategies in one square: chosen heads above the diagonal, kept tokens below it.

    Both tables name the same strategies; those without heads have NaN in `heads`, and their fields stay empty.
    """
    size = len(heads)
    values = np.where(np.triu(np.ones((size, size), bool)), heads.to_numpy(float), kept.to_numpy(float))
    np.fill_diagonal(values, np.nan)
    figure = framed(2.0 + min(0.4 * size, 6.4), left=1.35, right=0.75, top=0.5, bottom=1.15)
    ax = figure.subplots()
    image = ax.imshow(values, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if size <= LEGIBLE and not np.isnan(value):
            colour = "black" if value > 0.6 else "white"
            ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=9, color=colour)
    ax.set_xticks(range(size), kept.columns, rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(size), kept.index)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    colour_bar(figure, image)
    parts = (
        "chosen heads (above the diagonal) and kept tokens (below)" if heads.notna().any(axis=None) else "kept tokens"
    )
    write_title(figure, f"{title}: Jaccard overlap of {parts}")
    return figure
