"""Kept tokens over the image: what each configuration still sees."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from headwise.benchmarks.boxes import Box
from headwise.report.figures.style import BLUE, ORANGE, SERIES, WIDTH, Drawing, drawn, framed, write_title

FOG = 235
# Colours of areas, in turn; report.js has the same.
TINTS = np.array([[int(colour[place : place + 2], 16) for place in (1, 3, 5)] for colour in SERIES[:6]])


@dataclass(frozen=True)
class Overlay:
    """One question under one configuration: `kept` is a square bool map of visual tokens (rows × columns).

    `merged`: how many merged rows the language model has beside them; `area`: a map of the same shape that says from
    which places each comes, from 1 (0: none). None where that is not recorded: then they are only counted.
    `box`: what a grounding answer points at, in fractions of the square image.
    """

    name: str
    answer: str
    correct: float
    kept: np.ndarray
    merged: int = 0
    area: np.ndarray | None = None
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
    """A row per question: the image, then each configuration's kept patches, merged areas tinted, the others shaded."""
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
    ax.imshow(faded(image, overlay.kept, overlay.area))
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


def faded(image: np.ndarray, kept: np.ndarray, area: np.ndarray | None = None) -> np.ndarray:
    """The image with the patches that were dropped in deep shade, or in bright fog where the image itself is dark.

    Patches of merged areas are tinted, each area in its colour and with a light border.
    """
    height, width = image.shape[:2]
    rows = np.arange(height) * kept.shape[0] // height
    columns = np.arange(width) * kept.shape[1] // width
    stays = kept[np.ix_(rows, columns)]
    cover = FOG if is_dark(image) else 0
    shown = np.where(stays[..., None], image, image // 5 + cover * 4 // 5)
    if area is not None:
        area = np.where(stays, 0, area[np.ix_(rows, columns)]).astype(int)
        shown = np.where(area[..., None] > 0, (image + TINTS[area % len(TINTS)]) // 2, shown)
        shown[_borders(area)] = FOG
    return shown.astype(np.uint8)


def _borders(area: np.ndarray) -> np.ndarray:
    """Bool: the pixels of an area whose neighbour to the right or below is of another one, or of none."""
    found = np.zeros(area.shape, dtype=bool)
    found[:, :-1] |= area[:, :-1] != area[:, 1:]
    found[:-1] |= area[:-1] != area[1:]
    return found


def is_dark(image: np.ndarray) -> bool:
    """Shade would not show on this image."""
    return float(image.mean()) < 80


def _short(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"
