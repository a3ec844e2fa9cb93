"""Figures of head evidence: which heads are chosen how often, and how much choices overlap."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from headwise.plots.style import WIDTH, drawn


@drawn
def head_frequency(maps: Mapping[int, pd.DataFrame], title: str) -> Figure:
    """How often each head is among the chosen, one panel a number of heads: rows strategies, columns heads (share)."""
    rows = sum(len(table) for table in maps.values())
    figure = Figure(figsize=(WIDTH, 0.23 * rows + 0.75 * len(maps) + 0.8), layout="constrained")
    ratios = [len(table) + 2 for table in maps.values()]
    axes = figure.subplots(len(maps), 1, squeeze=False, gridspec_kw={"height_ratios": ratios})[:, 0]
    image = None
    for ax, (number, table) in zip(axes, maps.items(), strict=True):
        image = ax.imshow(table.to_numpy(float), cmap="viridis", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        ax.set_yticks(range(len(table)), table.index)
        step = max(1, table.shape[1] // 16)
        ax.set_xticks(range(0, table.shape[1], step), [str(h) for h in table.columns[::step]])
        ax.set_title(f"{number} of {table.shape[1]} heads (chance: {number / table.shape[1]:.0%})")
    axes[-1].set_xlabel("head")
    figure.suptitle(f"{title}: share of questions in which a head is chosen")
    if image is not None:
        figure.colorbar(image, ax=list(axes), shrink=0.6, aspect=30, pad=0.02)
    return figure


@drawn
def overlap(matrix: pd.DataFrame, title: str, label: str, chance: float | None = None) -> Figure:
    """A square matrix of shares between strategies, each value written in its field."""
    size = len(matrix)
    figure = Figure(figsize=(WIDTH, min(WIDTH, 1.9 + 0.44 * size)), layout="constrained")
    ax = figure.subplots()
    values = matrix.to_numpy(float)
    image = ax.imshow(values, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        text = "–" if np.isnan(value) else f"{value:.2f}".removeprefix("0")
        ax.text(column, row, text, ha="center", va="center", fontsize=9, color="black" if value > 0.6 else "white")
    ax.set_xticks(range(size), matrix.columns, rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(size), matrix.index)
    ax.spines[:].set_visible(False)
    figure.colorbar(image, ax=ax, shrink=0.7, aspect=30, pad=0.02)
    ax.set_title(title)
    ax.set_xlabel(label if chance is None else f"{label} (by chance {chance:.2f})")
    return figure
