"""FitPrune: after every layer the tokens with the least cross × self attention go, by numbers fitted offline.

Source: ywh187/FitPrune d28e418 (its inference code: the product; the paper says the intersection). It reads the
full attention map of every layer, which no fused kernel gives: its cost.
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING

from headwise.errors import ConfigError
from headwise.methods.stages import Choice, InsideMethod, Stage, View, check_published, solved, top

if TYPE_CHECKING:
    from torch import Tensor

    from headwise.study.cells import Cell, Geometry

VISUAL = 576
# fmt: off
DELETED: dict[int, tuple[int, ...]] = {
    60: (14, 33, 89, 36, 36, 20, 55, 21, 18, 4, 7, 5, 2, 5, 7, 4, 26, 5, 11, 24, 4, 18, 2, 1, 0, 0, 1, 0, 1, 0, 0, 0),
    70: (48, 79, 118, 41, 33, 17, 36, 9, 9, 2, 3, 2, 1, 3, 4, 8, 18, 7, 8, 20, 4, 13, 2, 1, 0, 0, 1, 0, 1, 0, 0, 0),
    80: (128, 127, 118, 35, 26, 8, 13, 3, 2, 1, 0, 0, 0, 2, 1, 8, 7, 8, 5, 11, 2, 6, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0),
    90: (262, 153, 80, 19, 13, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 1, 2, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0),
}
# fmt: on
# Mean tokens that a layer sees under each scheme, of 576 and 32 layers.
MEANS = {60: 245.0, 70: 187.9, 80: 130.6, 90: 72.8}


class FitPrune(InsideMethod):
    """A stage after every layer that deletes something. Published T is the percentage of FLOPs saved."""

    name = "fitprune"
    title = "FitPrune"
    source = "Ye et al. 2025, github.com/ywh187/FitPrune d28e418"
    needs = ("most_QV", "most_VV")
    published = tuple(DELETED)

    def stages(self, cell: Cell, geometry: Geometry) -> tuple[Stage, ...]:
        """The published scheme, or the one with the nearest mean, its deletions scaled until the mean is T."""
        if cell.budget == "published":
            check_published(self, cell)
            if geometry.visual != VISUAL or geometry.layers != 32:
                raise ConfigError("budget: fitprune's published schemes are for 576 visual tokens and 32 layers")
            return _staged(geometry.visual, [VISUAL - gone for gone in accumulate(DELETED[cell.tokens])])
        target = cell.tokens * VISUAL / geometry.visual
        scheme = DELETED[min(MEANS, key=lambda percent: abs(MEANS[percent] - target))]
        gone = list(accumulate(scheme))
        places = [max(1, math.floor(layer * 32 / geometry.layers + 0.5)) for layer in range(1, geometry.layers)]

        def build(scale: float) -> tuple[Stage, ...]:
            share = 1 / scale - 1  # scale 1 deletes nothing, 0.5 what was published
            lost = [math.floor(share * geometry.visual * gone[place - 1] / VISUAL + 0.5) for place in places]
            return _staged(geometry.visual, [max(1, geometry.visual - count) for count in lost]) or (
                Stage(1, geometry.visual),
            )

        return solved(cell, geometry, build, 1e-4, 1.0)

    def select(self, view: View, stage: Stage, cell: Cell) -> Choice:
        """The tokens with the largest product of attention from text and from the image."""
        return Choice(top(view.once("fitprune", lambda: score(view.most_QV, view.most_VV)), stage.keep))


def score(most_QV: Tensor, most_VV: Tensor) -> Tensor:
    """Attention from text times mean attention from visual rows, each the largest over heads: [n]."""
    return most_QV.float().sum(0) * (most_VV.float().sum(0) / most_VV.shape[0])


def _staged(visual: int, left: list[int]) -> tuple[Stage, ...]:
    """Stages where the count goes down; `left` after layers 1, 2 and so on."""
    stages, before = [], visual
    for layer, count in enumerate(left, 1):
        if count < before:
            stages.append(Stage(layer, count))
        before = count
    return tuple(stages)
