"""How every figure looks: eight inches wide (MLflow shows about 700 pixels), colours that all eyes can tell apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, ParamSpec

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from headwise.names import CONTROLS, STRATEGIES

WIDTH = 8.0
DPI = 150
BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SERIES = (BLUE, ORANGE, GREEN, PINK, "#56B4E9", "#E69F00", "#000000")
"""Okabe & Ito's palette without its yellow, which is lost on white."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY, FAINT = "#5a5a5a", "#b8b8b8"
LOOK: Any = {
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
}

Drawing = ParamSpec("Drawing")


def drawn(draw: Callable[Drawing, Figure]) -> Callable[Drawing, Figure]:
    """Draw with the house style, leaving matplotlib's global settings as they were."""

    @wraps(draw)
    def inside(*args: Drawing.args, **kwargs: Drawing.kwargs) -> Figure:
        with mpl.rc_context(rc=LOOK):
            return draw(*args, **kwargs)

    return inside


def panels(count: int, columns: int, row_height: float, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure of `count` equal panels; the places left over in the last row stay empty."""
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(WIDTH, row_height * rows + 0.6), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False, **options).flat)
    for unused in axes[count:]:
        unused.set_axis_off()
    return figure, axes[:count]


def series_style(place: int) -> dict[str, Any]:
    """Colour and marker of the n-th series of a figure: told apart by shape as well as colour."""
    return {"color": SERIES[place % len(SERIES)], "marker": MARKERS[place % len(MARKERS)]}


def in_order(names: Iterable[str]) -> list[str]:
    """Strategies, then controls, in the order of `headwise.names`."""
    found = set(names)
    return [name for name in (*STRATEGIES, *CONTROLS) if name in found]
