"""How every figure looks: eight inches wide (MLflow shows about 700 pixels), colours that all eyes can tell apart."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from PIL import Image

WIDTH = 8.0
DPI = 120
BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
# Okabe & Ito's palette without its yellow, which is lost on white.
SERIES = (BLUE, ORANGE, GREEN, PINK, "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY, FAINT = "#5a5a5a", "#b8b8b8"
LOOK: Any = {
    "font.size": 9.5,
    "text.parse_math": False,  # a dollar sign in an answer is a dollar sign
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
}

Arguments = ParamSpec("Arguments")


class Drawing(Figure):
    """A figure that is rendered once: for the report, and for `mlflow.log_figure`, which calls `savefig`."""

    @cached_property
    def png(self) -> bytes:
        """The figure as a PNG of 256 colours, a third of the size of the full ones."""
        canvas = FigureCanvasAgg(self)
        canvas.draw()  # once; matplotlib's own savefig draws twice
        image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        out = io.BytesIO()
        image.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(out, "PNG")
        return out.getvalue()

    def savefig(self, fname: Any, **kwargs: Any) -> None:
        """A PNG is written as it was rendered; other formats and settings are matplotlib's."""
        if kwargs or not str(fname).endswith(".png"):
            super().savefig(fname, **kwargs)
        else:
            Path(fname).write_bytes(self.png)


def drawn(draw: Callable[Arguments, Drawing]) -> Callable[Arguments, Drawing]:
    """Draw with the house style, leaving matplotlib's global settings as they were."""

    @wraps(draw)
    def inside(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Drawing:
        with mpl.rc_context(rc=LOOK):
            return draw(*args, **kwargs)

    return inside


def framed(height: float, *, left: float, right: float = 0.15, top: float = 0.45, bottom: float = 0.55) -> Drawing:
    """A figure `height` inches high with margins in inches.

    Fixed margins instead of a layout engine: that one draws everything twice, and a report has thirty figures.
    """
    figure = Drawing(figsize=(WIDTH, height))
    figure.subplots_adjust(left / WIDTH, bottom / height, 1 - right / WIDTH, 1 - top / height)
    return figure


def write_title(figure: Figure, text: str) -> None:
    """The figure's title, at its upper left."""
    figure.text(0.012, 1 - 0.08 / figure.get_figheight(), text, va="top", ha="left", fontsize=11)


def colour_bar(figure: Figure, image: ScalarMappable) -> None:
    """A slim colour bar in the right margin, which must be 0.75 inches."""
    height = figure.get_figheight()
    place = figure.add_axes((1 - 0.62 / WIDTH, 0.25, 0.014, min(0.5, 2.5 / height)))
    figure.colorbar(image, cax=place).outline.set_visible(False)  # type: ignore[operator]


def series_style(place: int) -> dict[str, Any]:
    """Colour and marker of the n-th series of a figure: told apart by shape as well as colour.

    The first len(SERIES) differ in both; of the next ones each pair of colour and marker is new, up to their product.
    """
    turn, colour = divmod(place, len(SERIES))
    return {"color": SERIES[colour], "marker": MARKERS[(colour + turn) % len(MARKERS)]}
