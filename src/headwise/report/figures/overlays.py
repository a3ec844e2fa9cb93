"""Kept tokens over the image: what each configuration still sees."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from headwise.benchmarks.boxes import Box
from headwise.report.figures.style import BLUE, ORANGE, WIDTH, Drawing, drawn, framed, write_title

FOG = 235


@dataclass(frozen=True)
class Overlay:
    """One question under one configuration: `kept` is a square bool map of visual tokens (rows × columns).

    `merged`: how many merged rows the language model has beside them. Their areas are not recorded: they are counted.
    `box`: what a grounding answer points at, in fractions of the square image.
    """

    name: str
    answer: str
    correct: float
    kept: np.ndarray
    merged: int = 0
    box: Box | None = None


@dataclass(frozen=True)
class Seen:
    """A question with its square image (uint8, height × width × 3) and what each configuration kept of it.

    `box` is the true box of a grounding question, in fractions of the image.
    """

    question: str
    truth: str
    image: np.ndarray
    overlays: Sequence[Overlay]
    box: Box | None = None


@drawn
def kept_tokens(samples: Sequence[Seen], title: str) -> Drawing:
    """A row a question: the image, then each configuration's kept patches with the others shaded."""
    columns = 1 + max(len(sample.overlays) for sample in samples)
    side = (WIDTH - 0.2) / (columns + 0.05 * (columns - 1))
    figure = framed(0.35 + (side + 0.68) * len(samples), left=0.1, right=0.1, top=1.0, bottom=0.05)
    grid = {"wspace": 0.05, "hspace": 0.68 / side}
    axes = figure.subplots(len(samples), columns, squeeze=False, gridspec_kw=grid)
    for row, sample in zip(axes, samples, strict=True):
        for ax in row:
            ax.set_axis_off()
        row[0].imshow(sample.image)
        lines = textwrap.wrap(" ".join(sample.question.split()), int(100 / columns), max_lines=2, placeholder="…")
        row[0].set_title("\n".join([*lines, f"→ {_short(sample.truth, 16)}"][-3:]), fontsize=9)
        for ax, overlay in zip(row[1:], sample.overlays, strict=False):
            _draw(ax, sample.image, overlay)
            _outline(ax, sample.box, overlay.box, sample.image.shape[0])
    write_title(figure, title)
    return figure


def _draw(ax: Axes, image: np.ndarray, overlay: Overlay) -> None:
    ax.imshow(faded(image, overlay.kept))
    right = overlay.correct >= 0.5
    mark, colour = ("✓", BLUE) if right else ("✗", ORANGE)
    ax.set_title(f"{overlay.name}\n{mark} {_short(overlay.answer, 16)}", fontsize=9, color=colour)
    if overlay.merged:
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
        ax.text(0.98, 0.02, f"+{overlay.merged} merged", transform=ax.transAxes, ha="right", fontsize=8, bbox=box)


def _outline(ax: Axes, truth: Box | None, said: Box | None, side: int) -> None:
    """The true box and the answer's, on white so that they show on any image."""
    for box, style in ((truth, {"edgecolor": BLUE}), (said, {"edgecolor": ORANGE, "linestyle": "--"})):
        if box is not None:
            x1, y1, x2, y2 = (side * value - 0.5 for value in box)
            for look in ({"edgecolor": "white", "linewidth": 2.4}, style | {"linewidth": 1.4}):
                ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, clip_on=True, **look))


def faded(image: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The image with the patches that were dropped in deep shade, or in bright fog where the image itself is dark."""
    height, width = image.shape[:2]
    rows = np.arange(height) * kept.shape[0] // height
    columns = np.arange(width) * kept.shape[1] // width
    stays = kept[np.ix_(rows, columns)][..., None]
    cover = FOG if is_dark(image) else 0
    return np.where(stays, image, image // 5 + cover * 4 // 5).astype(np.uint8)


def is_dark(image: np.ndarray) -> bool:
    """Shade would not show on this image."""
    return float(image.mean()) < 80


def _short(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"
